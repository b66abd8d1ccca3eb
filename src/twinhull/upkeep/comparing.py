"""The worker that compares this node with its peers and looks through its own data, by a schedule, and mends what it finds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

import structlog

from twinhull.config.settings import VerifySettings
from twinhull.kit.clock import Clock
from twinhull.kit.errors import TwinhullError
from twinhull.observe import families
from twinhull.observe.metrics import Metrics
from twinhull.replication.alarms import DATA_LOST, NODES_DIFFER, Alarm
from twinhull.replication.comparing import Comparison
from twinhull.replication.neighbours import Neighbour
from twinhull.replication.protocol import Fault
from twinhull.replication.self_check import OWN_PARTS

log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0
_LOOK_CLOSER: Final = "see `twinhull cluster verify --repair`"
# A peer that was away is compared with this soon: its log has most of what is missing, and should come first.
_RETURN_S: Final = 30.0
# A look for a moment at which nothing is on its way takes no longer than this many tries; there is a next time.
_TRIES: Final = 5
# Whoever lacks more changes than this is catching up: what differs is no loss.
_NEAR_CHANGES: Final = 200
# The first look through this node's own data comes after this share of the interval, and not while the node starts.
_FIRST_SHARE: Final = 0.1


class Mends(Protocol):
    """What compares and mends; see replication/mending.py."""

    async def compare(self, neighbour: Neighbour, *, repair: bool = False, tries: int = _TRIES) -> Comparison:
        """Compare with a peer, and mend what differs if asked to."""
        ...

    async def check_all(self, parts: Sequence[str], *, repair: bool) -> list[Fault]:
        """Look through this node's own data."""
        ...


class Peers(Protocol):
    """Who there is to compare with."""

    def all(self) -> list[Neighbour]:
        """Return the other members."""
        ...

    def active(self) -> list[Neighbour]:
        """Return the members with whom something is exchanged."""
        ...


class Comparing:
    """The worker of that name; one comparison at a time."""

    name = "verify"

    def __init__(
        self,
        mending: Mends,
        peers: Peers,
        *,
        clock: Clock,
        settings: VerifySettings,
        metrics: Metrics,
        jitter: random.Random,
    ) -> None:
        """Take what compares, with whom, and how often; `jitter` keeps the nodes from doing it all at the same moment."""
        self._mending = mending
        self._peers = peers
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._jitter = jitter
        # By peer, when it is compared with next; only those that are connected.
        self._due_s: dict[str, float] = {}
        self._own_due_s = self._after(settings.own_interval_s * _FIRST_SHARE) if settings.own_interval_s else float("inf")
        self._compared: dict[str, str] = {}
        self.faults_left = 0

    async def wait_for_work(self) -> None:
        """Return when a comparison, or a look through this node's own data, is due."""
        while True:
            if self._next_peer() is not None or self._clock.monotonic_s() >= self._own_due_s:
                return
            await asyncio.sleep(_LOOK_S)

    async def work(self) -> float | None:
        """Do what is due: one peer, or this node's own data."""
        neighbour = self._next_peer()
        if neighbour is not None:
            self._due_s[neighbour.node.id] = self._after(self._settings.interval_s)
            await self._compare(neighbour)
        elif self._clock.monotonic_s() >= self._own_due_s:
            self._own_due_s = self._after(self._settings.own_interval_s)
            faults = await self._mending.check_all(OWN_PARTS, repair=True)
            self.faults_left = sum(not fault.is_mended for fault in faults)
            for fault in faults:
                self._metrics.count(families.FAULTS, fault.what, "mended" if fault.is_mended else "left")
        return None

    def status(self) -> Mapping[str, object]:
        """Return how the last comparisons ended, and how many faults of this node's own data are left."""
        return {"compared": dict(self._compared), "faults_left": self.faults_left}

    def alarms(self) -> list[Alarm]:
        """Return what differs from a peer, or is damaged here, and could not be mended."""
        # Nothing is wrong any more with who was removed.
        present = [neighbour.node.name for neighbour in self._peers.all()]
        alarms = [
            Alarm(name=NODES_DIFFER, peer=name, message=f"this node and {name} differ; {_LOOK_CLOSER}")
            for name in present
            if self._compared.get(name) == "differs"
        ]
        if self.faults_left:
            alarms.append(Alarm(name=DATA_LOST, message=f"{self.faults_left} faults in this node's own data; {_LOOK_CLOSER}"))
        return alarms

    # -- inside ----------------------------------------------------------------------------------------------------

    def _after(self, seconds: float) -> float:
        return self._clock.monotonic_s() + seconds * (0.75 + self._jitter.random() / 2)

    def _next_peer(self) -> Neighbour | None:
        """Return a peer that is due; note who has come and who has gone."""
        if not self._settings.interval_s:
            return None
        there = {neighbour.node.id: neighbour for neighbour in self._peers.active() if neighbour.puller.connected}
        for gone in self._due_s.keys() - there.keys():
            del self._due_s[gone]
        for node in there:
            if node not in self._due_s:
                self._due_s[node] = self._after(min(_RETURN_S, self._settings.interval_s))
        now_s = self._clock.monotonic_s()
        return next((there[node] for node, due_s in self._due_s.items() if due_s <= now_s), None)

    async def _compare(self, neighbour: Neighbour) -> None:
        name = neighbour.node.name
        outcome = "failed"
        try:
            outcome = await self._compared_with(neighbour)
        finally:
            self._compared[name] = outcome
            self._metrics.count(families.COMPARISONS, name, outcome)

    async def _compared_with(self, neighbour: Neighbour) -> str:
        found = await self._mending.compare(neighbour, tries=_TRIES)
        if not found.differing:
            return "equal" if found.settled else "unsettled"
        count = sum(one.count for one in found.differing)
        if not found.settled and count > _NEAR_CHANGES:
            return "unsettled"
        log.warning("this node and its peer differ, mending", peer=neighbour.node.id, records=count)
        with suppress(TwinhullError):
            await self._mending.compare(neighbour, repair=True, tries=1)
            left = await self._mending.compare(neighbour, tries=_TRIES)
            if not left.differing:
                return "mended"
        return "differs"
