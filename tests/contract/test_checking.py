"""What is changed behind a node's back is found, never passed on, and put right from the log and from copies of peers."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from tests.support.metadata import derived_rows, push
from tests.support.streams import new_store
from twinhull.kit.clock import ManualClock
from twinhull.kit.errors import Damaged
from twinhull.metadata import checking, schema
from twinhull.metadata.healing import heal_content, heal_record, heal_rows
from twinhull.metadata.projections.owners import TABLES
from twinhull.metadata.store import Store
from twinhull.metadata.tables.columns import DERIVED
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import Change
from twinhull.records.kinds import BLOB, MANIFEST, MEMBER, PROJECT, ROBOT, SETTING, TAG, USER, content_key, member_key, tag_key
from twinhull.records.merge import decode

KEY = member_key("library", "u", "alice")


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with something of most kinds in it, and a peer's change."""
    with store.write() as transaction:
        transaction.create(PROJECT, "library", {"owner": "alice", "created_ms": 1}, number=1)
        transaction.create(USER, "alice", {"email": "a@x"}, number=1)
        transaction.create(MEMBER, KEY, {"role": 2}, number=1)
        transaction.create(ROBOT, "library+ci", {"level": "project", "project": "library"}, number=1)
        transaction.create(SETTING, "s", {"value": 1})
        transaction.create(BLOB, content_key("library/app", "sha256:b"), {"size": 4})
        push(transaction, b"image")
        transaction.put(MEMBER, KEY, {"role": 3})
    return store


def behind(store: Store, statement: str, **values: object) -> None:
    """Change a row as a stranger does."""
    with store.write() as transaction:
        transaction.connection.execute(text(statement), values)


def forge_role(store: Store) -> bytes:
    """Make the member an administrator of the project in the record's bytes alone, and return the right bytes."""
    change = store.record(MEMBER.name, KEY)
    assert change is not None
    record = decode(change.record)
    # In msgpack the name is followed by a pair: which write set it, and the value.
    at = change.record.index(b"\xa4role") + 7
    forged = change.record[:at] + b"\x01" + change.record[at + 1 :]
    assert decode(forged) != record
    behind(store, "UPDATE records SET record = :record WHERE kind = 'member'", record=forged)
    return change.record


def damaged(store: Store) -> list[tuple[str, str]]:
    """Return the damaged records."""
    with store.read() as connection:
        found = checking.damaged_records(connection, ("", ""))
    assert found.after is None
    return found.faulty


def differing(store: Store, tmp_path: Path) -> set[tuple[str, str]]:
    """Return the records of which the tables tell something else."""
    with store.read() as connection:
        return set(checking.differing_rows(connection, tmp_path / "scratch.db", lambda: None))


def test_node_that_nobody_touched_has_no_faults(filled: Store, tmp_path: Path) -> None:
    assert damaged(filled) == []
    assert differing(filled, tmp_path) == set()
    with filled.read() as connection:
        assert checking.wrong_contents(connection, ("", "")) == ([], None)
    assert not (tmp_path / "scratch.db").exists()


def test_every_derived_table_has_its_owner() -> None:
    derived = {table.name for table in schema.metadata.sorted_tables if table.info == DERIVED}
    assert derived == TABLES, "add the tables to metadata/projections/owners.py"


DAMAGES = {
    "bytes": "UPDATE records SET record = :bytes WHERE kind = 'member'",
    "summary": "UPDATE records SET summary = 7 WHERE kind = 'member'",
    "bucket": "UPDATE records SET bucket = 300 WHERE kind = 'member'",
}


def test_text_where_bytes_should_be_is_damage_too(tmp_path: Path, clock: ManualClock) -> None:
    # SQLite alone lets a stranger do that.
    store = new_store(tmp_path, "n1", 0, clock)
    with store.write() as transaction:
        push(transaction, b"image")
    root = store.state_root()
    behind(store, "UPDATE records SET record = 'text'")
    behind(store, "UPDATE manifest_contents SET content = 'text'")
    assert len(damaged(store)) == 3
    with store.read() as connection:
        assert len(checking.wrong_contents(connection, ("", "")).faulty) == 1
    assert store.records_after("", "", 10).records == []
    assert len(differing(store, tmp_path)) == 0
    for kind, key in damaged(store):
        with store.write() as transaction:
            assert heal_record(transaction, kind, key, [])
    assert store.state_root() == root
    store.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_record_is_found_and_healed_from_the_log(filled: Store, damage: str) -> None:
    right, root = filled.record(MEMBER.name, KEY), filled.state_root()
    behind(filled, DAMAGES[damage], **({"bytes": b"\xff"} if damage == "bytes" else {}))
    assert damaged(filled) == [(MEMBER.name, KEY)]
    with filled.write() as transaction:
        assert heal_record(transaction, MEMBER.name, KEY, [])
    assert damaged(filled) == []
    assert filled.record(MEMBER.name, KEY) == right
    assert filled.state_root() == root


