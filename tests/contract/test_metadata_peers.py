"""What comes from peers is merged once, in each origin's order, and never from a broken clock or with wrong bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import pytest
from sqlalchemy import Connection, select

from tests.support.metadata import derived_rows, open_sqlite, push
from twinhull.kit.clock import ManualClock
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import ProtocolError, Unavailable
from twinhull.kit.hlc import MAX_AHEAD_MS
from twinhull.metadata import accounts, content
from twinhull.metadata.migrate import migrate
from twinhull.metadata.store import Store
from twinhull.metadata.tables.accounts import members, users
from twinhull.metadata.tables.content import manifests
from twinhull.metadata.tables.own import conflicts
from twinhull.records.change import Change
from twinhull.records.kinds import MANIFEST, MEMBER, SETTING, USER, content_key, member_key
from twinhull.records.merge import Kind, Record, Value, decode, encode

ALL: Final = 10_000


def create(store: Store, kind: Kind, key: str, fields: dict[str, Value], *, number: int | None = None) -> Change:
    """Write at a node and return the change that it sends."""
    with store.write() as transaction:
        transaction.create(kind, key, fields, number=number)
    return store.changes_of(store.node, transaction.seq - 1, 1)[0][1]


def put(store: Store, kind: Kind, key: str, fields: dict[str, Value]) -> Change:
    """Change fields at a node and return the change that it sends."""
    with store.write() as transaction:
        transaction.put(kind, key, fields)
    return store.changes_of(store.node, transaction.seq - 1, 1)[0][1]


def delete(store: Store, kind: Kind, key: str) -> Change:
    """Delete at a node and return the change that it sends."""
    with store.write() as transaction:
        assert transaction.delete(kind, key)
    return store.changes_of(store.node, transaction.seq - 1, 1)[0][1]


def apply(store: Store, *changes: Change) -> list[bool]:
    """Apply changes at a node in one transaction."""
    with store.write() as transaction:
        return [transaction.apply(change) for change in changes]


def exchange(*stores: Store) -> None:
    """Let every node have all changes of all others."""
    for reader in stores:
        for source in stores:
            for origin in source.vector():
                apply(reader, *(change for _, change in source.changes_of(origin, reader.vector().get(origin, 0), ALL)))


def values(store: Store, kind: Kind, key: str) -> dict[str, Value] | None:
    """Return the fields of a thing at a node."""
    with store.write() as transaction:
        return transaction.values(kind, key)


def with_record(change: Change, record: Record) -> Change:
    """Return the change with another record in it."""
    return msgspec.structs.replace(change, record=encode(record))


# -- steps of a peer's log ---------------------------------------------------------------------------------------------


def test_change_is_applied_once_and_logged_as_its_origins(store: Store, peer: Store) -> None:
    change = create(peer, SETTING, "a", {"value": 1})
    assert apply(store, change) == [True]
    position = store.position()
    assert apply(store, change) == [False]
    assert store.position() == position
    assert store.vector() == {"n2": 1}
    # Passed on to a third node exactly as it came.
    assert store.changes_of("n2", 0, ALL) == [(position, change)]
    assert values(store, SETTING, "a") == {"value": 1}


def test_applying_makes_no_change_of_this_node(store: Store, peer: Store) -> None:
    with store.write() as transaction:
        transaction.apply(create(peer, SETTING, "a", {"value": 1}))
    assert transaction.seq == 0
    assert transaction.position == store.position()
    with store.write() as transaction:
        transaction.apply(create(peer, SETTING, "b", {"value": 1}))
        transaction.put(SETTING, "a", {"value": 2})
        transaction.put(SETTING, "b", {"value": 2})
    assert transaction.seq == 2
    assert store.vector() == {"n1": 2, "n2": 2}


def test_gap_is_refused_with_all_that_came_with_it(store: Store, peer: Store) -> None:
    first, _, third = (create(peer, SETTING, key, {"value": 1}) for key in "abc")
    with pytest.raises(ProtocolError, match="change 3 of node n2 arrived, but 2 was due"):
        apply(store, first, third)
    assert store.vector() == {}
    assert store.position() == 0
    assert apply(store, first) == [True]
    with pytest.raises(ProtocolError):
        apply(store, third)
    assert store.vector() == {"n2": 1}


def test_kind_of_a_later_release_is_refused(store: Store, peer: Store) -> None:
    change = create(peer, SETTING, "a", {"value": 1})
    with pytest.raises(ProtocolError, match="'constellation' are unknown to this release"):
        apply(store, msgspec.structs.replace(change, kind="constellation"))
    assert store.vector() == {}


def test_record_that_cannot_be_read_is_refused(store: Store, peer: Store) -> None:
    change = create(peer, SETTING, "a", {"value": 1})
    for record in (b"", b"\xc1", change.record[:-1], change.record + b"\x00", b"\x93\x01\x80\x90", b"\x93\x02\x80\x90"):
        with pytest.raises(ProtocolError, match="cannot be read"):
            apply(store, msgspec.structs.replace(change, record=record))
    assert store.vector() == {}


def test_manifest_whose_bytes_are_not_its_digests_is_refused(store: Store, peer: Store) -> None:
    with peer.write() as transaction:
        digest = push(transaction, b"right")
    changes = [change for _, change in peer.changes_of("n2", 0, ALL)]
    wrong = [change if change.content is None else msgspec.structs.replace(change, content=b"wrong") for change in changes]
    with pytest.raises(ProtocolError, match="do not match its digest"):
        apply(store, *wrong)
    with store.read() as connection:
        assert content.manifest(connection, "library/app", digest) is None
        assert connection.exec_driver_sql("SELECT count(*) FROM manifest_contents").scalar() == 0
    apply(store, *changes)
    with store.read() as connection:
        assert content.manifest(connection, "library/app", digest) == ("application/json", b"right")


def test_manifest_by_sha512_is_taken_and_one_by_an_unknown_algorithm_refused(store: Store, peer: Store) -> None:
    key = content_key("library/app", digest_of(b"right", "sha512"))
    with peer.write() as transaction:
        transaction.put_content(key.partition("@")[2], b"right")
        transaction.create(MANIFEST, key, {"media_type": "application/json"}, number=1)
    change = peer.changes_of("n2", 0, ALL)[0][1]
    with pytest.raises(ProtocolError):
        apply(store, msgspec.structs.replace(change, key="library/app@md5:00"))
    assert apply(store, change) == [True]


# -- clocks ------------------------------------------------------------------------------------------------------------


def test_stamp_from_the_far_future_is_held_back(store: Store, peer: Store, clock: ManualClock) -> None:
    clock.jump(MAX_AHEAD_MS + 1)
    change = create(peer, SETTING, "a", {"value": "ahead"})
    clock.jump(-MAX_AHEAD_MS - 1)
    with pytest.raises(Unavailable, match="n2's clock is more than 5 minutes ahead"):
        apply(store, change)
    with pytest.raises(Unavailable), store.write() as transaction:
        transaction.merge_record(change)
    assert store.vector() == {}
    own = create(store, SETTING, "b", {"value": 1})
    assert decode(own.record).versions[0].write.stamp.ms == clock.unix_ms()
    clock.advance(1)
    assert apply(store, change) == [True]


def test_own_clock_follows_what_was_seen(store: Store, peer: Store, clock: ManualClock) -> None:
    clock.jump(60_000)
    theirs = create(peer, SETTING, "a", {"value": "peer"})
    clock.jump(-60_000)
    apply(store, theirs)
    ours = put(store, SETTING, "a", {"value": "own"})
    assert decode(ours.record).versions[0].write.stamp > decode(theirs.record).versions[0].write.stamp
    other = create(store, SETTING, "b", {"value": 1})
    assert decode(other.record).versions[0].write.stamp.ms == clock.unix_ms() + 60_000


# -- records that are no step of a log ---------------------------------------------------------------------------------


def test_merged_record_is_seen_by_readers_of_the_log_but_not_counted(store: Store, peer: Store) -> None:
    create(peer, SETTING, "a", {"value": 1})
    change = peer.record(SETTING.name, "a")
    assert change is not None
    for expected in (True, False):
        with store.write() as transaction:
            assert transaction.merge_record(change) is expected
    assert store.vector() == {}
    assert [(key, kind) for _, kind, key in store.changed_since(0, ALL)] == [("a", "setting")]
    assert store.position_hint() in (None, store.position())
    # The step itself comes later, and is logged although it brings nothing new.
    apply(store, *(step for _, step in peer.changes_of("n2", 0, ALL)))
    assert store.vector() == {"n2": 1}
    assert [change.origin for _, change in store.changes_since(0, ALL)] == ["", "n2"]


def test_snapshot_brings_everything_up_to_its_vector(store: Store, peer: Store) -> None:
    for key in "abc":
        create(peer, SETTING, key, {"value": key})
    with store.write() as transaction:
        for record in peer.records_after("", "", ALL).records:
            transaction.merge_record(record)
        transaction.reached(peer.vector())
    assert store.vector() == {"n2": 3}
    assert store.floors() == {"n2": 3}
    assert store.changes_of("n2", 0, ALL) == []
    assert store.state_root() == peer.state_root()
    # Single changes go on from there, and are served from there.
    later = create(peer, SETTING, "d", {"value": "d"})
    assert apply(store, later) == [True]
    assert [change for _, change in store.changes_of("n2", 3, ALL)] == [later]
    assert store.floors() == {"n2": 3}


def test_older_snapshot_takes_nothing_back(store: Store, peer: Store) -> None:
    apply(store, *(create(peer, SETTING, key, {"value": key}) for key in "abc"))
    with store.write() as transaction:
        transaction.reached({"n2": 2, "n3": 5})
    assert store.vector() == {"n2": 3, "n3": 5}
    assert store.floors() == {"n2": 0, "n3": 5}


def test_node_that_lost_its_own_changes_counts_on_from_where_its_peers_are(store: Store, peer: Store) -> None:
    with store.write() as transaction:
        transaction.reached({"n1": 40})
        transaction.create(SETTING, "a", {"value": 1})
    assert transaction.seq == 41
    assert store.vector() == {"n1": 41}


def test_own_changes_that_were_lost_are_taken_back_before_new_ones(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    database = open_sqlite(tmp_path / "lost")
    migrate(database)
    before_the_loss = Store(database, node="n1", slot=0, clock=clock)
    kept = [create(before_the_loss, SETTING, key, {"value": key}) for key in "ab"]
    database.close()
    with store.write() as transaction:
        assert [transaction.apply(change) for change in kept] == [True, True]
        transaction.put(SETTING, "a", {"value": "new"})
    assert transaction.seq == 3
    assert store.vector() == {"n1": 3}


# -- what concurrent writes come to ------------------------------------------------------------------------------------


def conflicts_in(connection: Connection) -> list[tuple[str, str, object, list[object]]]:
    """Return kind and field of each conflict that was recorded, with the winner and the candidates."""
    rows = connection.execute(select(conflicts).order_by(conflicts.c.kind, conflicts.c.field))
    return [
        (
            row.kind,
            row.field,
            msgspec.json.decode(row.winner),
            [each["value"] for each in msgspec.json.decode(row.candidates)],
        )
        for row in rows
    ]


def test_conflict_is_recorded_once_with_its_first_time(store: Store, peer: Store, clock: ManualClock) -> None:
    create(store, MEMBER, member_key("library", "u", "bob"), {"role": 1, "created_ms": 1, "updated_ms": 1}, number=1)
    clock.advance(1)
    create(peer, MEMBER, member_key("library", "u", "bob"), {"role": 3, "created_ms": 2, "updated_ms": 2}, number=1001)
    exchange(store, peer)
    first_ms = clock.unix_ms()
    clock.advance(1000)
    # Merged again, with something else changed: still the same conflict.
    put(peer, MEMBER, member_key("library", "u", "bob"), {"comment": "x"})
    exchange(store, peer)
    with store.read() as connection:
        assert conflicts_in(connection) == [("member", "role", 3, [1, 3])]
        assert connection.execute(select(conflicts.c.recorded_ms)).scalars().all() == [first_ms]
        assert connection.execute(select(members.c.role, members.c.created_ms)).one() == (3, 1)


def test_conflict_shows_no_secret(store: Store, peer: Store) -> None:
    create(store, USER, "bob", {"password_hash": "$argon2$ours", "email": "a@x"}, number=1)
    create(peer, USER, "bob", {"password_hash": "$argon2$theirs", "email": "a@x"}, number=1001)
    exchange(store, peer)
    with store.read() as connection:
        assert conflicts_in(connection) == [("user", "password_hash", None, [None, None])]


def test_both_ids_resolve_when_a_thing_was_made_on_both_sides(store: Store, peer: Store, clock: ManualClock) -> None:
    create(peer, USER, "bob", {"email": "b@x"}, number=1001)
    clock.advance(1)
    create(store, USER, "bob", {"email": "b@x"}, number=1)
    exchange(store, peer)
    for node in (store, peer):
        with node.read() as connection:
            assert [row[0] for row in connection.execute(select(users.c.id))] == [1001]
            assert accounts.resolve_id(connection, USER.name, 1) == "bob"
            assert accounts.find_user_by_id(connection, 1) == accounts.find_user_by_id(connection, 1001)


def test_other_id_dies_with_the_thing_and_is_not_that_of_a_new_one(store: Store, peer: Store) -> None:
    create(store, USER, "bob", {"email": "b@x"}, number=1)
    create(peer, USER, "bob", {"email": "b@x"}, number=1001)
    exchange(store, peer)
    delete(peer, USER, "bob")
    exchange(store, peer)
    create(peer, USER, "bob", {"email": "new@x"}, number=1002)
    exchange(store, peer)
    for node in (store, peer):
        with node.read() as connection:
            assert accounts.resolve_id(connection, USER.name, 1001) is None
            assert accounts.find_user_by_id(connection, 1) is None
            assert connection.execute(select(users.c.id)).scalars().all() == [1002]


def test_revoked_account_does_not_come_back_into_a_new_one_of_its_name(store: Store, peer: Store, clock: ManualClock) -> None:
    create(store, USER, "bob", {"password_hash": "old", "sysadmin": True, "email": "old@x"}, number=3)
    exchange(store, peer)
    delete(store, USER, "bob")
    create(store, USER, "bob", {"password_hash": "new", "sysadmin": False, "email": "new@x"}, number=4)
    clock.advance(10)
    put(peer, USER, "bob", {"password_hash": "old bob's own", "email": "old bob's own"})
    exchange(store, peer)
    for node in (store, peer):
        found = values(node, USER, "bob") or {}
        assert {name: found[name] for name in ("password_hash", "sysadmin", "email")} == {
            "password_hash": "new",
            "sysadmin": False,
            "email": "new@x",
        }


def test_nul_in_a_text_does_not_stop_the_replication(store: Store, peer: Store) -> None:
    create(peer, USER, "bob", {"email": "b@x", "comment": "a\x00b"}, number=1001)
    exchange(store, peer)
    with store.read() as connection:
        assert connection.execute(select(users.c.comment)).scalar() == "ab"
    assert store.state_root() == peer.state_root()


def test_number_too_large_for_a_column_does_not_stop_the_replication(store: Store, peer: Store) -> None:
    with peer.write() as transaction:
        transaction.create(MANIFEST, "library/app@sha256:0", {"total_bytes": 2**64 - 1, "blobs": [["x", 2**64 - 1, False]]})
    exchange(store, peer)
    with store.read() as connection:
        assert connection.execute(select(manifests.c.total_bytes)).scalar() == 2**63 - 1
        assert derived_rows(connection)
