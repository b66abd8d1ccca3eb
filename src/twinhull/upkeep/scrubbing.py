"""The worker that scrubs: by its schedule, when it is asked to, and on from where it was after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from twinhull.config.settings import ScrubSettings
from twinhull.kit.clock import Clock
from twinhull.kit.errors import Conflict, Invalid
from twinhull.observe import families
from twinhull.observe.metrics import Metrics
from twinhull.replication.alarms import DATA_LOST, Alarm
from twinhull.upkeep.access import Access
from twinhull.upkeep.scrub_notes import Notes, Scrub, ScrubStatus
from twinhull.upkeep.scrubber import Scrubber

log = structlog.get_logger(__name__)

_LOOK_S: Final = 60.0
_NOTE_EVERY_S: Final = 5.0
PACE_MAX_MB_S: Final = 1_000_000.0


class Scrubbing:
    """The worker of that name; one scrub at a time."""

    name = "scrub"

    def __init__(
        self, scrubber: Scrubber, notes: Notes, *, access: Access, clock: Clock, settings: ScrubSettings, metrics: Metrics
    ) -> None:
        """Take what scrubs, where it is noted, and how often and how fast it goes by itself."""
        self._scrubber = scrubber
        self._notes = notes
        self._access = access
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._started_ms = clock.unix_ms()
        self._asked = asyncio.Event()
        self._latest: Scrub | None = None
        self._has_read = False
        self._steps: AsyncGenerator[float, None] | None = None
        self._is_stopping = False
        self._noted_s = 0.0
        self._counted_bytes = 0

    # -- worker ----------------------------------------------------------------------------------------------------

    async def wait_for_work(self) -> None:
        """Return when a scrub was asked for, is due, or was interrupted by a restart."""
        await self._read_notes()
        while self._latest is None or self._latest.status is not ScrubStatus.RUNNING:
            if self._is_due():
                await self._begin("schedule", self._settings.pace_mb_s)
                return
            self._asked.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._asked.wait()

    async def work(self) -> float | None:
        """Do the next step."""
        scrub = self._latest
        if scrub is None or scrub.status is not ScrubStatus.RUNNING:
            return None
        if self._steps is None:
            self._counted_bytes = scrub.bytes
            self._steps = self._scrubber.scrub(scrub)
        try:
            if self._is_stopping:
                await self._end(scrub, ScrubStatus.STOPPED)
                return None
            rest_s = await anext(self._steps)
        except StopAsyncIteration:
            await self._end(scrub, ScrubStatus.DONE)
            return None
        except BaseException:
            # It goes on after the last blob that was looked at.
            self._steps = None
            raise
        self._metrics.count(families.SCRUBBED_BYTES, amount=scrub.bytes - self._counted_bytes)
        self._counted_bytes = scrub.bytes
        if self._clock.monotonic_s() - self._noted_s >= _NOTE_EVERY_S:
            await self._note(scrub)
        return rest_s

    def status(self) -> Mapping[str, object]:
        """Return the latest scrub."""
        return {"scrub": described(self._latest) if self._latest is not None else None}

    @property
    def left(self) -> int:
        """How many blobs the latest scrub could not mend."""
        return self._latest.left if self._latest is not None else 0

    def alarms(self) -> list[Alarm]:
        """Return what was lost and could not be mended."""
        message = f"{self.left} blobs have rotted or are lost, and no peer had a copy; see `twinhull scrub --show`"
        return [Alarm(name=DATA_LOST, message=message)] if self.left else []

    # -- what may be asked -----------------------------------------------------------------------------------------

    def orders(self) -> dict[str, Callable[[Mapping[str, Any]], Awaitable[object]]]:
        """Return what may be asked, by name."""
        return {"scrub": self.order, "scrub/show": self.show, "scrub/stop": self.stop}

    async def order(self, asked: Mapping[str, Any]) -> object:
        """Begin a scrub at this pace, by default that of the settings; raises Conflict while one is under way, Invalid."""
        await self._read_notes()
        pace = asked.get("pace_mb_s")
        pace_mb_s = self._settings.pace_mb_s if pace is None else pace
        if isinstance(pace_mb_s, bool) or not isinstance(pace_mb_s, int | float) or not 0 <= pace_mb_s <= PACE_MAX_MB_S:
            raise Invalid("the pace must be a number of MB/s, 0 for no limit")
        if self._latest is not None and self._latest.status is ScrubStatus.RUNNING:
            raise Conflict("a scrub is under way", hint="`twinhull scrub --stop` ends it")
        scrub = await self._begin("manual", float(pace_mb_s))
        self._asked.set()
        return described(scrub)

    async def show(self, _asked: Mapping[str, Any]) -> object:
        """Return the latest scrub."""
        await self._read_notes()
        return self.status()

    async def stop(self, _asked: Mapping[str, Any]) -> object:
        """Ask the scrub that is under way to stop, and return its number, or null."""
        await self._read_notes()
        if self._latest is None or self._latest.status is not ScrubStatus.RUNNING:
            return {"number": None}
        self._is_stopping = True
        return {"number": self._latest.number}

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _read_notes(self) -> None:
        if not self._has_read:
            latest = await self._access.run(self._notes.read)
            if not self._has_read:
                self._has_read, self._latest = True, latest

    def _is_due(self) -> bool:
        last_ms = self._latest.started_ms if self._latest is not None else self._started_ms
        return bool(self._settings.interval_s) and self._clock.unix_ms() >= last_ms + self._settings.interval_s * 1000

    async def _begin(self, trigger: str, pace_mb_s: float) -> Scrub:
        scrub = self._latest = Scrub(
            number=self._latest.number + 1 if self._latest is not None else 1,
            trigger=trigger,
            pace_mb_s=pace_mb_s,
            status=ScrubStatus.RUNNING,
            started_ms=self._clock.unix_ms(),
        )
        self._is_stopping, self._steps = False, None
        await self._note(scrub)
        log.info("scrub began", trigger=trigger, pace_mb_s=pace_mb_s)
        return scrub

    async def _end(self, scrub: Scrub, status: ScrubStatus) -> None:
        if self._steps is not None:
            await self._steps.aclose()
        self._steps = None
        scrub.status, scrub.ended_ms = status, self._clock.unix_ms()
        await self._note(scrub)
        for one in scrub.found:
            self._metrics.count(families.FAULTS, f"blob {one.what}", "mended" if one.is_mended else "left")
        log.info("scrub ended", status=status, blobs=scrub.blobs, bytes=scrub.bytes, found=scrub.found_count, left=scrub.left)

    async def _note(self, scrub: Scrub) -> None:
        self._noted_s = self._clock.monotonic_s()
        await self._access.run(lambda: self._notes.write(scrub))


def described(scrub: Scrub) -> dict[str, Any]:
    """Return the scrub as the command line and the API show it."""
    document: dict[str, Any] = msgspec.to_builtins(scrub)
    return {**document, "left": scrub.left, "ended": scrub.status is not ScrubStatus.RUNNING}