def test_value_that_was_forged_is_found_never_read_and_put_right(filled: Store, tmp_path: Path) -> None:
    right = forge_role(filled)
    assert damaged(filled) == [(MEMBER.name, KEY)]
    assert filled.record(MEMBER.name, KEY) is None
    assert KEY not in {change.key for change in filled.records_after("", "", 100).records}
    with filled.write() as transaction:
        # What the log still holds is all of it.
        assert (transaction.values(MEMBER, KEY) or {})["role"] == 3
        assert heal_record(transaction, MEMBER.name, KEY, [])
    healed = filled.record(MEMBER.name, KEY)
    assert healed is not None
    assert healed.record == right
    assert differing(filled, tmp_path) == set()


def lose_log(transaction: Transaction) -> None:
    """Remove what the log says of the member, as compaction does."""
    transaction.connection.execute(text("DELETE FROM changes WHERE kind = 'member'"))


def test_record_that_the_log_no_longer_holds_is_refused_to_writers_and_healed_by_a_copy(filled: Store) -> None:
    copy = filled.record(MEMBER.name, KEY)
    assert copy is not None
    forge_role(filled)
    with filled.write() as transaction:
        lose_log(transaction)
    with pytest.raises(Damaged, match="library/u/alice"), filled.write() as transaction:
        transaction.put(MEMBER, KEY, {"role": 4})
    with filled.write() as transaction:
        assert not heal_record(transaction, MEMBER.name, KEY, [])
        assert not heal_record(transaction, MEMBER.name, KEY, [Change(origin="", seq=0, kind="member", key=KEY, record=b"?")])
        assert heal_record(transaction, MEMBER.name, KEY, [copy])
    assert filled.record(MEMBER.name, KEY) == copy
    assert damaged(filled) == []


def test_peers_change_is_taken_though_what_is_here_is_damaged(filled: Store, clock: ManualClock, tmp_path: Path) -> None:
    copy = filled.record(MEMBER.name, KEY)
    assert copy is not None
    forge_role(filled)
    with filled.write() as transaction:
        lose_log(transaction)
    with filled.write() as transaction:
        assert transaction.apply(Change(origin="n2", seq=1, kind="member", key=KEY, record=copy.record))
    assert filled.record(MEMBER.name, KEY) == copy
    assert damaged(filled) == []
    assert differing(filled, tmp_path) == set()


LIBRARY = (PROJECT.name, "library")
TAMPERINGS = {
    "changed": ("UPDATE members SET role = 1", (MEMBER.name, KEY)),
    "removed": ("DELETE FROM tags", (TAG.name, tag_key("library/app", "latest"))),
    "forged": (
        "INSERT INTO members VALUES ('library', 'u', 'mallory', 9, 1, 1, 1, 0, 0)",
        (MEMBER.name, member_key("library", "u", "mallory")),
    ),
    "container": ("UPDATE projects SET public = (1 = 1)", (PROJECT.name, "library")),
    "alias": ("INSERT INTO id_aliases (kind, id, key) VALUES ('user', 77, 'alice')", (USER.name, "alice")),
    "counted": ("INSERT INTO project_usage VALUES ('library', 77) ON CONFLICT (project) DO UPDATE SET bytes = 77", LIBRARY),
    "dead": ("UPDATE records SET dead = (1 = 1) WHERE kind = 'robot'", (ROBOT.name, "library+ci")),
}


