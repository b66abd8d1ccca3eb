"""The node's metadata for workers on the event loop: in threads, and with a way to write when the disk is full."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from twinhull.kit.errors import StorageFull
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.replication.threads import in_thread
from twinhull.upkeep.ballast import Ballast

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Access:
    """Reads and writes for what makes room: its own writes must not fail for want of it."""

    def __init__(self, store: Store, ballast: Ballast, executor: Executor) -> None:
        """Take where to read and write, and what is let go of on a full disk."""
        self.store = store
        self._ballast = ballast
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
        """Do it in a writing transaction; on a full disk once more, in the space that the ballast has kept."""

        def write() -> T:
            with self.store.write() as transaction:
                return action(transaction)

        try:
            return await self.run(write)
        except StorageFull:
            if not await self.run(self._ballast.drop):
                raise
            log.warning("disk is full, ballast dropped to make room")
            return await self.run(write)

    async def keep_ballast(self) -> None:
        """Keep space back again, if there is any."""
        try:
            await self.run(self._ballast.take)
        except StorageFull:
            log.warning("no space to keep back for collections on a full disk")
