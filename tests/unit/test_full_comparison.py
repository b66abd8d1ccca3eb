"""A node that was away for longer than deletions are remembered: it takes a snapshot, and lets go of what is not in it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.support.streams import Agent, new_store, value, write
from twinhull.kit.clock import SystemClock
from twinhull.kit.errors import ProtocolError, SnapshotRefused
from twinhull.metadata.names import drop_seen
from twinhull.metadata.store import Store
from twinhull.records.change import VersionVector
from twinhull.records.kinds import PROJECT, USER
from twinhull.replication.apply import PartOfAll, apply_page
from twinhull.replication.protocol import SnapshotPage
from twinhull.replication.taking import Taking

PAGE: Final = 1000
START: Final = ("", "")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Store]:
    """The node that was away."""
    store = new_store(tmp_path, "h", 0, SystemClock())
    yield store
    store.close()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Store]:
    """The node that went on."""
    store = new_store(tmp_path, "t", 1, SystemClock())
    yield store
    store.close()


def exchange(one: Store, other: Store) -> None:
    """Let each have what the other has."""
    for to, source in ((one, other), (other, one)):
        with to.write() as transaction:
            for _, change in source.changes_of(source.origin, to.vector().get(source.origin, 0), PAGE):
                transaction.apply(change)


def forget(store: Store, name: str) -> None:
    """Delete a project, and then the memory of that."""
    with store.write() as transaction:
        transaction.delete(PROJECT, name)
    with store.write() as transaction:
        assert drop_seen(transaction, PROJECT, name, store.vector())


def take(store: Store, source: Store, *, seen: VersionVector | None = None, per_page: int = 2) -> None:
    """Take the source's snapshot, a few records at a time."""
    vector = source.vector() if seen is None else seen
    after = START
    while (found := source.records_after(*after, per_page)).records:
        page = SnapshotPage(records=found.records, damaged=found.damaged)
        apply_page(store, page, PartOfAll(after, vector)).require_all()
        after = page.records[-1].kind, page.records[-1].key
    last = SnapshotPage(records=[], damaged=found.damaged, vector=source.vector())
    apply_page(store, last, PartOfAll(after, vector)).require_all()


def names(store: Store) -> list[str]:
    """Return the keys of all records."""
    return [change.key for change in store.records_after("", "", PAGE).records]


@pytest.mark.parametrize("per_page", [1, 2, 100])
def test_what_was_deleted_and_forgotten_goes_and_what_was_made_meanwhile_stays(
    here: Store, there: Store, per_page: int
) -> None:
    for name in ("a-gone", "b", "c-gone", "d", "e-gone", "z-gone"):
        write(there, name)
    exchange(here, there)
    write(here, "c-made-here")
    write(here, "d", n="changed here")
    write(there, "e-made-there")
    for name in ("a-gone", "c-gone", "e-gone", "z-gone"):
        forget(there, name)
    take(here, there, per_page=per_page)
    assert names(here) == ["b", "c-made-here", "d", "e-made-there"]
    assert value(here, "d", "n") == "changed here"
    assert here.vector() == {"h": 2, "t": there.vector()["t"]}
    with here.read() as connection:
        rows = connection.exec_driver_sql("SELECT name FROM projects ORDER BY name").all()
    assert [row[0] for row in rows] == names(here)
    exchange(here, there)
    assert here.state_root() == there.state_root()


def test_change_that_the_other_side_has_not_seen_outlives_the_forgotten_deletion(here: Store, there: Store) -> None:
    write(there, "p", n="1")
    exchange(here, there)
    write(here, "p", n="2")
    forget(there, "p")
    take(here, there)
    assert value(here, "p", "n") == "2", "where write wins, a write that the deletion had not seen survives it"


