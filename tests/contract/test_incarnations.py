"""A node whose database is an old copy writes under a new origin, with ids that it gave to nothing else."""

from __future__ import annotations

import pytest
from sqlalchemy import delete

from tests.support.metadata import Opened
from twinhull.kit.clock import ManualClock
from twinhull.metadata.incarnation import ELSEWHERE, move
from twinhull.metadata.store import Store
from twinhull.metadata.tables.log import changes
from twinhull.metadata.transaction import ID_BLOCK, SLOTS
from twinhull.records.change import VersionVector, node_of
from twinhull.records.kinds import PROJECT, SETTING
from twinhull.replication.own_past import settle_by_answers


def written(store: Store, name: str) -> tuple[int, int]:
    """Write, and return the change number, and an id that was given in the same transaction."""
    with store.write() as transaction:
        number = transaction.next_id(PROJECT)
        transaction.create(SETTING, name, {"value": 1})
    return transaction.seq, number


def test_changes_after_a_new_life_begins_are_counted_from_one_under_another_origin(store: Store) -> None:
    assert [written(store, name)[0] for name in "ab"] == [1, 2]

    origin = store.begin_incarnation()

    assert store.origin == origin != "n1"
    assert node_of(origin) == "n1"
    assert written(store, "c")[0] == 1
    assert store.vector() == {"n1": 2, origin: 1}
    assert [change.key for _, change in store.changes_of(origin, 0, 10)] == ["c"]


def test_processes_that_are_running_write_under_the_new_origin_too(store: Store, opened: Opened, clock: ManualClock) -> None:
    worker = Store(opened.database, node="n1", slot=0, clock=clock)
    written(worker, "a")
    origin = store.begin_incarnation()
    written(worker, "b")
    assert worker.vector() == {"n1": 1, origin: 1}


def test_ids_of_a_new_life_are_far_from_those_of_the_one_before_and_in_the_same_slot(
    opened: Opened, clock: ManualClock
) -> None:
    store = Store(opened.database, node="n1", slot=3, clock=clock)
    _, before = written(store, "a")
    store.begin_incarnation()
    _, after = written(store, "b")
    _, next_after = written(store, "c")
    assert after > before + 50 * SLOTS * ID_BLOCK - ID_BLOCK
    assert next_after == after + 1
    assert [(number - 1) // ID_BLOCK % SLOTS for number in (before, after)] == [3, 3]


def test_stamps_of_a_new_life_are_later_than_those_before(store: Store, clock: ManualClock) -> None:
    written(store, "a")
    clock.jump(-3_600_000)
    store.begin_incarnation()
    with store.write() as transaction:
        transaction.put(SETTING, "a", {"value": 2})
        record = transaction.get(SETTING, "a")
    assert record is not None
    (version,) = record.versions
    assert version.write.stamp.ms >= clock.unix_ms() + 3_600_000


def test_each_new_life_has_an_origin_of_its_own(store: Store) -> None:
    assert len({store.begin_incarnation() for _ in range(3)}) == 3


@pytest.mark.parametrize(
    ("vectors", "is_copy", "begins"),
    [
        ([], False, False),
        ([], True, False),
        ([{"n1": 2}, {}], False, False),
        ([{"n1": 2}, {}], True, True),
        ([{"n1": 3}, {}], False, True),
        ([{"n1": 3}, None], False, True),
        ([{"n1": 2}, None], False, False),
        ([{"n1": 2}, None], True, True),
        ([None], True, True),
    ],
)
def test_new_life_begins_when_a_member_knows_more_or_the_database_is_a_copy(
    store: Store, *, vectors: list[VersionVector | None], is_copy: bool, begins: bool
) -> None:
    for name in "ab":
        written(store, name)
    if is_copy:
        store.settle()
        with store.write() as transaction:
            move(transaction.connection, store.node, ELSEWHERE)
    settle_by_answers(store, vectors)
    assert (store.origin != "n1") == begins
    assert not store.is_copy()


def test_database_is_a_copy_when_its_log_was_longer_before(opened: Opened, clock: ManualClock) -> None:
    store = Store(opened.database, node="n1", slot=0, clock=clock)
    written(store, "a")
    store.settle()
    with opened.database.write() as connection:
        connection.execute(delete(changes))
    # PostgreSQL's place tells of a history that was gone back in; no position is shared there.
    assert store.is_copy() == (opened.database.position() is not None)
    store.refresh_position()
    assert not store.is_copy()


def test_database_is_a_copy_when_it_was_opened_elsewhere_before(store: Store) -> None:
    assert not store.is_copy()
    store.settle()
    assert not store.is_copy()
    store.begin_incarnation(place=ELSEWHERE)
    assert store.is_copy()
    store.settle()
    assert not store.is_copy()
