"""Peers are compared with by a schedule and when they return, what differs is mended, and a node looks through its own data."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast

import pytest

from twinhull.config.settings import VerifySettings
from twinhull.kit.clock import ManualClock
from twinhull.kit.errors import PeerUnavailable
from twinhull.observe.metrics import Metrics
from twinhull.replication.alarms import NODES_DIFFER
from twinhull.replication.comparing import Comparison, Differing
from twinhull.replication.neighbours import Neighbour
from twinhull.replication.protocol import Fault
from twinhull.upkeep.comparing import Comparing

EQUAL: Final = Comparison(differing=[], settled=True, missing_blobs=0)


def differing(count: int, *, settled: bool = True) -> Comparison:
    """Return a comparison that found so many records."""
    one = Differing(kind="tag", count=count, keys=["x"], only_here=["x"], only_there=[])
    return Comparison(differing=[one], settled=settled, missing_blobs=0)


class Site:
    """A worker, what it compares with, and what it did."""

    def __init__(self, clock: ManualClock, directory: Path) -> None:
        """Begin with two peers that are equal."""
        self.clock = clock
        self.answers: list[Comparison | Exception] = []
        self.did: list[str] = []
        self.faults: list[Fault] = []
        self.peers = {name: SimpleNamespace(node=SimpleNamespace(id=name, name=name), puller=None) for name in ("b", "c")}
        self.connect("b", "c")
        self.worker = Comparing(
            self,
            self,
            clock=clock,
            settings=VerifySettings(interval_s=600, own_interval_s=50_000),
            metrics=Metrics(directory, "agent", clock),
            jitter=random.Random(1),
        )

    def connect(self, *names: str) -> None:
        """Let just these be there."""
        for name, peer in self.peers.items():
            peer.puller = SimpleNamespace(connected=name in names)

    def all(self) -> list[Neighbour]:
        """Return the peers."""
        return self.active()

    def active(self) -> list[Neighbour]:
        """Return the peers."""
        return cast("list[Neighbour]", list(self.peers.values()))

    async def compare(self, neighbour: Neighbour, *, repair: bool = False, tries: int = 1) -> Comparison:
        """Answer as the test wants."""
        del tries
        self.did.append(f"{'mend' if repair else 'compare'} {neighbour.node.name}")
        answer = self.answers.pop(0) if self.answers else EQUAL
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def check_all(self, parts: Sequence[str], *, repair: bool) -> list[Fault]:
        """Answer as the test wants."""
        assert repair
        self.did.append(f"check {len(parts)} parts")
        return self.faults

    async def after(self, seconds: float) -> list[str]:
        """Let so much time pass, and the worker do what is due then; return what it did."""
        self.did.clear()
        for _ in range(int(seconds)):
            self.clock.advance(1000)
            if self.worker._next_peer() is not None or self.clock.monotonic_s() >= self.worker._own_due_s:  # noqa: SLF001
                await self.worker.wait_for_work()
                await self.worker.work()
        return list(self.did)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A worker with two peers."""
    return Site(ManualClock(), tmp_path)


async def test_each_peer_is_compared_with_soon_and_then_by_the_schedule(site: Site) -> None:
    assert sorted(await site.after(60)) == ["compare b", "compare c"]
    assert await site.after(300) == []
    assert sorted(await site.after(500)) == ["compare b", "compare c"]
    assert site.worker.status()["compared"] == {"b": "equal", "c": "equal"}


async def test_peer_that_returns_is_compared_with_soon(site: Site) -> None:
    await site.after(60)
    site.connect("c")
    assert await site.after(30) == []
    site.connect("b", "c")
    assert await site.after(60) == ["compare b"]


async def test_what_differs_is_mended(site: Site) -> None:
    site.connect("b")
    site.answers = [differing(3), differing(3), EQUAL]
    assert await site.after(60) == ["compare b", "mend b", "compare b"]
    assert site.worker.status()["compared"] == {"b": "mended"}


async def test_what_could_not_be_mended_is_an_alarm_until_the_peer_is_removed(site: Site) -> None:
    site.connect("b")
    site.answers = [differing(3), differing(3), differing(3)]
    await site.after(60)
    assert [(alarm.name, alarm.peer) for alarm in site.worker.alarms()] == [(NODES_DIFFER, "b")]
    del site.peers["b"]
    assert site.worker.alarms() == []


async def test_peer_that_is_catching_up_is_left_to_its_log(site: Site) -> None:
    site.connect("b")
    site.answers = [differing(5000, settled=False)]
    assert await site.after(60) == ["compare b"]
    assert site.worker.status()["compared"] == {"b": "unsettled"}


async def test_failure_is_told_and_tried_again_by_the_schedule(site: Site) -> None:
    site.connect("b")
    site.answers = [PeerUnavailable("gone")]
    with pytest.raises(PeerUnavailable):
        await site.after(60)
    assert site.worker.status()["compared"] == {"b": "failed"}
    assert await site.after(800) == ["compare b"]


async def test_own_data_are_looked_through_and_what_is_left_is_counted(site: Site) -> None:
    site.connect()
    site.faults = [Fault(what="blob", kind="blob", key="d", is_mended=left) for left in (True, False)]
    assert await site.after(7000) == ["check 5 parts"]
    assert site.worker.faults_left == 1
    assert await site.after(30_000) == []
    assert await site.after(40_000) == ["check 5 parts"]