@pytest.mark.parametrize("per_page", [1, 2, 100])
def test_what_is_damaged_on_the_other_side_is_not_taken_for_forgotten(here: Store, there: Store, per_page: int) -> None:
    for name in ("a", "b", "c", "d-gone", "e", "f"):
        write(there, name)
    exchange(here, there)
    forget(there, "d-gone")
    with there.write() as transaction:
        transaction.connection.exec_driver_sql("UPDATE records SET summary = 7 WHERE key IN ('a', 'b', 'f')")
    take(here, there, per_page=per_page)
    assert names(here) == ["a", "b", "c", "e", "f"], "the copies here are the good ones"


def test_what_is_damaged_here_holds_no_snapshot_up(here: Store, there: Store) -> None:
    for name in ("a", "b"):
        write(there, name)
    exchange(here, there)
    forget(there, "a")
    with here.write() as transaction:
        transaction.connection.exec_driver_sql("UPDATE records SET summary = 7 WHERE key = 'a'")
        transaction.connection.exec_driver_sql("DELETE FROM changes")
    take(here, there)
    assert here.vector() == there.vector()


def test_dropped_record_is_seen_by_this_nodes_readers_of_the_log(here: Store, there: Store) -> None:
    write(there, "p")
    exchange(here, there)
    position = here.position()
    forget(there, "p")
    take(here, there)
    assert [(kind, key) for _, kind, key in here.changed_since(position, PAGE)] == [(PROJECT.name, "p")]


def test_what_is_written_while_the_snapshot_is_read_is_not_taken_for_forgotten(here: Store, there: Store) -> None:
    write(there, "a")
    exchange(here, there)
    began = there.vector()
    write(there, "b")
    exchange(here, there)
    # As if the source had read past it before it was written: it is not in the snapshot, nor in what the source had then.
    with there.write() as transaction:
        drop_seen(transaction, PROJECT, "b", there.vector())
    take(here, there, seen=began)
    assert names(here) == ["a", "b"]


def test_snapshot_out_of_order_is_refused_before_anything_is_dropped(here: Store, there: Store) -> None:
    for name in ("a", "b", "c"):
        write(there, name)
    exchange(here, there)
    records = there.records_after("", "", PAGE).records
    page = SnapshotPage(records=[records[2], records[0]])
    applied = apply_page(here, page, PartOfAll(START, there.vector()))
    assert applied.failure is None or isinstance(applied.failure, SnapshotRefused)
    assert names(here) == ["a", "b", "c"]


async def test_each_snapshot_of_a_stream_begins_anew(here: Store, there: Store) -> None:
    write(there, "a")
    with here.write() as transaction:
        transaction.create(USER, "own", {"email": "e"})
    with ThreadPoolExecutor(1) as threads:
        taking = Taking("t", here, Agent(here, threads, SystemClock()), threads)
        for name in ("b", "c"):
            taking.begin(there.vector())
            await taking.page(SnapshotPage(records=there.records_after("", "", PAGE).records))
            await taking.page(SnapshotPage(records=[], vector=there.vector()))
            forget(there, "a" if name == "b" else "b")
            write(there, name)
    assert names(here) == ["b", "own"]


@pytest.mark.parametrize("order", [[2], [1], [0, 2], [0, 0], [0, 1, 2, 2]])
async def test_pages_of_a_snapshot_that_come_in_another_order_drop_nothing(here: Store, there: Store, order: list[int]) -> None:
    for name in "abcd":
        write(there, name)
    exchange(here, there)
    records = there.records_after("", "", PAGE).records
    pages = [
        SnapshotPage(records=records[:2], number=1),
        SnapshotPage(records=records[2:], number=2),
        SnapshotPage(records=[], vector=there.vector(), number=3),
    ]
    with ThreadPoolExecutor(1) as threads:
        taking = Taking("t", here, Agent(here, threads, SystemClock()), threads)
        taking.begin(there.vector())
        for index in order[:-1]:
            await taking.page(pages[index])
        with pytest.raises(ProtocolError, match="was due"):
            await taking.page(pages[order[-1]])
    assert names(here) == ["a", "b", "c", "d"]
