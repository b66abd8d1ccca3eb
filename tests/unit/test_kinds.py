"""What two nodes that were apart come to, kind by kind: each row of the table of merge rules as a small story."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from twinhull.kit.hlc import Stamp
from twinhull.records import kinds
from twinhull.records.kinds import (
    ARTIFACT_LABEL,
    AUDIT,
    BLOB,
    DOCUMENTS,
    EXECUTION,
    KINDS,
    MANIFEST,
    MEMBER,
    NODE,
    PROGRESS,
    PROJECT,
    PULLS,
    REPOSITORY,
    ROBOT,
    SETTING,
    TAG,
    TASK,
    USER,
    USER_GROUP,
)
from twinhull.records.merge import Kind, Record, Value, conflicts_of, created, deleted, is_dead, merge, values_of, written

DOCUMENTS_BUT_GROUPS: Final = tuple(kind for kind in DOCUMENTS.values() if kind is not USER_GROUP)
DELETE_WINS: Final = (NODE, USER, USER_GROUP, MEMBER, ROBOT)
WRITE_WINS: Final = (
    *(SETTING, kinds.SESSION_END, PROJECT, REPOSITORY, MANIFEST, TAG, BLOB),
    *DOCUMENTS_BUT_GROUPS,
    *(ARTIFACT_LABEL, PULLS, EXECUTION, TASK, AUDIT, PROGRESS),
)
WITH_IDS: Final = (USER, PROJECT, MEMBER, ROBOT, REPOSITORY, MANIFEST, TAG, EXECUTION, TASK, AUDIT, *DOCUMENTS.values())


class Node:
    """A node that writes one record, with a clock that stands still unless it is moved."""

    def __init__(self, origin: str, *, ms: int) -> None:
        self.origin = origin
        self.ms = ms
        self.seq = 0

    def _next(self) -> tuple[Stamp, int]:
        self.seq += 1
        return Stamp(self.ms, self.seq, self.origin), self.seq

    def create(self, kind: Kind, record: Record | None = None, /, **fields: Value) -> Record:
        """Make the thing."""
        assert record is None or is_dead(kind, record)
        return created(record, *self._next(), fields)

    def write(self, kind: Kind, record: Record, /, **fields: Value) -> Record:
        """Change fields of the thing."""
        return written(kind, record, *self._next(), fields)

    def delete(self, kind: Kind, record: Record) -> Record:
        """Delete the thing."""
        return deleted(kind, record, *self._next())


@pytest.fixture
def early() -> Node:
    """The node whose stamps are earlier."""
    return Node("a", ms=10)


@pytest.fixture
def late() -> Node:
    """The node whose stamps are later."""
    return Node("b", ms=20)


def settled(kind: Kind, ours: Record, theirs: Record, name: str) -> tuple[Value, int]:
    """Return what a field is after the merge, and how many conflicts that was."""
    both = merge(ours, theirs)
    assert not is_dead(kind, both)
    return values_of(kind, both)[name], len(conflicts_of(kind, both))


def test_every_kind_has_its_rule() -> None:
    assert {kind.name for kind in (*DELETE_WINS, *WRITE_WINS)} == {*KINDS}
    assert all(kind.delete_wins for kind in DELETE_WINS)
    assert not any(kind.delete_wins for kind in WRITE_WINS)


@pytest.mark.parametrize("kind", DELETE_WINS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("deletes_late", [False, True])
def test_delete_wins_against_a_write_that_had_not_seen_it(kind: Kind, early: Node, late: Node, deletes_late: bool) -> None:
    deleting, writing = (late, early) if deletes_late else (early, late)
    begin = deleting.create(kind, a=1)
    both = merge(deleting.delete(kind, begin), writing.write(kind, begin, a=2))
    assert is_dead(kind, both)
    assert conflicts_of(kind, both) == []
    # Whoever makes it anew has seen the delete.
    anew = writing.create(kind, both, a=3)
    assert values_of(kind, merge(anew, both)) == {"a": 3}
    assert not is_dead(kind, merge(anew, both))


@pytest.mark.parametrize("kind", WRITE_WINS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("deletes_late", [False, True])
def test_write_wins_against_a_delete_that_had_not_seen_it(kind: Kind, early: Node, late: Node, deletes_late: bool) -> None:
    deleting, writing = (late, early) if deletes_late else (early, late)
    begin = deleting.create(kind, a=1, b=1)
    write = writing.write(kind, begin, a=2)
    both = merge(deleting.delete(kind, begin), write)
    assert not is_dead(kind, both)
    assert values_of(kind, both) == {"a": 2, "b": 1}
    assert conflicts_of(kind, both) == []
    assert is_dead(kind, merge(both, deleting.delete(kind, write)))


@pytest.mark.parametrize("kind", WRITE_WINS, ids=lambda kind: kind.name)
def test_renewing_is_enough_to_outlive_a_delete(kind: Kind, early: Node, late: Node) -> None:
    begin = early.create(kind, a=1)
    assert values_of(kind, merge(late.delete(kind, begin), early.write(kind, begin))) == {"a": 1}


@pytest.mark.parametrize("kind", DELETE_WINS, ids=lambda kind: kind.name)
def test_late_write_to_the_old_thing_has_no_say_in_a_new_one_of_its_name(kind: Kind, early: Node, late: Node) -> None:
    begin = early.create(kind, secret="old", mail="old")
    anew = early.create(kind, early.delete(kind, begin), secret="new", mail="new")
    stale = late.write(kind, begin, secret="stale", other="stale")
    both = merge(anew, stale)
    assert not is_dead(kind, both)
    assert values_of(kind, both) == {"secret": "new", "mail": "new"}
    assert conflicts_of(kind, both) == []
    # Nor when somebody writes who has seen both, nor when the stale write comes once more.
    later = late.write(kind, both, mail="newer")
    assert values_of(kind, merge(later, stale)) == {"secret": "new", "mail": "newer", "other": None}


@pytest.mark.parametrize("kind", WRITE_WINS, ids=lambda kind: kind.name)
def test_thing_made_anew_has_no_field_of_its_earlier_life_though_a_write_to_that_outlives_it(
    kind: Kind, early: Node, late: Node
) -> None:
    begin = early.create(kind, a=1, b=1)
    anew = early.create(kind, early.delete(kind, begin), a=2)
    assert values_of(kind, merge(anew, late.write(kind, begin, c=3))) == {"a": 2, "b": None, "c": 3}


def test_new_things_of_one_name_made_on_both_sides_after_their_own_deletes_merge(early: Node, late: Node) -> None:
    begin = early.create(USER, password_hash="old", sysadmin=True)
    one = early.create(USER, early.delete(USER, begin), password_hash="one", sysadmin=True)
    two = late.create(USER, late.delete(USER, begin), password_hash="two", sysadmin=False)
    assert settled(USER, one, two, "password_hash") == ("two", 2)
    assert settled(USER, one, two, "sysadmin") == (False, 2)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_different_fields_written_at_the_same_time_are_both_kept(kind: Kind, early: Node, late: Node) -> None:
    begin = early.create(kind, a=1, b=1)
    both = merge(early.write(kind, begin, a=2), late.write(kind, begin, b=2))
    assert values_of(kind, both) == {"a": 2, "b": 2}
    assert conflicts_of(kind, both) == []


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_same_field_written_at_the_same_time_is_the_later_ones_and_a_conflict(kind: Kind, early: Node, late: Node) -> None:
    begin = early.create(kind, a=1)
    ours, theirs = early.write(kind, begin, a=2), late.write(kind, begin, a=3)
    (conflict,) = conflicts_of(kind, merge(ours, theirs))
    assert (conflict.field, conflict.winner, [field.value for field in conflict.candidates]) == ("a", 3, [2, 3])
    # The same value from both sides is none.
    assert settled(kind, ours, late.write(kind, begin, a=2), "a") == (2, 0)
    # What is written by somebody who saw both settles it.
    assert settled(kind, early.write(kind, merge(ours, theirs), a=4), theirs, "a") == (4, 0)


# -- fields with rules of their own ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        (USER, "sysadmin", False, True, False),
        (USER, "sysadmin", True, True, False),
        (USER, "disabled", False, False, True),
        (ROBOT, "disable", True, False, True),
        (MEMBER, "role", 3, 1, 4),
        (MEMBER, "role", 3, 4, 2),
        (MEMBER, "role", 1, 2, 3),
        (MEMBER, "role", 1, 3, 5),
    ],
)
@pytest.mark.parametrize("weak_is_late", [False, True])
def test_weaker_of_two_concurrent_rights_holds(
    early: Node, late: Node, case: tuple[Kind, str, Value, Value, Value], weak_is_late: bool
) -> None:
    kind, name, before, strong, weak = case
    begin = early.create(kind, **{name: before})
    weakening, strengthening = (late, early) if weak_is_late else (early, late)
    ours, theirs = weakening.write(kind, begin, **{name: weak}), strengthening.write(kind, begin, **{name: strong})
    assert settled(kind, ours, theirs, name) == (weak, 1)
    # But whoever strengthens it knowingly may.
    assert settled(kind, strengthening.write(kind, ours, **{name: strong}), ours, name) == (strong, 0)


@pytest.mark.parametrize("renewing_is_late", [False, True])
def test_value_that_was_replaced_knowingly_does_not_compete_again(early: Node, late: Node, renewing_is_late: bool) -> None:
    renewing, raising = (late, early) if renewing_is_late else (early, late)
    begin = renewing.create(MEMBER, role=3)
    assert settled(MEMBER, renewing.write(MEMBER, begin), raising.write(MEMBER, begin, role=1), "role") == (1, 0)


def test_role_that_nobody_knows_is_the_weakest(early: Node, late: Node) -> None:
    begin = early.create(MEMBER, role=1)
    assert settled(MEMBER, early.write(MEMBER, begin, role=99), late.write(MEMBER, begin, role=5), "role") == (99, 1)


@pytest.mark.parametrize("kind", [USER, ROBOT], ids=lambda kind: kind.name)
def test_newer_secret_holds(kind: Kind, early: Node, late: Node) -> None:
    for name in sorted(kind.secret):
        begin = early.create(kind, **{name: "old"})
        assert settled(kind, early.write(kind, begin, **{name: "1"}), late.write(kind, begin, **{name: "2"}), name) == ("2", 1)


def target(digest: str, *, immutable: bool = False) -> dict[str, Value]:
    return {"digest": digest, "immutable": immutable, "pushed_ms": 1, "pushed_by": "x"}


@pytest.mark.parametrize(
    ("marks", "winner"), [((False, False), "late"), ((True, False), "early"), ((False, True), "early"), ((True, True), "early")]
)
def test_tag_is_the_last_writers_unless_an_immutability_rule_held(
    early: Node, late: Node, marks: tuple[bool, bool], winner: str
) -> None:
    ours = early.create(TAG, target=target("early", immutable=marks[0]))
    theirs = late.create(TAG, target=target("late", immutable=marks[1]))
    both, conflicts = settled(TAG, ours, theirs, "target")
    assert isinstance(both, dict)
    assert (both["digest"], conflicts) == (winner, 1)


def test_same_manifest_pushed_on_both_sides_is_the_first_ones_and_no_conflict(early: Node, late: Node) -> None:
    ours = early.create(MANIFEST, pushed_ms=10, pushed_by="alice", blobs=[])
    theirs = late.create(MANIFEST, pushed_ms=20, pushed_by="bob", blobs=[])
    assert settled(MANIFEST, ours, theirs, "pushed_ms") == (10, 0)
    assert settled(MANIFEST, ours, theirs, "pushed_by") == ("alice", 0)


@pytest.mark.parametrize("kind", [USER, PROJECT, MEMBER, ROBOT, REPOSITORY], ids=lambda kind: kind.name)
def test_times_of_concurrent_writes_are_no_conflict(kind: Kind, early: Node, late: Node) -> None:
    ours = early.create(kind, created_ms=10, updated_ms=10)
    theirs = late.create(kind, created_ms=20, updated_ms=20)
    assert settled(kind, ours, theirs, "created_ms") == (10, 0)
    assert settled(kind, ours, theirs, "updated_ms") == (20, 0)


def test_what_hangs_on_two_lives_of_a_project_is_of_the_newest(early: Node, late: Node) -> None:
    old, new = kinds.new_ids(1, Stamp(1, 0, "a")), kinds.new_ids(2, Stamp(5, 0, "b"))
    for ours, theirs in ((old, new), (new, old)):
        one, two = (node.create(kinds.LABEL, life=kinds.life_of(ids)) for node, ids in ((early, ours), (late, theirs)))
        life, conflicts = settled(kinds.LABEL, one, two, "life")
        assert (kinds.number_of_life(life), conflicts) == (2, 0)
    assert kinds.number_of_life(kinds.life_of([*old, *new])) == 2
    assert kinds.number_of_life(kinds.life_of(None)) == kinds.number_of_life(kinds.life_of([])) == 0


def test_life_that_makes_no_sense_is_less_than_any(early: Node, late: Node) -> None:
    ours = early.create(kinds.LABEL, life=kinds.life_of(kinds.new_ids(1, Stamp(1, 0, "a"))))
    for nonsense in (None, "x", {"a": 1}):
        life, _ = settled(kinds.LABEL, ours, late.create(kinds.LABEL, life=nonsense), "life")
        assert kinds.number_of_life(life) == 1
        assert kinds.number_of_life(nonsense) == 0


def test_pulls_that_a_restored_node_counted_twice_are_the_more_and_the_last(early: Node, late: Node) -> None:
    ours, theirs = early.create(PULLS, count=9, last_ms=10), late.create(PULLS, count=2, last_ms=20)
    assert settled(PULLS, ours, theirs, "count") == (9, 0)
    assert settled(PULLS, ours, theirs, "last_ms") == (20, 0)


def test_secrets_are_hidden_by_field_and_by_name_of_the_setting() -> None:
    assert kinds.REGISTRY.hides("/hub", "access_secret")
    assert not kinds.REGISTRY.hides("/hub", "access_key")
    assert SETTING.hides("ldap_search_password", "value")
    assert SETTING.hides(kinds.TRUST_SETTING, "value"), "it holds the sealed key of the authority"
    assert not SETTING.hides("ldap_url", "value")


# -- ids ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WITH_IDS, ids=lambda kind: kind.name)
def test_earlier_id_stays_and_the_other_becomes_an_alias(kind: Kind, early: Node, late: Node) -> None:
    ours = early.create(kind, ids=kinds.new_ids(1001, Stamp(10, 0, "a")))
    theirs = late.create(kind, ids=kinds.new_ids(1, Stamp(20, 0, "b")))
    both = merge(ours, theirs)
    assert kinds.id_and_aliases(values_of(kind, both)["ids"]) == (1001, [1])
    assert conflicts_of(kind, both) == []
    # Written by either side, with and without knowing of the other: still both.
    for record in (late.write(kind, both, a=1), merge(early.write(kind, ours, a=1), theirs)):
        assert kinds.id_and_aliases(values_of(kind, merge(record, both))["ids"]) == (1001, [1])


def test_thing_made_anew_has_its_new_id_only(early: Node, late: Node) -> None:
    both = merge(
        early.create(USER, ids=kinds.new_ids(1, Stamp(1, 0, "a"))), late.create(USER, ids=kinds.new_ids(9, Stamp(2, 0, "b")))
    )
    anew = early.create(USER, late.delete(USER, both), ids=kinds.new_ids(2, Stamp(3, 0, "a")))
    assert kinds.id_and_aliases(values_of(USER, merge(anew, both))["ids"]) == (2, [])


def test_ids_of_nothing_are_none() -> None:
    assert kinds.id_and_aliases(None) == kinds.id_and_aliases([]) == (0, [])


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("join", "split", "parts", "key"),
    [
        (kinds.content_key, kinds.split_content_key, ("library/a", "sha256:0"), "library/a@sha256:0"),
        (kinds.tag_key, kinds.split_tag_key, ("library/a", "v1"), "library/a:v1"),
        (kinds.member_key, kinds.split_member_key, ("library", "g", "cn=a/b,dc=x"), "library/g/cn=a/b,dc=x"),
        (kinds.document_key, kinds.split_document_key, ("library", "a/b"), "library/a/b"),
        (kinds.document_key, kinds.split_document_key, ("", "a/b"), "/a/b"),
        (kinds.artifact_label_key, kinds.split_artifact_label_key, ("l/a", "sha256:0", "l/b@c/d"), "l/a@sha256:0/l/b@c/d"),
        (kinds.pulls_key, kinds.split_pulls_key, ("l/a", "", "n1"), "l/a@/n1"),
        (kinds.owned_key, kinds.split_owned_key, ("n1", 7), "n1/7"),
    ],
)
def test_keys_come_apart_as_they_were_joined(
    join: Callable[..., str], split: Callable[[str], tuple[object, ...]], parts: tuple[object, ...], key: str
) -> None:
    assert join(*parts) == key
    assert split(key) == parts
