"""The worker that forgets what every member has seen: deletions that can't be undone any more, and old changes of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from twinhull.config.settings import CompactionSettings
from twinhull.kit.clock import Clock
from twinhull.metadata import compaction
from twinhull.metadata.conflicts import forget_conflicts, settled_about_nothing
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import VersionVector
from twinhull.records.kinds import SETTLED
from twinhull.upkeep.access import Access

log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0
# Writers wait no longer than for so many records.
_PAGE: Final = 500
_BETWEEN_PAGES_S: Final = 0.02


class Compacting:
    """The worker of that name. A run says what this node has, then drops what all had said before."""

    name = "compaction"

    def __init__(self, access: Access, *, clock: Clock, settings: CompactionSettings) -> None:
        """Take where records are, and how often and from what age on they go."""
        self._access = access
        self._clock = clock
        self._settings = settings
        self._due_s = clock.monotonic_s() + settings.interval_s
        self._told_position = 0
        self._upto: VersionVector | None = None
        self._after: tuple[str, str] | None = ("", "")
        self._before_ms = 0
        self.records = 0
        self.changes = 0
        # As they were when the run began.
        self._before = (0, 0)

    async def wait_for_work(self) -> None:
        """Return when the next run is due."""
        while True:
            if self._settings.interval_s and self._clock.monotonic_s() >= self._due_s:
                return
            await asyncio.sleep(_LOOK_S)

    async def work(self) -> float | None:
        """Begin a run, or drop the next page."""
        if self._upto is None:
            return await self._begin()
        if self._after is not None:
            await self._drop_page(self._upto, self._after)
            return _BETWEEN_PAGES_S
        upto, keep = self._upto, self._settings.keep_changes
        trimmed = await self._access.write(lambda inside: compaction.trim_log(inside, upto, keep=keep, limit=_PAGE))
        self.changes += trimmed
        if trimmed or await self._access.write(self._forget_conflicts):
            return _BETWEEN_PAGES_S
        records, changes = self.records - self._before[0], self.changes - self._before[1]
        if records or changes:
            log.info("compaction ended", records_dropped=records, changes_dropped=changes)
        self._upto = None
        self._due_s = self._clock.monotonic_s() + self._settings.interval_s
        return None

    def status(self) -> Mapping[str, object]:
        """Return what was dropped since this node's agent started."""
        return {"records_dropped": self.records, "changes_dropped": self.changes, "is_running": self._upto is not None}

    async def run_once(self) -> None:
        """Do a whole run at once."""
        while await self.work() is not None:
            pass

    async def _begin(self) -> float:
        node = self._access.store.node
        position = self._told_position
        upto = await self._access.read(lambda connection: compaction.stable(connection, node))
        if await self._access.read(lambda connection: compaction.has_news(connection, position)):
            await self._access.write(compaction.tell)
            self._told_position = await self._access.run(self._access.store.position)
        if upto:
            await self._access.write(lambda inside: compaction.say_dropped(inside, upto))
        self._before_ms = self._clock.unix_ms() - int(self._settings.keep_deletions_s * 1000)
        self._before = (self.records, self.changes)
        self._upto, self._after = upto, ("", "") if upto else None
        return 0.0

    def _forget_conflicts(self, inside: Transaction) -> int:
        count = forget_conflicts(inside.connection, before_ms=self._before_ms, limit=_PAGE)
        # Nodes note a conflict when they see it, so others may know it for longer.
        long_before_ms = self._before_ms - int(self._settings.keep_deletions_s * 1000)
        for key in settled_about_nothing(inside.connection, before_ms=long_before_ms, limit=_PAGE):
            count += inside.delete(SETTLED, key)
        return count

    async def _drop_page(self, upto: VersionVector, after: tuple[str, str]) -> None:
        def drop(inside: Transaction) -> compaction.Dropped:
            return compaction.drop_dead(inside, upto, before_ms=self._before_ms, after=after, limit=_PAGE)

        dropped = await self._access.write(drop)
        self.records += dropped.records
        self._after = dropped.after
