"""What this node does in the background by records: the jobs there are, and the workers that carry them out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from twinhull.auth.sealing import Sealer
from twinhull.catalog.purges import scheduled_purges
from twinhull.catalog.replication import scheduled_replications
from twinhull.config.settings import Settings
from twinhull.hooks.delivery import Courier, Delivering
from twinhull.hooks.inheriting import Inheriting
from twinhull.hooks.reading import Deeds
from twinhull.jobs.access import Access
from twinhull.jobs.job import Job
from twinhull.jobs.keeping import Keeping
from twinhull.jobs.runner import JobRunner
from twinhull.jobs.scheduler import Scheduler, Schedules
from twinhull.mirror.events import reader_of_events
from twinhull.mirror.local import LocalRegistry
from twinhull.mirror.replication import Replication
from twinhull.node.parts import entrance_of
from twinhull.observe.metrics import Metrics
from twinhull.replication.engine import Engine
from twinhull.replication.trust import Trust
from twinhull.upkeep.purging import Purging
from twinhull.upkeep.worker import Worker


class Jobs:
    """All of it, for one agent."""

    def __init__(self, settings: Settings, engine: Engine, trust: Trust, own: LocalRegistry, metrics: Metrics) -> None:
        """Take what can be set, what knows the other nodes, this one's own registry, and where to tell of what is done."""
        self._engine = engine
        self._trust = trust
        jitter = random.Random()  # noqa: S311 - spreads tries, hides nothing
        access = Access(engine.store, engine.executor, engine.listen_to_log)
        sealer = Sealer(trust.cluster_keys)
        jobs: Sequence[Job] = [
            Delivering(Courier(), access, sealer, concurrency=settings.jobs.workers_max),
            Purging(access),
            Replication(own, access, sealer, entrance_of(settings)),
        ]
        schedules: Sequence[Schedules] = [scheduled_replications, scheduled_purges]
        deeds = Deeds(node=engine.store.node, entrance=entrance_of(settings))
        self._runner = JobRunner(
            jobs, access, jitter=jitter, metrics=metrics, is_member=lambda: not engine.neighbours.is_removed
        )
        self.workers: Final[Sequence[Worker]] = [
            self._runner,
            deeds.reader(access),
            Scheduler(schedules, access, is_first=self._is_first),
            Keeping(jobs, access, is_heir=self._is_heir),
            Inheriting(deeds, access, is_heir=self._is_heir),
            reader_of_events(access),
        ]

    async def close(self) -> None:
        """Leave what is under way."""
        await self._runner.close()

    def _is_first(self) -> bool:
        """Tell whether of the members that can be reached from here this one has the smallest id."""
        neighbours = self._engine.neighbours
        return self._is_settled() and all(
            self._engine.store.node < one.node.id for one in neighbours.active() if one.puller.reachable
        )

    def _is_heir(self) -> bool:
        """Tell whether of all members this one has the smallest id."""
        return self._is_settled() and all(self._engine.store.node < one.node.id for one in self._engine.neighbours.all())

    def _is_settled(self) -> bool:
        return self._trust.is_ready() and not self._engine.neighbours.is_removed
