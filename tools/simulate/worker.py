"""A simulated node's HTTP worker without HTTP: the use cases that its handlers call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

from tools.simulate.loop import Process, nowhere
from tools.simulate.peers import SimulatedLink
from twinhull.auth.passwords import PasswordChecker
from twinhull.auth.service import Guard
from twinhull.blobs.store import BlobStore
from twinhull.catalog.accounts import Users
from twinhull.catalog.artifacts import Artifacts
from twinhull.catalog.contents import Contents
from twinhull.catalog.deleting import Deleting
from twinhull.catalog.projects import Projects
from twinhull.catalog.pushing import Pushing
from twinhull.catalog.robots import Robots
from twinhull.config.durability import Wish
from twinhull.kit.clock import Clock
from twinhull.metadata.freshness import Freshness
from twinhull.metadata.store import Store
from twinhull.replication.page import SyncPage
from twinhull.replication.remote import RemotePeers

T = TypeVar("T")

_CLIENT_LIMIT_S: Final = 30.0
_CLIENT_LINE_S: Final = 0.003
# Less than what compactions leave of the log here.
_CHANGES_SEEN_ONE_BY_ONE_MAX: Final = 20


class PlainPasswords(PasswordChecker):
    """Keeps passwords as they are: nobody logs in here, and a slow hash would be all that is measured."""

    def __init__(self) -> None:
        """Take nothing."""

    async def hash(self, password: str) -> str:
        """Return the password."""
        return f"plain {password}"


class Worker:
    """One process that takes requests."""

    def __init__(
        self,
        process: Process,
        *,
        store: Store,
        blobs: BlobStore,
        link: SimulatedLink,
        page: SyncPage,
        executor: Executor,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        """Put it together as node/worker.py does."""
        self.process = process
        self.store = store
        self.executor = executor
        self.blobs = blobs
        freshness = Freshness(store, executor, changes_max=_CHANGES_SEEN_ONE_BY_ONE_MAX)
        self.peers = RemotePeers(
            link,
            page,
            blobs=blobs,
            executor=executor,
            clock=clock,
            durability=Wish("metadata", "degrade"),
            blobs_of=lambda _repository, _digest: [],
        )
        passwords = PlainPasswords()
        self.guard = Guard(store=store, executor=executor, log=freshness, clock=clock, passwords=passwords, peers=self.peers)
        self.artifacts = Artifacts(store=store, freshness=freshness, executor=executor, peers=self.peers)
        self.contents = Contents(store=store, blobs=blobs, freshness=freshness, executor=executor, peers=self.peers)
        self.pushing = Pushing(store=store, blobs=blobs, executor=executor, peers=self.peers)
        self.deleting = Deleting(store=store, executor=executor, peers=self.peers)
        self.users = Users(store=store, executor=executor, passwords=passwords)
        self.projects = Projects(store=store, executor=executor)
        self.robots = Robots(store=store, executor=executor, passwords=passwords, random_bytes=chance.randbytes)

    async def request(self, action: Callable[[Worker], Awaitable[T]]) -> T:
        """Return what the action does inside this process; raises ConnectionError when the process dies meanwhile."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def back(result: T | None, error: Exception | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]

        async def run() -> None:
            try:
                result = await action(self)
            except Exception as error:  # noqa: BLE001 - the client is told of it
                loop.call_later(_CLIENT_LINE_S, back, None, error, context=nowhere())
            else:
                loop.call_later(_CLIENT_LINE_S, back, result, None, context=nowhere())

        def gone() -> None:
            loop.call_later(_CLIENT_LINE_S, back, None, ConnectionResetError("the node has died"), context=nowhere())

        await asyncio.sleep(_CLIENT_LINE_S)
        if not self.process.alive:
            raise ConnectionRefusedError("the node does not run")
        self.process.on_death(gone)
        self.process.spawn(run()).add_done_callback(lambda _: self.process.forget(gone))
        async with asyncio.timeout(_CLIENT_LIMIT_S):
            return await answer
