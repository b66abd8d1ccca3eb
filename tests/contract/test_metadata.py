"""What this node writes is written whole, durably and in one order, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from tests.support.metadata import Opened, push, tag_of
from twinhull.kit.clock import ManualClock
from twinhull.kit.errors import Conflict, NotFound
from twinhull.kit.hlc import Stamp
from twinhull.metadata import content, members
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import ID_BLOCK, SLOTS
from twinhull.records.kinds import BLOB, MANIFEST, PROJECT, SETTING, USER, content_key
from twinhull.records.merge import decode, is_dead

ROOT: Final = Path(__file__).parents[2]


class Undone(Exception):
    """What a test raises to leave a transaction."""


def counts(store: Store) -> list[int]:
    """Return the seqs in this node's log, in the order of their positions."""
    return [change.seq for _, change in store.changes_since(0, 10_000) if change.origin == store.node]


# -- one transaction ---------------------------------------------------------------------------------------------------


def test_written_things_are_read_back_until_they_are_deleted(store: Store) -> None:
    with store.write() as transaction:
        transaction.create(SETTING, "a", {"value": {"b": [1, "c"]}})
        assert transaction.values(SETTING, "a") == {"value": {"b": [1, "c"]}}
        transaction.put(SETTING, "a", {"value": 2})
    with store.write() as transaction:
        assert transaction.values(SETTING, "a") == {"value": 2}
        assert transaction.delete(SETTING, "a")
        assert not transaction.delete(SETTING, "a")
        assert transaction.values(SETTING, "a") is None
        record = transaction.get(SETTING, "a")
        assert record is not None
        assert is_dead(SETTING, record)
        assert transaction.get(SETTING, "b") is None


def test_create_is_refused_when_the_thing_lives_and_put_when_it_does_not(store: Store) -> None:
    with store.write() as transaction:
        with pytest.raises(NotFound):
            transaction.put(SETTING, "a", {"value": 1})
        transaction.create(SETTING, "a", {"value": 1})
        with pytest.raises(Conflict):
            transaction.create(SETTING, "a", {"value": 2})
        transaction.delete(SETTING, "a")
        with pytest.raises(NotFound):
            transaction.put(SETTING, "a", {"value": 3})
        transaction.create(SETTING, "a", {"value": 4})
    # What was refused left no gap.
    assert counts(store) == [1, 2, 3]


def test_create_over_a_dead_thing_keeps_none_of_its_fields(store: Store) -> None:
    with store.write() as transaction:
        transaction.create(USER, "alice", {"password_hash": "old", "sysadmin": True, "comment": "old"}, number=3)
        transaction.delete(USER, "alice")
        transaction.create(USER, "alice", {"password_hash": "new"}, number=4)
        values = transaction.values(USER, "alice") or {}
    assert {name: value for name, value in values.items() if value is not None and name != "ids"} == {"password_hash": "new"}
    with store.read() as connection:
        row = connection.exec_driver_sql("SELECT id, password_hash, sysadmin, comment FROM users").one()
        assert tuple(row) == (4, "new", False, "")


def test_exception_undoes_everything_and_leaves_no_gap(store: Store) -> None:
    with store.write() as transaction:
        push(transaction, b"first")
    before = (store.position(), store.position_hint(), store.vector(), store.state_root())

    def write_and_fail() -> None:
        with store.write() as transaction:
            push(transaction, b"second", repository="library/other")
            assert transaction.seq > 0
            raise Undone

    with pytest.raises(Undone):
        write_and_fail()
    assert (store.position(), store.position_hint(), store.vector(), store.state_root()) == before
    with store.read() as connection:
        assert not content.has_repository(connection, "library/other")
        assert connection.exec_driver_sql("SELECT count(*) FROM manifest_contents").scalar() == 1
    with store.write() as transaction:
        push(transaction, b"third", repository="library/other")
    assert counts(store) == list(range(1, 7))


def test_write_that_fails_half_way_and_is_caught_leaves_no_gap(store: Store) -> None:
    with store.write() as transaction:
        with pytest.raises(TypeError):
            transaction.create(SETTING, "a", {"value": object()})
        transaction.create(SETTING, "b", {"value": 1})
        assert transaction.seq == 1
    assert counts(store) == [1]


