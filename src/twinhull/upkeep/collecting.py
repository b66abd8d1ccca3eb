"""The worker that collects garbage: by its schedule, and when somebody has ordered it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec
import structlog
from msgspec import structs

from twinhull.blobs.store import BlobStore
from twinhull.catalog.collections import order_of
from twinhull.catalog.schedules import GC, find_schedule
from twinhull.config.settings import GcSettings
from twinhull.jobs import garbage_collections as collections
from twinhull.jobs.garbage_collections import Collection, Order, Outcome, Status
from twinhull.kit.clock import Clock
from twinhull.kit.errors import Conflict, PeerUnavailable, TwinhullError
from twinhull.metadata import garbage
from twinhull.observe import families
from twinhull.observe.metrics import Metrics
from twinhull.upkeep.access import Access
from twinhull.upkeep.collector import Collector

log = structlog.get_logger(__name__)

# Another process of this node, or another node, may have asked for something: it is looked for so often.
_LOOK_S: Final = 1.0
# The grace of what lost its last name begins this soon, and the figures are this fresh.
_NOTE_EVERY_S: Final = 60.0
# How old the figures of what is stored may be: it takes a second to add up a hundred thousand images.
_MEASURE_EVERY_S: Final = 600.0
_LATEST: Final = 200
_BY_SCHEDULE: Final = "schedule"


class _Running(NamedTuple):
    collection: Collection
    outcome: Outcome
    steps: AsyncGenerator[None, None]


class Collecting:
    """The worker of that name; one collection at a time."""

    name = "gc"

    def __init__(
        self,
        collector: Collector,
        *,
        access: Access,
        blobs: BlobStore,
        clock: Clock,
        settings: GcSettings,
        metrics: Metrics,
    ) -> None:
        """Take what collects, where orders are found, and by which rules those of the schedule are made."""
        self._collector = collector
        self._access = access
        self._blobs = blobs
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._asked = asyncio.Event()
        self._running: _Running | None = None
        self._started_ms = clock.unix_ms()
        self._noted_s = -_NOTE_EVERY_S
        self._measured_s = -_MEASURE_EVERY_S
        self._is_recovered = False

    # -- worker ----------------------------------------------------------------------------------------------------

    async def wait_for_work(self) -> None:
        """Return when a collection is ordered or due."""
        if not self._is_recovered:
            await self._access.write(collections.fail_unfinished)
            await self._access.keep_ballast()
            self._is_recovered = True
        node = self._access.store.node
        while not await self._access.read(lambda connection: collections.has_order(connection, node)):
            await self._note_now_and_then()
            self._asked.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._asked.wait()

    async def work(self) -> float | None:
        """Do the next step of a collection; what goes wrong ends it, and stands in its record."""
        running = self._running or await self._begin()
        if running is None:
            return None
        number, node = running.collection.id, self._access.store.node
        try:
            if await self._access.read(lambda connection: collections.is_stopping(connection, node, number)):
                await running.steps.aclose()
                await self._end(running, Status.STOPPED)
                return None
            await anext(running.steps)
        except StopAsyncIteration:
            await self._end(running, Status.DONE)
            return None
        except (PeerUnavailable, Conflict) as error:
            # Nothing is wrong with the collection: what it could not be sure of stays until the next one.
            running.outcome.note = str(error)
            await self._end(running, Status.DONE)
            return None
        except TwinhullError as error:
            await self._end(running, Status.FAILED, str(error))
            raise
        return 0.0

    def status(self) -> Mapping[str, object]:
        """Return how far the collection that is under way has come."""
        if self._running is None:
            return {"collection": None}
        return {"collection": self._running.collection.id, **msgspec.to_builtins(self._running.outcome)}

    def ask(self) -> None:
        """Look for orders at once."""
        self._asked.set()

    def progress(self, number: int) -> Outcome | None:
        """Return what a collection that is under way has done so far."""
        running = self._running
        return running.outcome if running is not None and running.collection.id == number else None

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _begin(self) -> _Running | None:
        begun = await self._access.write(collections.begin_collection)
        if begun is None:
            return None
        log.info("collection of garbage began", collection=begun.id, trigger=begun.order.trigger, dry_run=begun.order.dry_run)
        outcome = Outcome()
        grace_s = self._settings.grace_s if begun.order.grace_s is None else begun.order.grace_s
        self._running = _Running(begun, outcome, self._collector.collect(begun.order, outcome, grace_s=grace_s))
        return self._running

    async def _end(self, running: _Running, status: Status, error: str = "") -> None:
        self._running = None
        number, outcome = running.collection.id, running.outcome
        await self._access.keep_ballast()
        await self._access.write(
            lambda transaction: collections.end_collection(transaction, number, status, outcome, error=error)
        )
        if not running.collection.order.dry_run:
            self._metrics.count(families.GC_BLOBS, amount=outcome.blobs)
            self._metrics.count(families.GC_BYTES, amount=outcome.freed_bytes)
        self._metrics.count(families.GC_RUNS, status)
        log.info("collection of garbage ended", collection=number, status=status, **msgspec.to_builtins(outcome))
        self._noted_s = -_NOTE_EVERY_S

    async def _note_now_and_then(self) -> None:
        """Let the grace of what is new begin, order what is due, and tell the figures."""
        now_s = self._clock.monotonic_s()
        if now_s - self._noted_s < _NOTE_EVERY_S:
            return
        self._noted_s = now_s
        now_ms = self._clock.unix_ms()
        if await self._access.read(garbage.has_new_candidates):
            await self._access.write(lambda transaction: garbage.begin_grace(transaction.connection, now_ms))
        node = self._access.store.node
        latest = await self._access.read(lambda connection: collections.latest_collections(connection, node, _LATEST))
        order = await self._due(latest, now_ms)
        if order is not None:
            await self._access.write(lambda transaction: collections.order_collection(transaction, order))
        self._metrics.set(families.GC_CANDIDATES, to=await self._access.read(garbage.count_candidates))
        self._metrics.set(families.STORAGE_FREE_BYTES, to=await self._access.run(self._blobs.free_bytes))
        if now_s - self._measured_s >= _MEASURE_EVERY_S:
            self._measured_s = now_s
            count, size = await self._access.read(garbage.stored_blobs)
            self._metrics.set(families.STORAGE_BLOBS, to=count)
            self._metrics.set(families.STORAGE_BYTES, to=size)

    async def _due(self, latest: list[Collection], now_ms: int) -> Order | None:
        """Return what is due by the cluster's schedule, or where there is none by this node's settings."""
        schedule = await self._access.read(lambda connection: find_schedule(connection, GC))
        if schedule is not None:
            last_ms = next((one.asked_ms for one in latest if one.order.trigger == _BY_SCHEDULE), 0)
            due_ms = schedule.due_ms(last_ms)
            if due_ms is None or due_ms > now_ms:
                return None
            order = order_of(schedule.parameters, trigger=_BY_SCHEDULE)
            return structs.replace(order, walk=self._walk_is_due(latest))
        if self._settings.interval_s and now_ms >= self._due_ms(latest, self._settings.interval_s, lambda _: True):
            return self._order(latest)
        return None

    def _order(self, latest: list[Collection]) -> Order:
        return Order(delete_untagged=self._settings.delete_untagged, walk=self._walk_is_due(latest), trigger=_BY_SCHEDULE)

    def _walk_is_due(self, latest: list[Collection]) -> bool:
        walk_ms = self._due_ms(latest, self._settings.walk_interval_s, lambda one: one.order.walk and not one.order.dry_run)
        return self._settings.walk_interval_s > 0 and self._clock.unix_ms() >= walk_ms

    def _due_ms(self, latest: list[Collection], interval_s: float, counts: Callable[[Collection], bool]) -> float:
        last_ms = next((one.asked_ms for one in latest if counts(one)), self._started_ms)
        return last_ms + interval_s * 1000
