"""The worker tells, drops what all had told before, page by page, and rests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from twinhull.config.settings import CompactionSettings
from twinhull.kit.clock import ManualClock
from twinhull.kit.hlc import Stamp
from twinhull.metadata.conflicts import forget_conflicts, keep_conflict, list_conflicts
from twinhull.metadata.store import Store
from twinhull.records.kinds import NODE, PROGRESS, SETTLED, USER, document_key
from twinhull.records.merge import Field, FieldConflict, Write
from twinhull.upkeep.access import Access
from twinhull.upkeep.ballast import Ballast
from twinhull.upkeep.compacting import Compacting

DAY_S = 86_400


@pytest.fixture
def access(store: Store, tmp_path: Path) -> Iterator[Access]:
    """Where a cluster of one has its records."""
    with store.write() as transaction:
        transaction.create(NODE, store.node, {"slot": 0})
    with ThreadPoolExecutor(1) as executor:
        yield Access(store, Ballast(tmp_path / "ballast"), executor)


def worker(access: Access, clock: ManualClock, *, interval_s: float = 3600.0) -> Compacting:
    settings = CompactionSettings(interval_s=interval_s, keep_deletions_s=DAY_S, keep_changes=10_000)
    return Compacting(access, clock=clock, settings=settings)


def make_and_delete(store: Store, count: int) -> None:
    with store.write() as transaction:
        for number in range(count):
            transaction.create(USER, f"user-{number}", {})
            transaction.delete(USER, f"user-{number}")


def counts(store: Store) -> tuple[int, int]:
    """Return how many records of users there are, and how many changes."""
    with store.read() as connection:
        users = connection.execute(text("SELECT count(*) FROM records WHERE kind = 'user'")).scalar_one()
        return int(users), int(connection.execute(text("SELECT count(*) FROM changes")).scalar_one())


async def test_first_run_tells_and_the_next_drops_what_is_old(access: Access, store: Store, clock: ManualClock) -> None:
    make_and_delete(store, 6000)
    compacting = worker(access, clock)
    await compacting.run_once()
    assert counts(store)[0] == 6000
    await compacting.run_once()
    assert counts(store)[0] == 6000
    clock.advance((DAY_S + 1) * 1000)
    await compacting.run_once()
    assert counts(store)[0] == 0
    assert counts(store)[1] == 10_000
    assert compacting.status()["records_dropped"] == 6000


async def test_quiet_node_writes_nothing(access: Access, store: Store, clock: ManualClock) -> None:
    make_and_delete(store, 1)
    compacting = worker(access, clock)
    for _ in range(3):
        await compacting.run_once()
        clock.advance(DAY_S * 1000)
    vector = store.vector()
    await compacting.run_once()
    assert store.vector() == vector
    assert store.record(PROGRESS.name, store.node) is not None


async def test_run_is_due_after_the_interval_and_never_without_one(access: Access, clock: ManualClock) -> None:
    compacting = worker(access, clock)
    clock.advance(3_601_000)
    await asyncio.wait_for(compacting.wait_for_work(), 5)
    never = worker(access, clock, interval_s=0)
    clock.advance(DAY_S * 1000)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(never.wait_for_work(), 0.05)


def conflict(store: Store, key: str) -> str:
    """Note a conflict about a user, and return its name."""
    writes = [Write(Stamp(1, 0, origin), 1, {}) for origin in ("n1", "n2")]
    found = FieldConflict(field="email", winner="x", candidates=tuple(Field(write.stamp.origin, write) for write in writes))
    with store.write() as transaction:
        assert keep_conflict(transaction.connection, USER, key, found, transaction.now_ms())
        (identifier,) = transaction.connection.execute(
            text("SELECT id FROM conflicts WHERE key = :key"), {"key": key}
        ).scalars()
    return str(identifier)


def settle(store: Store, identifier: str) -> None:
    """Say that somebody has seen to it."""
    with store.write() as transaction:
        transaction.create(SETTLED, document_key("", identifier), {"by": "admin", "created_ms": transaction.now_ms()})


def conflicts_left(store: Store) -> set[str]:
    with store.read() as connection:
        return {one.key for one in list_conflicts(connection)[0]}


async def test_conflicts_that_were_seen_to_are_forgotten_and_others_stay(
    access: Access, store: Store, clock: ManualClock
) -> None:
    old = conflict(store, "old")
    conflict(store, "open")
    settle(store, old)
    clock.advance((DAY_S + 1) * 1000)
    settle(store, conflict(store, "new"))
    compacting = worker(access, clock)
    await compacting.run_once()
    assert conflicts_left(store) == {"open", "new"}
    assert store.record(SETTLED.name, document_key("", old)) is not None
    clock.advance(2 * DAY_S * 1000)
    await compacting.run_once()
    assert conflicts_left(store) == {"open"}
    with store.read() as connection:
        said = set(connection.execute(text("SELECT name FROM documents WHERE kind = 'settled_conflict'")).scalars())
    assert old not in said


def test_oldest_conflicts_go_when_there_are_too_many(store: Store, clock: ManualClock) -> None:
    for number in range(5):
        conflict(store, f"u{number}")
        clock.advance(1000)
    with store.write() as transaction:
        assert forget_conflicts(transaction.connection, before_ms=0, limit=100, kept_max=2) == 3
    assert conflicts_left(store) == {"u3", "u4"}
