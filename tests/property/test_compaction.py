"""Dropping deletions shows nowhere: whatever happens, nodes that drop them answer like nodes that never do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.support.histories import fields_of
from twinhull.kit.hlc import ZERO, Stamp, next_stamp
from twinhull.records import compaction
from twinhull.records.change import VersionVector, joined
from twinhull.records.kinds import KINDS, LABEL, USER
from twinhull.records.merge import Kind, Record, Value, created, deleted, is_dead, merge, values_of, written

REPLICAS: Final = ("a", "b", "c")
SEARCH: Final = hypothesis.settings(max_examples=max(200, hypothesis.settings().max_examples))


class Rules(NamedTuple):
    """What is under test; a test of the tests puts something wrong here."""

    stable: Callable[[list[str], Mapping[str, VersionVector], VersionVector], VersionVector] = compaction.stable_vector
    is_droppable: Callable[[Kind, Record, VersionVector, int], bool] = compaction.is_droppable
    forgotten_as: Callable[[VersionVector], Record | None] = compaction.forgotten_as


class Written(NamedTuple):
    """A change in the log: a record, as it is and as it would be had nothing been dropped."""

    record: Record
    whole: Record


class Told(NamedTuple):
    """Another: what a node has applied, and up to where it has dropped deletions."""

    applied: VersionVector
    dropped: VersionVector


Entry = Written | Told


@dataclass(slots=True)
class Replica:
    """One node with one record, which it has twice: `record` may be dropped, `whole` never is."""

    origin: str
    record: Record | None = None
    whole: Record | None = None
    last: Stamp = ZERO
    logs: dict[str, list[Entry]] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)
    drops: int = 0

    @property
    def vector(self) -> VersionVector:
        return {origin: len(log) for origin, log in self.logs.items()}

    def dropped(self) -> VersionVector:
        vector: VersionVector = {}
        for _, dropped in self.told.values():
            vector = joined(vector, dropped)
        return vector

    def append(self, origin: str, entry: Entry) -> None:
        self.logs.setdefault(origin, []).append(entry)
        if isinstance(entry, Written):
            self.take(*entry)
        else:
            self.told[origin] = entry

    def take(self, record: Record | None, whole: Record | None) -> None:
        if record is not None:
            self.record = record if self.record is None else merge(self.record, record)
        if whole is not None:
            self.whole = whole if self.whole is None else merge(self.whole, whole)


class Step(NamedTuple):
    """What somebody tries to do at one replica."""

    what: str
    replica: int
    other: int
    # Of a pull, how many changes at most.
    at_most: int
    fields: Mapping[str, Value]


def steps(kind: Kind) -> st.SearchStrategy[list[Step]]:
    """Return a strategy for what is tried."""
    replica = st.integers(0, len(REPLICAS) - 1)
    step = st.builds(
        Step,
        what=st.sampled_from(
            [
                *("create", "put", "delete", "delete", "pull", "pull", "repair", "hear", "tell"),
                *("settle", "settle", "settle", "compact", "compact", "compact"),
            ]
        ),
        replica=replica,
        other=replica,
        at_most=st.sampled_from([1, 1, 2, 9]),
        fields=st.fixed_dictionaries({}, optional=dict(fields_of(kind))),
    )
    return st.lists(step, min_size=20, max_size=60)


def write(replica: Replica, kind: Kind, step: Step, now_ms: int, rules: Rules) -> None:
    """Create, change or delete, where that can be done."""
    lives = replica.whole is not None and not is_dead(kind, replica.whole)
    if lives == (step.what == "create"):
        return
    replica.last = stamp = next_stamp(replica.last, now_ms, replica.origin)
    seq = replica.vector.get(replica.origin, 0) + 1
    if step.what == "create":
        before = replica.record if replica.record is not None else rules.forgotten_as(replica.dropped())
        entry = Written(created(before, stamp, seq, step.fields), created(replica.whole, stamp, seq, step.fields))
    elif replica.record is not None and replica.whole is not None:
        if step.what == "put":
            entry = Written(
                written(kind, replica.record, stamp, seq, step.fields), written(kind, replica.whole, stamp, seq, step.fields)
            )
        else:
            entry = Written(deleted(kind, replica.record, stamp, seq), deleted(kind, replica.whole, stamp, seq))
    else:
        raise AssertionError("what lives must not have been dropped")
    replica.append(replica.origin, entry)


def pull(replica: Replica, other: Replica, count: int) -> None:
    """Read what the other's log has more, each origin's in order."""
    for origin, log in other.logs.items():
        have = replica.vector.get(origin, 0)
        for entry in log[have : have + count]:
            replica.append(origin, entry)


def compact(replica: Replica, kind: Kind, rules: Rules) -> None:
    """Drop the record if that may be, saying so in the log first."""
    told = {node: applied for node, (applied, _) in replica.told.items()}
    stable = rules.stable(list(REPLICAS), told, replica.vector)
    if replica.record is None or not rules.is_droppable(kind, replica.record, stable, 1 << 60):
        return
    dropped = joined(replica.dropped(), stable)
    replica.append(replica.origin, Told(applied=replica.vector, dropped=dropped))
    replica.record = None
    replica.drops += 1


def shown(kind: Kind, record: Record | None) -> dict[str, Value] | None:
    """Return what a node answers."""
    if record is None or is_dead(kind, record):
        return None
    return {name: value for name, value in values_of(kind, record).items() if value is not None}


def _exchange(replicas: list[Replica]) -> None:
    for one in replicas * 2:
        for other in replicas:
            pull(one, other, 1000)


def _age(told: Told) -> int:
    return sum(told.applied.values())


def _do(kind: Kind, replicas: list[Replica], step: Step, now_ms: int, rules: Rules) -> None:
    one, other = replicas[step.replica], replicas[step.other]
    match step.what:
        case "pull":
            pull(one, other, step.at_most)
        case "repair":
            one.take(other.record, other.whole)
            one.last = max(one.last, other.last)
        case "hear":
            # As records come that are no step of the log: ahead of it.
            newer = {node: max(told, one.told.get(node, told), key=_age) for node, told in other.told.items()}
            one.told = {**one.told, **newer}
        case "tell":
            one.append(one.origin, Told(applied=one.vector, dropped=one.dropped()))
        case "settle":
            _exchange(replicas)
            for replica in replicas:
                replica.append(replica.origin, Told(applied=replica.vector, dropped=replica.dropped()))
            _exchange(replicas)
        case "compact":
            compact(one, kind, rules)
        case _:
            write(one, kind, step, now_ms, rules)


def play(kind: Kind, tried: list[Step], rules: Rules) -> int:
    """Carry the steps out, then exchange all; raise AssertionError when a drop shows. Return how many drops there were."""
    replicas = [Replica(origin) for origin in REPLICAS]
    for now_ms, step in enumerate(tried, start=1000):
        _do(kind, replicas, step, now_ms, rules)
        for replica in replicas:
            assert shown(kind, replica.record) == shown(kind, replica.whole)
    _exchange(replicas)
    assert all(shown(kind, one.record) == shown(kind, replicas[0].whole) for one in replicas)
    return sum(replica.drops for replica in replicas)


ANY: Final = st.sampled_from(sorted(KINDS)).flatmap(lambda name: st.tuples(st.just(KINDS[name]), steps(KINDS[name])))


@SEARCH
@hypothesis.given(ANY)
def test_dropping_deletions_revives_nothing_and_loses_nothing(case: tuple[Kind, list[Step]]) -> None:
    play(*case, Rules())


def test_what_is_tried_drops_deletions_often_enough_to_tell_anything() -> None:
    tried = []

    @hypothesis.settings(max_examples=100, database=None, derandomize=True)
    @hypothesis.given(ANY)
    def count(case: tuple[Kind, list[Step]]) -> None:
        tried.append(play(*case, Rules()))

    count()
    assert sum(1 for drops in tried if drops) >= len(tried) // 5


# -- stories -------------------------------------------------------------------------------------------------------

ALL_PULL: Final = "a pull b; a pull c; b pull a; b pull c; c pull a; c pull b; a pull b"
ALL_TELL: Final = "a tell; b tell; c tell"
ALL_DROP: Final = "a compact; b compact; c compact"


def story(text: str) -> list[Step]:
    """Return the steps that a text tells: who does what, and to or from whom."""
    told = [one.split() for one in text.split("; ")]
    return [Step(what, REPLICAS.index(who), REPLICAS.index(whom[0]) if whom else 0, 99, {}) for who, what, *whom in told]


@pytest.mark.parametrize(
    ("told", "drops"),
    [
        (f"a create; a delete; {ALL_PULL}; {ALL_TELL}; {ALL_PULL}; {ALL_DROP}", 3),
        # One has not told, or had told before it knew.
        (f"a create; a delete; {ALL_PULL}; a tell; b tell; {ALL_PULL}; {ALL_DROP}", 0),
        (f"a create; {ALL_TELL}; a delete; {ALL_PULL}; {ALL_DROP}", 0),
        (f"a create; {ALL_PULL}; b tell; c tell; a delete; a tell; {ALL_PULL}; {ALL_DROP}", 0),
        # What one said has not arrived.
        (f"a create; a delete; {ALL_PULL}; {ALL_TELL}; a pull b; a compact", 0),
        # What was made anew stays.
        (f"a create; a delete; {ALL_PULL}; {ALL_TELL}; b create; {ALL_PULL}; {ALL_DROP}", 0),
    ],
)
def test_deletion_is_dropped_once_every_member_has_told_that_it_has_it(told: str, drops: int) -> None:
    assert play(LABEL, story(told), Rules()) == drops


def stable_for_some(_members: list[str], told: Mapping[str, VersionVector], applied: VersionVector) -> VersionVector:
    return compaction.stable_vector(list(told), told, applied)


def stable_at_once(_members: list[str], _told: Mapping[str, VersionVector], applied: VersionVector) -> VersionVector:
    return applied


def stable_by_hearsay(members: list[str], told: Mapping[str, VersionVector], _applied: VersionVector) -> VersionVector:
    return compaction.stable_vector(members, told, dict.fromkeys(REPLICAS, 99))


def drop_what_lives(kind: Kind, record: Record, stable: VersionVector, before_ms: int) -> bool:
    dead = deleted(kind, record, Stamp(0, 0, "a"), 0)
    return compaction.is_droppable(kind, dead, {**stable, "a": 99}, before_ms)


def nothing_forgotten(_dropped: VersionVector) -> None:
    return None


_AHEAD: Final = "a create; b pull a; c pull a; b put; a delete; b pull a; b tell; c pull a; c tell; a tell; a pull c; a hear b"
# Each mistake, and the story that shows it; by the right rules, the same story does no harm.
MISTAKES: Final = {
    "drop that asks nobody": (
        Rules(stable=stable_at_once),
        "a create; b pull a; b put; a delete; a compact; a pull b",
    ),
    "drop that asks only some": (
        Rules(stable=stable_for_some),
        "a create; b pull a; b put; a delete; a tell; a compact; a pull b",
    ),
    "drop that trusts what came ahead of the log": (
        Rules(stable=stable_by_hearsay),
        f"{_AHEAD}; a compact; a pull b",
    ),
    "drop of what lives": (
        Rules(is_droppable=drop_what_lives),
        f"a create; {ALL_PULL}; {ALL_TELL}; {ALL_PULL}; {ALL_DROP}",
    ),
    "create that does not know of drops": (
        Rules(forgotten_as=nothing_forgotten),
        f"a create; a delete; {ALL_PULL}; {ALL_TELL}; {ALL_PULL}; c compact; c create; b pull c",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_the_rules_is_found(mistake: str) -> None:
    rules, told = MISTAKES[mistake]
    play(USER, story(told), Rules())
    with pytest.raises(AssertionError):
        play(USER, story(told), rules)