def test_transaction_that_only_reads_changes_nothing(store: Store) -> None:
    with store.write() as transaction:
        assert transaction.get(SETTING, "a") is None
    assert (transaction.seq, transaction.position) == (0, 0)
    assert store.position() == 0
    assert store.vector() == {}


def test_stamps_grow_through_clock_jumps_and_restarts(opened: Opened, store: Store, clock: ManualClock) -> None:
    def write(writer: Store, key: str) -> Stamp:
        with writer.write() as transaction:
            transaction.create(SETTING, key, {"value": key})
        change = writer.record(SETTING.name, key)
        assert change is not None
        return decode(change.record).versions[0].write.stamp

    stamps = [write(store, "a"), write(store, "b")]
    clock.advance(5000)
    stamps.append(write(store, "c"))
    clock.jump(-3_600_000)
    stamps.append(write(store, "d"))
    again = Store(opened.database, node="n1", slot=0, clock=clock)
    stamps.append(write(again, "e"))
    assert all(earlier < later for earlier, later in pairwise(stamps))


# -- many writers ------------------------------------------------------------------------------------------------------


def test_seqs_are_gapless_and_in_the_order_of_positions_when_threads_write(store: Store) -> None:
    def write(number: int) -> tuple[int, int]:
        with store.write() as transaction:
            for part in range(1 + number % 3):
                transaction.create(SETTING, f"{number}-{part}", {"value": number})
        # What is acknowledged is published.
        hint = store.position_hint()
        assert hint is None or hint >= transaction.position
        return transaction.seq, transaction.position

    with ThreadPoolExecutor(8) as executor:
        written = sorted(executor.map(write, range(60)))
    assert counts(store) == list(range(1, 121))
    positions = [position for _, position in written]
    assert positions == sorted(positions)
    assert store.position() == max(positions)
    assert store.vector() == {"n1": 120}


def test_seqs_are_gapless_when_processes_write(opened: Opened, store: Store) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.metadata", opened.address, "n1", writer, "20"],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for writer in ("x", "y")
    ]
    acknowledged = [[line.split() for line in process.communicate()[0].splitlines()] for process in writers]
    assert [process.returncode for process in writers] == [0, 0]
    seqs = counts(store)
    assert seqs == list(range(1, len(seqs) + 1))
    assert all(len(lines) == 20 for lines in acknowledged)
    with store.read() as connection:
        tags = content.tags_page(connection, "library/app", "", 1000)
    assert tags == sorted(tag_of(number, writer=writer) for writer in "xy" for number in range(20))
    position = store.position()
    assert store.position_hint() in (None, position)


def test_reader_sees_one_state_while_others_write(store: Store) -> None:
    with store.write() as transaction:
        push(transaction, b"one", tag="first")
    with store.read() as connection:
        assert content.tags_page(connection, "library/app", "", 10) == ["first"]
        with store.write() as transaction:
            push(transaction, b"two", tag="second")
        assert content.tags_page(connection, "library/app", "", 10) == ["first"]
        assert connection.exec_driver_sql("SELECT max(position) FROM changes").scalar() == 3
        with store.read() as later:
            assert content.tags_page(later, "library/app", "", 10) == ["first", "second"]


def test_reader_sees_nothing_of_a_transaction_that_has_not_committed(store: Store) -> None:
    with store.write() as transaction:
        transaction.create(SETTING, "a", {"value": 1})
        assert store.record(SETTING.name, "a") is None
        assert store.position_hint() in (None, 0)
    assert store.record(SETTING.name, "a") is not None


# -- the log as its readers see it -------------------------------------------------------------------------------------


def test_log_is_read_in_pages_from_any_position(store: Store) -> None:
    for number in range(7):
        with store.write() as transaction:
            transaction.create(SETTING, str(number), {"value": number})
    paged: list[tuple[int, str, str]] = []
    while page := store.changed_since(paged[-1][0] if paged else 0, 3):
        assert len(page) <= 3
        paged += page
    assert [key for _, _, key in paged] == [str(number) for number in range(7)]
    whole = store.changes_since(paged[2][0], 100)
    assert [(position, change.key) for position, change in whole] == [(position, key) for position, _, key in paged[3:]]
    assert [change.seq for _, change in store.changes_of("n1", 2, 2)] == [3, 4]
    assert store.changes_of("nobody", 0, 10) == []
    assert [(change.kind, change.key) for change in store.records_after("setting", "4", 10).records] == [
        ("setting", "5"),
        ("setting", "6"),
    ]


