"""The work that goes on by itself in the agent, put together; and what the command line may ask of it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from twinhull.config.settings import Settings
from twinhull.observe.metrics import Metrics
from twinhull.peer.control import Order
from twinhull.replication.alarms import Alarm
from twinhull.replication.engine import Engine
from twinhull.replication.mending import Mending
from twinhull.upkeep.access import Access
from twinhull.upkeep.ballast import Ballast
from twinhull.upkeep.collecting import Collecting
from twinhull.upkeep.collector import Collector
from twinhull.upkeep.compacting import Compacting
from twinhull.upkeep.comparing import Comparing
from twinhull.upkeep.gc_orders import GcOrders
from twinhull.upkeep.runner import Runner
from twinhull.upkeep.scrub_notes import Notes
from twinhull.upkeep.scrubber import Scrubber
from twinhull.upkeep.scrubbing import Scrubbing
from twinhull.upkeep.witnesses import Members
from twinhull.upkeep.worker import Worker


class Upkeep:
    """All workers of a node's agent."""

    def __init__(
        self, settings: Settings, engine: Engine, mending: Mending, metrics: Metrics, also: Sequence[Worker] = ()
    ) -> None:
        """Take what can be set, what is to be kept in order, where to tell of it, and who else works beside."""
        jitter = random.Random()  # noqa: S311 - spreads work, hides nothing
        clock = engine.clock
        access = Access(engine.store, Ballast(settings.data_dir / "ballast"), engine.executor)
        collecting = _collecting(settings, engine, access, metrics)
        self._gc_orders = GcOrders(collecting, access)
        self._comparing = Comparing(
            mending, engine.neighbours, clock=clock, settings=settings.verify, metrics=metrics, jitter=jitter
        )
        self._scrubbing = _scrubbing(settings, engine, access, mending, metrics)
        compacting = Compacting(access, clock=clock, settings=settings.compaction)
        workers: list[Worker] = [collecting, self._comparing, self._scrubbing, compacting, *also]
        self.runner: Final = Runner(workers, clock=clock, jitter=jitter)

    def orders(self) -> Mapping[str, Order]:
        """Return what may be asked, by name."""
        return {"workers": self._workers, **self._gc_orders.by_name(), **self._scrubbing.orders()}

    def alarms(self) -> list[Alarm]:
        """Return what the workers have found wrong and could not mend."""
        return [*self._comparing.alarms(), *self._scrubbing.alarms()]

    async def _workers(self, _order: Mapping[str, Any]) -> object:
        return {"workers": self.runner.reports()}


def _collecting(settings: Settings, engine: Engine, access: Access, metrics: Metrics) -> Collecting:
    members = Members(engine.neighbours, engine.store, engine.executor)
    collector = Collector(access=access, blobs=engine.blobs, witnesses=members, clock=engine.clock)
    return Collecting(collector, access=access, blobs=engine.blobs, clock=engine.clock, settings=settings.gc, metrics=metrics)


def _scrubbing(settings: Settings, engine: Engine, access: Access, mending: Mending, metrics: Metrics) -> Scrubbing:
    scrubber = Scrubber(access=access, blobs=engine.blobs, copies=engine.transfers.backlog, looks=mending, clock=engine.clock)
    notes = Notes(settings.data_dir / "scrub.json")
    return Scrubbing(scrubber, notes, access=access, clock=engine.clock, settings=settings.scrub, metrics=metrics)
