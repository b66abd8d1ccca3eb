"""The node's records for background work on the event loop: read and written in threads, and heard of when they change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Final, TypeVar

from sqlalchemy import Connection

from twinhull.kit.clock import Clock
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.replication.threads import in_thread

T = TypeVar("T")

# Told of each move of the log, on the event loop.
Listen = Callable[[Callable[[], None]], None]
# What changes within this time after the log has moved is looked at together.
_GATHER_S: Final = 0.02
# However fast the log moves, it is looked at no more often: whoever writes needs the machine as well.
_BETWEEN_S: Final = 0.4


class ThreadedStore:
    """Reads and writes of one node's agent, in threads."""

    def __init__(self, store: Store, executor: Executor) -> None:
        """Take where to read and write, and threads."""
        self.store = store
        self._executor = executor

    async def run(self, action: Callable[[], T]) -> T:
        """Return what the action does, in a thread."""
        return await in_thread(self._executor, action)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Return what the query finds."""

        def read() -> T:
            with self.store.read() as connection:
                return query(connection)

        return await self.run(read)

    async def write(self, action: Callable[[Transaction], T]) -> T:
        """Do it in a writing transaction, and return what it returns."""

        def write() -> T:
            with self.store.write() as transaction:
                return action(transaction)

        return await self.run(write)


class Access(ThreadedStore):
    """The same, with what tells that the log has moved."""

    def __init__(self, store: Store, executor: Executor, listen: Listen) -> None:
        """Take where to read and write, threads, and what calls back when the log has moved."""
        super().__init__(store, executor)
        self._listen = listen
        self._bells: list[Bell] = []

    @property
    def node(self) -> str:
        """This node's id."""
        return self.store.node

    @property
    def clock(self) -> Clock:
        """The clock by which this node stamps its writes."""
        return self.store.clock

    def bell(self) -> Bell:
        """Return what wakes its one user when the log moves."""
        bell = Bell(self._listen, self.store.clock)
        self._bells.append(bell)
        return bell

    def ring(self) -> None:
        """Wake all who wait for the log, at once: something was begun that somebody waits for."""
        for bell in self._bells:
            bell.ring()


class Bell:
    """Wakes who waits for it: the log has moved, or somebody has rung."""

    def __init__(self, listen: Listen, clock: Clock) -> None:
        """Begin to listen."""
        self._clock = clock
        self._looked_s = -_BETWEEN_S
        self._has_moved = asyncio.Event()
        # The first look is due at once.
        self._has_moved.set()
        self._rung = asyncio.Event()
        listen(self._has_moved.set)

    def ring(self) -> None:
        """Wake who waits, at once."""
        self._rung.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when the log has moved since the last call, a little later; when somebody rings; or when that time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._wait()
        self._rung.clear()

    async def _wait(self) -> None:
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._rung, self._has_moved)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not self._rung.is_set():
                rest_s = self._looked_s + _BETWEEN_S - self._clock.monotonic_s()
                await asyncio.wait(waiting[:1], timeout=max(_GATHER_S, rest_s))
            # Whatever comes from now on is for the next call.
            self._has_moved.clear()
            self._looked_s = self._clock.monotonic_s()
        finally:
            for one in waiting:
                one.cancel()