def test_log_and_records_carry_a_manifests_bytes(store: Store) -> None:
    with store.write() as transaction:
        digest = push(transaction, b"bytes")
        transaction.create(SETTING, "a", {"value": 1})
    key = content_key("library/app", digest)
    carried = {change.key: change.content for _, change in store.changes_since(0, 10)}
    assert carried == {"library/app": None, key: b"bytes", "library/app:latest": None, "a": None}
    assert {change.key: change.content for change in store.records_after("", "", 10).records} == carried
    record = store.record(MANIFEST.name, key)
    assert record is not None
    assert record.content == b"bytes"
    assert store.record(MANIFEST.name, "library/app@sha256:0") is None


# -- ids and invites ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slot", [0, 1, 31])
def test_ids_are_counted_in_blocks_that_belong_to_the_slot(opened: Opened, clock: ManualClock, slot: int) -> None:
    store = Store(opened.database, node="n1", slot=slot, clock=clock)
    with store.write() as transaction:
        first = transaction.next_id(PROJECT)
        assert first == slot * ID_BLOCK + 1
        assert transaction.next_id(PROJECT) == first + 1
        # Each kind counts for itself.
        assert transaction.next_id(USER) == first
        numbers = [transaction.next_id(PROJECT) for _ in range(ID_BLOCK)]
    blocks = [(number - 1) // ID_BLOCK for number in numbers]
    assert blocks == [slot] * (ID_BLOCK - 2) + [slot + SLOTS] * 2
    assert numbers[-2:] == [(slot + SLOTS) * ID_BLOCK + 1, (slot + SLOTS) * ID_BLOCK + 2]


def test_counting_goes_on_in_the_nodes_own_block_when_its_slot_has_changed(opened: Opened, clock: ManualClock) -> None:
    numbers = []
    for slot in (2, 1, 3):
        with Store(opened.database, node="n1", slot=slot, clock=clock).write() as transaction:
            numbers.append(transaction.next_id(USER))
    assert [(number - 1) // ID_BLOCK for number in numbers] == [2, 1 + SLOTS, 3 + SLOTS]


def test_invite_opens_the_door_once_and_not_too_late(store: Store) -> None:
    def use(secret: str, now_ms: int) -> bool:
        with store.write() as transaction:
            return members.use_invite(transaction.connection, secret, now_ms)

    with store.write() as transaction:
        for secret in ("early", "late", "other"):
            members.add_invite(transaction.connection, secret, 1000)
    assert not use("unknown", 10)
    assert use("early", 1000)
    assert not use("early", 1000)
    assert not use("late", 1001)
    # Expired ones are forgotten, whatever the clock says later.
    assert not use("other", 10)


def test_invite_used_at_the_same_time_opens_the_door_once(store: Store) -> None:
    with store.write() as transaction:
        members.add_invite(transaction.connection, "secret", 1000)

    def use(_: int) -> bool:
        with store.write() as transaction:
            return members.use_invite(transaction.connection, "secret", 10)

    with ThreadPoolExecutor(4) as executor:
        assert sum(executor.map(use, range(8))) == 1


def test_names_sort_by_their_bytes(store: Store) -> None:
    names = ["Z", "_", "a", "a-b", "a.b", "ab", "b", "ä", "中", "v1.10", "v1.9"]
    with store.write() as transaction:
        for name in names:
            transaction.create(SETTING, name, {"value": 1})
            transaction.create(BLOB, content_key("library/app", name), {"size": 1})
    in_order = sorted(names, key=str.encode)
    assert [change.key for change in store.records_after(SETTING.name, "", 100).records] == in_order
    with store.read() as connection:
        rows = connection.exec_driver_sql("SELECT digest FROM blob_links ORDER BY digest")
        assert [row[0] for row in rows] == in_order


# -- its end -----------------------------------------------------------------------------------------------------------


def test_second_close_takes_no_file_from_anybody_else(opened: Opened, tmp_path: Path) -> None:
    opened.database.close()
    # They get the numbers that have just become free.
    files = [(tmp_path / f"other{number}").open("wb") for number in range(8)]
    opened.database.close()
    for file in files:
        file.write(b"still open")
        file.close()