def test_others_get_the_processor_now_and_then_and_not_for_every_record(filled: Store, tmp_path: Path) -> None:
    breaths: list[int] = []
    with filled.write() as transaction:
        for number in range(1500):
            transaction.create(SETTING, f"setting {number}", {"value": number})
    with filled.read() as connection:
        assert checking.differing_rows(connection, tmp_path / "scratch.db", lambda: breaths.append(1)) == []
    derived = sum(table.info == DERIVED for table in schema.metadata.sorted_tables)
    # Two pages of records are copied, two are projected, and each table is compared.
    assert len(breaths) == 2 + 2 + derived


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_rows_that_differ_from_their_record_are_found_and_made_anew(filled: Store, tmp_path: Path, tampering: str) -> None:
    with filled.read() as connection:
        right = derived_rows(connection)
    statement, name = TAMPERINGS[tampering]
    behind(filled, statement)
    position = filled.position()
    assert name in differing(filled, tmp_path)
    for kind, key in differing(filled, tmp_path):
        with filled.write() as transaction:
            assert heal_rows(transaction, kind, key)
    assert differing(filled, tmp_path) == set()
    with filled.read() as connection:
        assert derived_rows(connection) == right
    # Workers' caches follow the log.
    assert name in {(kind, key) for _, kind, key in filled.changed_since(position, 100)}
    assert damaged(filled) == []


@pytest.mark.parametrize("damage", ["UPDATE manifest_contents SET content = :bytes", "DELETE FROM manifest_contents"])
def test_wrong_or_missing_bytes_of_a_manifest_are_found_and_taken_from_a_copy(filled: Store, damage: str) -> None:
    [manifest] = [change for change in filled.records_after("", "", 100).records if change.kind == MANIFEST.name]
    behind(filled, damage, **({"bytes": b"other"} if ":bytes" in damage else {}))
    with filled.read() as connection:
        assert checking.wrong_contents(connection, ("", "")).faulty == [(MANIFEST.name, manifest.key)]
    with filled.write() as transaction:
        assert not heal_content(transaction, MANIFEST.name, manifest.key, [])
        wrong = Change(origin="", seq=0, kind=MANIFEST.name, key=manifest.key, record=manifest.record, content=b"wrong")
        assert not heal_content(transaction, MANIFEST.name, manifest.key, [wrong])
        assert heal_content(transaction, MANIFEST.name, manifest.key, [wrong, manifest])
    with filled.read() as connection:
        assert checking.wrong_contents(connection, ("", "")).faulty == []
    assert filled.record(MANIFEST.name, manifest.key) == manifest


def faulty_changes(store: Store) -> list[tuple[str, str]]:
    """Return origin and seq of what is damaged in the log, or in whose place nothing is."""
    with store.read() as connection:
        found = checking.damaged_changes(connection, ("", ""))
    assert found.after is None
    return found.faulty


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE changes SET record = :forged WHERE seq = 3",
        "UPDATE changes SET key = 'library/u/mallory' WHERE seq = 3",
        "UPDATE changes SET kind = 'user' WHERE seq = 3",
        "DELETE FROM changes WHERE seq = 3",
    ],
)
def test_change_that_was_damaged_in_the_log_is_found_and_never_passed_on(filled: Store, damage: str) -> None:
    assert faulty_changes(filled) == []
    last = filled.vector()[filled.node]
    logged = filled.changes_of(filled.node, 2, 1)[0][1].record
    at = logged.index(b"\xa4role") + 7
    forged = logged[:at] + b"\x01" + logged[at + 1 :]
    assert decode(forged) != decode(logged)
    behind(filled, damage, **({"forged": forged} if ":forged" in damage else {}))
    assert [change.seq for _, change in filled.changes_of(filled.node, 0, 100)] == [1, 2]
    assert filled.changes_of(filled.node, 2, 100) == []
    assert [change.seq for _, change in filled.changes_of(filled.node, 3, 100)] == list(range(4, last + 1))
    (found,) = faulty_changes(filled)
    assert found[0] == filled.node
    filled.cut_log(filled.node, int(found[1]))
    assert filled.floors()[filled.node] == int(found[1])
    assert faulty_changes(filled) == []


def test_damaged_change_has_no_say_when_a_record_is_healed_from_the_log(filled: Store) -> None:
    first = filled.changes_of(filled.node, 2, 1)[0][1]
    right = forge_role(filled)
    # A version that was never written, but has a later seq, would be merged with the true ones.
    behind(filled, "UPDATE changes SET record = :forged WHERE seq = 3", forged=first.record.replace(b"n1", b"n9"))
    with filled.write() as transaction:
        assert heal_record(transaction, MEMBER.name, KEY, [])
    healed = filled.record(MEMBER.name, KEY)
    assert healed is not None
    assert healed.record == right
