"""This node's own registry inside the agent: what brings content in there, or takes it out, goes through the catalog too."""

from __future__ import annotations

import secrets
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from twinhull.auth.acting import ActingThreads
from twinhull.auth.sealing import Sealer
from twinhull.auth.subjects import ProjectFacts, read_facts
from twinhull.blobs.ingest import Intake
from twinhull.catalog.artifacts import Artifacts
from twinhull.catalog.contents import Contents
from twinhull.catalog.deleting import Deleting
from twinhull.catalog.projects import DURABILITY_KEY, ON_PEER_LOSS_KEY, Projects
from twinhull.catalog.pushing import Pushing
from twinhull.catalog.uploads import Uploads
from twinhull.config.durability import LEVEL_ITEM, LOSS_ITEM, NO_WISH, Wish
from twinhull.config.settings import Settings
from twinhull.metadata import accounts, members
from twinhull.metadata.freshness import Freshness
from twinhull.metadata.store import Store
from twinhull.mirror.local import LocalRegistry
from twinhull.mirror.proxied import RemoteUpstreams
from twinhull.mirror.upstreams import Upstreams
from twinhull.replication.calls import WorkerCalls
from twinhull.replication.engine import Engine
from twinhull.replication.link import Call, Notice, Result
from twinhull.replication.page import SyncPage
from twinhull.replication.remote import RemotePeers
from twinhull.replication.threads import in_thread

_THREADS: Final = 8
_UPLOAD_ID_BYTES: Final = 16


class _OwnAgent:
    """The way to the agent, for what is in it itself."""

    def __init__(self, calls: WorkerCalls) -> None:
        self._calls = calls

    async def call(self, call: Call) -> Result:
        """Return the answer; raises what it fails with."""
        return await self._calls.on_call(call)

    def notify(self, notice: Notice) -> None:
        """Pass a notice on."""
        self._calls.on_notice(notice)


def own_registry(
    stack: AsyncExitStack, settings: Settings, engine: Engine, calls: WorkerCalls, sealer: Sealer
) -> LocalRegistry:
    """Return it; its threads end with the stack."""
    executor = stack.enter_context(ActingThreads(_THREADS, thread_name_prefix="mirror"))
    store, blobs = engine.store, engine.blobs

    def wish(project: str) -> Wish:
        with store.read() as connection:
            found = accounts.find_project(connection, project) if project else None
            own = Wish(*(found.metadata.get(key, "") for key in (DURABILITY_KEY, ON_PEER_LOSS_KEY))) if found else NO_WISH
            return own.or_else(Wish(*(str(accounts.find_setting(connection, item) or "") for item in (LEVEL_ITEM, LOSS_ITEM))))

    async def wish_of(project: str) -> Wish:
        return await in_thread(executor, wish, project)

    peers = RemotePeers(
        _OwnAgent(calls),
        SyncPage(settings.run_dir / "in-sync"),
        blobs=blobs,
        executor=executor,
        clock=engine.clock,
        durability=Wish(settings.durability.level.value, settings.durability.on_peer_loss.value),
        blobs_of=partial(_blobs_of, store),
        wish_of=wish_of,
    )
    freshness = Freshness(store, executor)
    upstreams = _upstreams(stack, engine, calls, sealer, executor)
    contents = Contents(
        store=store,
        blobs=blobs,
        freshness=freshness,
        executor=executor,
        peers=peers,
        upstreams=upstreams,
        renew_after_s=settings.gc.grace_s / 2,
    )
    return LocalRegistry(
        store=store,
        executor=executor,
        artifacts=Artifacts(store=store, freshness=freshness, executor=executor, peers=peers, upstreams=upstreams),
        contents=contents,
        pushing=Pushing(store=store, blobs=blobs, executor=executor, peers=peers),
        deleting=Deleting(store=store, executor=executor, peers=peers),
        uploads=Uploads(
            blobs=blobs,
            contents=contents,
            intake=Intake(executor),
            executor=executor,
            node=store.node,
            new_id=lambda: secrets.token_hex(_UPLOAD_ID_BYTES),
            watch=peers,
            blob_bytes_max=settings.limits.upload_size_bytes or None,
        ),
        projects=Projects(store=store, executor=executor),
        durability=peers,
    )


def _blobs_of(store: Store, repository: str, digest: str) -> list[tuple[str, int]]:
    with store.read() as connection:
        return members.all_blobs_of(connection, repository, digest)


def _upstreams(
    stack: AsyncExitStack, engine: Engine, calls: WorkerCalls, sealer: Sealer, executor: Executor
) -> RemoteUpstreams:
    """Return what brings what is not here of projects that stand for other registries: indexes are copied whole."""
    clients = Upstreams(engine.store, executor, sealer)
    stack.push_async_callback(clients.close)

    def facts(project: str) -> ProjectFacts:
        with engine.store.read() as connection:
            return read_facts(connection, project)

    async def facts_of(project: str) -> ProjectFacts:
        return await in_thread(executor, facts, project)

    return RemoteUpstreams(_OwnAgent(calls), clients, blobs=engine.blobs, executor=executor, facts_of=facts_of)
