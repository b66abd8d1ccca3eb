"""What the agent tells Prometheus: how far each peer is behind, what was applied, and what blobs moved."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

import structlog

from twinhull.kit.errors import TwinhullError
from twinhull.metadata.store import Store
from twinhull.observe import families
from twinhull.observe.families import Family
from twinhull.observe.metrics import Metrics
from twinhull.replication.alarms import ALARMS
from twinhull.replication.engine import Engine
from twinhull.replication.overview import Overview
from twinhull.replication.threads import in_thread

log = structlog.get_logger(__name__)

_GAUGES: Final = (
    families.PEER_UP,
    families.PEER_PAUSED,
    families.PEER_SUSPECT,
    families.PEER_LAG_CHANGES,
    families.PEER_LAG_BYTES,
    families.PEER_LAG_SECONDS,
)


class Figures:
    """Brings the engine's own counts into the node's figures."""

    def __init__(self, engine: Engine, store: Store, executor: Executor, metrics: Metrics, overview: Overview) -> None:
        """Take what counts, and where to."""
        self._engine = engine
        self._store = store
        self._executor = executor
        self._metrics = metrics
        self._overview = overview
        self._told: dict[tuple[str, ...], float] = {}
        self._peers: set[str] = set()

    async def run(self, interval_s: float) -> None:
        """Bring the figures up to date, again and again, until cancelled."""
        while True:
            try:
                await self.update()
            except TwinhullError as error:
                log.warning("figures not brought up to date", error=str(error))
            await asyncio.sleep(interval_s)

    async def update(self) -> None:
        """Bring the figures up to date."""
        self._overview.sample()
        found = [alarm["name"] for alarm in (await self._overview.document())["alarms"]]
        for name in ALARMS:
            self._metrics.set(families.ALARMS, name, to=found.count(name))
        position = self._store.position_hint()
        if position is None:
            position = await in_thread(self._executor, self._store.position)
        self._metrics.set(families.LOG_POSITION, to=position)
        names = {}
        for neighbour in self._engine.neighbours.all():
            name = names[neighbour.node.id] = neighbour.node.name
            changes, lacking_bytes, age_s = self._engine.acknowledgements.lag(neighbour.node.id)
            self._metrics.set(families.PEER_UP, name, to=float(neighbour.puller.connected))
            suspect = self._overview.state_of(neighbour.node, neighbour.puller) == "suspect"
            self._metrics.set(families.PEER_SUSPECT, name, to=float(suspect))
            self._metrics.set(families.PEER_PAUSED, name, to=float(self._engine.neighbours.is_paused(neighbour.node.id)))
            self._metrics.set(families.PEER_LAG_CHANGES, name, to=changes)
            self._metrics.set(families.PEER_LAG_BYTES, name, to=lacking_bytes)
            self._metrics.set(families.PEER_LAG_SECONDS, name, to=round(age_s, 1))
            self._count(families.CHANGES_APPLIED, name, total=neighbour.puller.taking.changes_applied)
        for gone in self._peers - set(names.values()):
            for family in _GAUGES:
                self._metrics.forget(family, gone)
        self._peers = set(names.values())
        for node, received in self._engine.transfers.received_bytes.items():
            self._count(families.TRANSFER_BYTES, names.get(node, node), "in", total=received)
        for node, sent in self._engine.sent_bytes.items():
            self._count(families.TRANSFER_BYTES, names.get(node, node), "out", total=sent)
        for (node, outcome), ended in self._engine.transfers.ended.items():
            self._count(families.TRANSFERS, names.get(node, node), "in", outcome, total=ended)

    def _count(self, family: Family, *labels: str, total: float) -> None:
        """Add what has come to a total since it was last looked at; a total that fell was begun anew."""
        key = (family.name, *labels)
        before = self._told.get(key, 0)
        self._told[key] = total
        if total != before:
            self._metrics.count(family, *labels, amount=total - before if total > before else total)
