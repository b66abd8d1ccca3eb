"""Deletions are dropped, and the log is cut, when every member has said that it has them; and nobody sees it."""

from __future__ import annotations

from typing import Final

import pytest
from sqlalchemy import func, select, update

from tests.support.metadata import manifest_fields, push
from twinhull.kit.clock import ManualClock
from twinhull.kit.digest import digest_of
from twinhull.metadata import compaction
from twinhull.metadata.store import Store
from twinhull.metadata.tables.log import changes, manifest_contents, records
from twinhull.records.change import VersionVector
from twinhull.records.kinds import MANIFEST, NODE, PROGRESS, PROJECT, REPOSITORY, TAG, USER, content_key, tag_key

EVER: Final = 1 << 60


@pytest.fixture
def pair(store: Store, peer: Store) -> tuple[Store, Store]:
    """Two members of one cluster."""
    with store.write() as transaction:
        for node in (store.node, peer.node):
            transaction.create(NODE, node, {"name": node, "slot": int(node[1:]) - 1})
    replicate(store, peer)
    return store, peer


def replicate(*stores: Store) -> None:
    """Bring every store's log to every other."""
    for _ in stores:
        for source in stores:
            for target in stores:
                for origin, seq in source.vector().items():
                    have = target.vector().get(origin, 0)
                    if have >= seq:
                        continue
                    with target.write() as transaction:
                        for _, change in source.changes_of(origin, have, 10_000):
                            transaction.apply(change)


def all_tell(*stores: Store) -> None:
    for store in stores:
        with store.write() as transaction:
            compaction.tell(transaction)
    replicate(*stores)


def stable(store: Store) -> VersionVector:
    with store.read() as connection:
        return compaction.stable(connection, store.node)


def drop(store: Store, *, before_ms: int = EVER, limit: int = 100) -> int:
    """Drop what may be dropped, and return how much that was."""
    upto = stable(store)
    with store.write() as transaction:
        compaction.say_dropped(transaction, upto)
    count = 0
    after: tuple[str, str] | None = ("", "")
    while after is not None:
        with store.write() as transaction:
            step = compaction.drop_dead(transaction, upto, before_ms=before_ms, after=after, limit=limit)
        count, after = count + step.records, step.after
    return count


def keys(store: Store) -> set[str]:
    """Return the keys of all records but what nodes have told."""
    with store.read() as connection:
        return {row.key for row in connection.execute(select(records.c.kind, records.c.key)) if row.kind != PROGRESS.name}


def rows(store: Store) -> int:
    with store.read() as connection:
        return int(connection.execute(select(func.count()).select_from(changes)).scalar_one())


def make_and_delete(store: Store, name: str) -> None:
    with store.write() as transaction:
        transaction.create(USER, name, {"password_hash": "h"})
        transaction.delete(USER, name)


def test_deletion_is_dropped_once_every_member_has_told(pair: tuple[Store, Store]) -> None:
    one, two = pair
    make_and_delete(one, "alice")
    with one.write() as transaction:
        transaction.create(USER, "bob", {})
    replicate(one, two)
    assert drop(one) == 0
    all_tell(one)
    assert (stable(one), drop(one)) == ({}, 0)
    all_tell(one, two)
    assert stable(one)
    assert [drop(node) for node in pair] == [1, 1]
    assert [keys(node) for node in pair] == [{"n1", "n2", "bob"}] * 2
    replicate(one, two)
    assert one.state_root() == two.state_root()


def test_nothing_is_dropped_before_that_is_said(pair: tuple[Store, Store]) -> None:
    one, two = pair
    make_and_delete(one, "alice")
    replicate(one, two)
    all_tell(one, two)
    with one.write() as transaction:
        dropped = compaction.drop_dead(transaction, stable(one), before_ms=EVER, after=("", ""), limit=100)
    assert (dropped.records, drop(one)) == (0, 1)


def test_what_one_has_dropped_and_another_has_not_is_no_difference(pair: tuple[Store, Store]) -> None:
    one, two = pair
    make_and_delete(one, "alice")
    replicate(one, two)
    all_tell(one, two)
    assert drop(one) == 1
    replicate(one, two)
    assert "alice" in keys(two)
    assert one.state_root() == two.state_root()
    assert all("alice" not in node.bucket(USER.name, bucket) for node in pair for bucket in range(256))


def test_thing_made_anew_where_its_deletion_is_dropped_lives_where_it_is_not(pair: tuple[Store, Store]) -> None:
    one, two = pair
    make_and_delete(two, "alice")
    replicate(one, two)
    all_tell(one, two)
    assert drop(one) == 1
    with one.write() as transaction:
        transaction.create(USER, "alice", {"email": "new"})
    replicate(one, two)
    for node in pair:
        with node.write() as transaction:
            assert transaction.values(USER, "alice") == {"email": "new"}
    assert one.state_root() == two.state_root()


