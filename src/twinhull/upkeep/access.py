"""The node's metadata for workers on the event loop: in threads, and with a way to write when the disk is full."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

import structlog

from twinhull.jobs.access import ThreadedStore
from twinhull.kit.errors import StorageFull
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.upkeep.ballast import Ballast

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Access(ThreadedStore):
    """Reads and writes for what makes room: its own writes must not fail for want of it."""

    def __init__(self, store: Store, ballast: Ballast, executor: Executor) -> None:
        """Take where to read and write, and what is let go of on a full disk."""
        super().__init__(store, executor)
        self._ballast = ballast

    async def write(self, action: Callable[[Transaction], T]) -> T:
        """Do it in a writing transaction; on a full disk once more, in the space that the ballast has kept."""
        try:
            return await super().write(action)
        except StorageFull:
            if not await self.run(self._ballast.drop):
                raise
            log.warning("disk is full, ballast dropped to make room")
            return await super().write(action)

    async def keep_ballast(self) -> None:
        """Keep space back again, if there is any."""
        try:
            await self.run(self._ballast.take)
        except StorageFull:
            log.warning("no space to keep back for collections on a full disk")