def test_young_deletions_and_members_of_old_stay(pair: tuple[Store, Store], clock: ManualClock) -> None:
    one, two = pair
    make_and_delete(one, "alice")
    with one.write() as transaction:
        transaction.create(NODE, "n3", {"slot": 2})
        transaction.delete(NODE, "n3")
    replicate(one, two)
    all_tell(one, two)
    made_ms = clock.unix_ms()
    assert drop(one, before_ms=made_ms) == 0
    assert drop(one, before_ms=made_ms + 1) == 1
    assert keys(one) == {"n1", "n2", "n3"}


def test_damaged_deletion_stays_until_it_is_mended_and_holds_nothing_up(pair: tuple[Store, Store]) -> None:
    one, two = pair
    for name in ("alice", "bob"):
        make_and_delete(one, name)
    all_tell(one, two)
    all_tell(one, two)
    with one.write() as transaction:
        transaction.connection.execute(update(records).where(records.c.key == "alice").values(record=b"\xc1"))
    assert drop(one) == 1
    assert {"alice", "bob"} & keys(one) == {"alice"}


def test_dead_project_that_an_artifact_keeps_alive_stays(pair: tuple[Store, Store]) -> None:
    one, two = pair
    with one.write() as transaction:
        transaction.create(PROJECT, "library", {"owner": "alice"}, number=7)
        digest = push(transaction, b"image")
        for kind, key in ((PROJECT, "library"), (REPOSITORY, "library/app"), (TAG, tag_key("library/app", "latest"))):
            transaction.delete(kind, key)
    replicate(one, two)
    all_tell(one, two)
    # The tag.
    assert drop(one) == 1
    with one.write() as transaction:
        transaction.delete(MANIFEST, content_key("library/app", digest))
    replicate(one, two)
    all_tell(one, two)
    assert drop(one, limit=1) == 3
    assert keys(one) == {"n1", "n2"}


def test_bytes_of_a_manifest_go_with_its_deletion_unless_another_repository_has_it(pair: tuple[Store, Store]) -> None:
    one, two = pair
    with one.write() as transaction:
        for content, elsewhere in ((b"shared", "library/b"), (b"alone", "")):
            digest = digest_of(content)
            transaction.put_content(digest, content)
            for repository in filter(None, ("library/a", elsewhere)):
                transaction.create(MANIFEST, content_key(repository, digest), manifest_fields())
            transaction.delete(MANIFEST, content_key("library/a", digest))
    replicate(one, two)
    all_tell(one, two)
    assert drop(one) == 2
    with one.read() as connection:
        assert [row.content for row in connection.execute(select(manifest_contents))] == [b"shared"]


def test_log_is_cut_where_every_member_has_it_and_says_from_where_it_can_serve(pair: tuple[Store, Store]) -> None:
    one, two = pair
    for number in range(10):
        make_and_delete(one, f"user-{number}")
    assert trim(one, keep=2) == 0
    replicate(one, two)
    all_tell(one, two)
    make_and_delete(one, "later")
    before, vector, position = rows(one), one.vector(), one.position()
    assert trim(one, keep=2) == before - rows(one) > 20
    assert one.vector() == vector
    assert one.position() == position
    floors = one.floors()
    assert 0 < floors["n1"] < vector["n1"]
    # What is above is there without a gap.
    found = [change.seq for _, change in one.changes_of("n1", floors["n1"], 1000)]
    assert found == [*range(floors["n1"] + 1, vector["n1"] + 1)]
    replicate(one, two)
    assert one.state_root() == two.state_root()


def trim(store: Store, *, keep: int) -> int:
    with store.write() as transaction:
        return compaction.trim_log(transaction, stable(store), keep=keep)


def test_newest_changes_stay_whoever_has_them(pair: tuple[Store, Store]) -> None:
    one, two = pair
    all_tell(one, two)
    assert trim(one, keep=1000) == 0
    trim(one, keep=0)
    assert rows(one) >= 1
    assert one.position() > 0


def test_newcomer_holds_everything_back_until_it_has_told(pair: tuple[Store, Store]) -> None:
    one, two = pair
    make_and_delete(one, "alice")
    replicate(one, two)
    all_tell(one, two)
    with two.write() as transaction:
        transaction.create(NODE, "n3", {"slot": 2})
    replicate(one, two)
    assert (stable(one), drop(one)) == ({}, 0)
    with one.write() as transaction:
        transaction.delete(NODE, "n3")
    assert drop(one) == 1


def test_node_that_is_no_member_drops_nothing(pair: tuple[Store, Store]) -> None:
    one, two = pair
    make_and_delete(one, "alice")
    replicate(one, two)
    all_tell(one, two)
    with two.write() as transaction:
        transaction.delete(NODE, "n1")
    replicate(one, two)
    assert stable(one) == {}


def test_there_is_news_until_it_was_told(store: Store) -> None:
    make_and_delete(store, "alice")
    with store.read() as connection:
        assert compaction.has_news(connection, 0)
        assert not compaction.has_news(connection, store.position())
    position = store.position()
    all_tell(store)
    with store.read() as connection:
        assert not compaction.has_news(connection, position)
