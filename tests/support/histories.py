"""Made-up histories of one record on several replicas, and what must come of them, told without any of the merge code.

A history is a list of events, each with the set of events that its writer had seen. From that alone the oracle says which
versions are left, whether the thing lives and what its fields hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from hypothesis import strategies as st

from twinhull.kit.hlc import ZERO, Stamp, next_stamp
from twinhull.records.kinds import ARTIFACT_LABEL, KINDS, LABEL, MEMBER, PULLS, ROBOT, TAG, USER, USER_GROUP, new_ids
from twinhull.records.merge import Kind, Record, Value, created, deleted, is_dead, merge, values_of, written

REPLICAS: Final = ("a", "b", "c")
Events = frozenset[int]

_WORDS: Final = st.sampled_from(["x", "y", "z"])
_FLAGS: Final = st.booleans()
_FIELDS: Final[Mapping[str, Mapping[str, st.SearchStrategy[Value]]]] = {
    USER.name: {"sysadmin": _FLAGS, "disabled": _FLAGS, "password_hash": _WORDS, "created_ms": st.integers(0, 3)},
    MEMBER.name: {"role": st.sampled_from([1, 2, 3, 4, 5])},
    ROBOT.name: {"disable": _FLAGS, "secret_hash": _WORDS},
    LABEL.name: {"life": st.sampled_from([[1, 0, "a", 1], [1, 0, "b", 9], [2, 0, "a", 3], None]), "color": _WORDS},
    USER_GROUP.name: {"life": st.just(None), "created_ms": st.integers(0, 3), "group_type": st.integers(1, 2)},
    ARTIFACT_LABEL.name: {"life": st.sampled_from([[1, 0, "a", 1], [2, 0, "b", 2]]), "created_ms": st.integers(0, 3)},
    PULLS.name: {"count": st.integers(0, 9), "last_ms": st.integers(0, 9)},
    TAG.name: {"target": st.fixed_dictionaries({"digest": _WORDS, "immutable": _FLAGS})},
}
_OTHER_FIELDS: Final[Mapping[str, st.SearchStrategy[Value]]] = {"first": _WORDS, "second": st.integers(0, 2)}


def fields_of(kind: Kind) -> Mapping[str, st.SearchStrategy[Value]]:
    """Return the fields that made-up histories of a kind write."""
    return _FIELDS.get(kind.name, _OTHER_FIELDS)


class Rules(NamedTuple):
    """What is under test; a test of the tests puts something wrong here."""

    create: Callable[[Record | None, Stamp, int, Mapping[str, Value]], Record] = created
    write: Callable[[Kind, Record | None, Stamp, int, Mapping[str, Value]], Record] = written
    delete: Callable[[Kind, Record, Stamp, int], Record] = deleted
    merge: Callable[[Record, Record], Record] = merge
    is_dead: Callable[[Kind, Record], bool] = is_dead
    values: Callable[[Kind, Record], Mapping[str, Value]] = values_of


_RULES: Final = Rules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What somebody tries to do at one replica; nothing if it can't be done there, such as creating what lives."""

    what: str
    replica: int
    # From which replica a merge takes; how far the common clock goes on before the step.
    other: int
    elapsed_ms: int
    fields: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One write, and the numbers of all the writes that its writer had seen."""

    stamp: Stamp
    seq: int
    deletes: bool
    # A create says something about every field.
    creates: bool
    fields: Mapping[str, Value]
    past: Events


@dataclass(slots=True)
class Replica:
    """One node's view of the record."""

    origin: str
    skew_ms: int
    record: Record | None = None
    seen: Events = frozenset()
    last: Stamp = ZERO
    seq: int = 0


@dataclass(slots=True)
class History:
    """What happened to one record, and every state of it that ever was on its way between replicas."""

    kind: Kind
    rules: Rules = _RULES
    events: list[Event] = field(default_factory=list)
    # Each with what had gone into it.
    states: list[tuple[Record, Events]] = field(default_factory=list)


def steps(kind: Kind) -> st.SearchStrategy[list[Step]]:
    """Return a strategy for what is tried in a history."""
    values = fields_of(kind)
    some = st.fixed_dictionaries({}, optional=dict(values))
    replica = st.integers(0, len(REPLICAS) - 1)
    step = st.builds(
        Step,
        what=st.sampled_from(["create", "put", "put", "put", "delete", "merge", "merge", "merge"]),
        replica=replica,
        other=replica,
        # Mostly none: then counters and origins decide.
        elapsed_ms=st.sampled_from([0, 0, 1, 5]),
        fields=some,
    )
    return st.lists(step, min_size=8, max_size=25)


def histories(kind: Kind, rules: Rules = _RULES) -> st.SearchStrategy[History]:
    """Return a strategy for histories of a record of one kind, on replicas whose clocks differ."""
    skews = st.tuples(*(st.sampled_from([0, 0, 3, -4]) for _ in REPLICAS))
    # Mostly the thing is there before anything happens to it: without that most that is tried can't be done.
    begin = st.one_of(
        st.none(), st.fixed_dictionaries({}, optional=dict(fields_of(kind))), st.fixed_dictionaries(dict(fields_of(kind)))
    )
    return st.builds(play, st.builds(History, st.just(kind), st.just(rules)), steps(kind), skews, begin)


def any_history() -> st.SearchStrategy[History]:
    """Return a strategy for histories of a record of any kind, mostly of those that have a rule of their own."""
    by_rules = {(kind.delete_wins, *sorted(kind.resolvers)): name for name, kind in KINDS.items()}
    names = st.one_of(
        st.sampled_from(sorted(by_rules.values())), st.sampled_from(sorted(_FIELDS)), st.sampled_from(sorted(KINDS))
    )
    return names.flatmap(lambda name: histories(KINDS[name]))


def play(history: History, tried: list[Step], skews: tuple[int, ...], begin: Mapping[str, Value] | None) -> History:
    """Carry the steps out; `begin` are the fields of the thing that all replicas have then, None when there is none."""
    replicas = [Replica(origin, skew) for origin, skew in zip(REPLICAS, skews, strict=True)]
    now_ms = 1000
    if begin is not None:
        _write(history, replicas[0], Step(what="create", replica=0, other=0, elapsed_ms=0, fields=begin), now_ms)
        for replica in replicas[1:]:
            _take(history.rules, replica, replicas[0])
    for step in tried:
        now_ms += step.elapsed_ms
        replica = replicas[step.replica]
        if step.what == "merge":
            _take(history.rules, replica, replicas[step.other])
        elif _can(history, replica, step.what):
            _write(history, replica, step, now_ms + replica.skew_ms)
        if replica.record is not None:
            history.states.append((replica.record, replica.seen))
    return history


def _can(history: History, replica: Replica, what: str) -> bool:
    lives = replica.record is not None and not history.rules.is_dead(history.kind, replica.record)
    return lives != (what == "create")


def _take(rules: Rules, replica: Replica, other: Replica) -> None:
    if other.record is None:
        return
    replica.record = other.record if replica.record is None else rules.merge(replica.record, other.record)
    replica.seen |= other.seen
    replica.last = max(replica.last, other.last)


def _write(history: History, replica: Replica, step: Step, now_ms: int) -> None:
    replica.last = stamp = next_stamp(replica.last, now_ms, replica.origin)
    replica.seq += 1
    fields = dict(step.fields) if step.what != "delete" else {}
    if step.what == "create":
        fields["ids"] = new_ids(replica.seq, stamp)
        replica.record = history.rules.create(replica.record, stamp, replica.seq, fields)
    elif step.what == "put":
        replica.record = history.rules.write(history.kind, replica.record, stamp, replica.seq, fields)
    elif replica.record is not None:
        replica.record = history.rules.delete(history.kind, replica.record, stamp, replica.seq)
    event = Event(
        stamp=stamp,
        seq=replica.seq,
        deletes=step.what == "delete",
        creates=step.what == "create",
        fields=fields,
        past=replica.seen,
    )
    history.events.append(event)
    replica.seen |= {len(history.events) - 1}


def _last(values: list[Value]) -> Value:
    return values[-1]


def _first(values: list[Value]) -> Value:
    return values[0]


def _all_ids(values: list[Value]) -> Value:
    return sorted([list(one) for one in {tuple(one) for value in values if isinstance(value, list) for one in value}])


def _last_like(*, on: bool) -> Callable[[list[Value]], Value]:
    return lambda values: next((value for value in reversed(values) if bool(value) == on), values[-1])


def _weakest_role(values: list[Value]) -> Value:
    weakest_first: list[Value] = [None, 5, 3, 2, 4, 1]
    return min(reversed(values), key=weakest_first.index)


def _greatest(values: list[Value]) -> Value:
    return max((value for value in values if isinstance(value, int)), default=None)


def _last_life(values: list[Value]) -> Value:
    lives: list[list[int | str]] = [value for value in values if isinstance(value, list)]
    return max(lives, default=None)


def _first_if_immutable(values: list[Value]) -> Value:
    return values[0 if any(isinstance(value, dict) and value["immutable"] for value in values) else -1]


# How concurrent values are settled, oldest first, as people would tell it: by field, or by kind and field.
_TOLD: Final[Mapping[str, Callable[[list[Value]], Value]]] = {
    "ids": _all_ids,
    "life": _last_life,
    "created_ms": _first,
    "user sysadmin": _last_like(on=False),
    "user disabled": _last_like(on=True),
    "robot disable": _last_like(on=True),
    "member role": _weakest_role,
    "pulls count": _greatest,
    "pulls last_ms": _greatest,
    "tag target": _first_if_immutable,
}


@dataclass(frozen=True, slots=True)
class Oracle:
    """What must be seen by whoever has seen certain events, by the rules as people would tell them."""

    history: History

    def heads(self, seen: Events) -> list[int]:
        """Return the events that nobody had seen when writing."""
        return sorted(number for number in seen if not any(number in self.history.events[other].past for other in seen))

    def is_dead(self, seen: Events) -> bool:
        """Tell whether the thing is deleted."""
        deletions = [self.history.events[head].deletes for head in self.heads(seen)]
        return any(deletions) if self.history.kind.delete_wins else all(deletions)

    def values(self, seen: Events) -> dict[str, Value]:
        """Return what the fields hold."""
        candidates = {name: self.candidates(seen, name) for name in self._names(seen)}
        return {name: self._resolve(name, found) for name, found in candidates.items() if found}

    def candidates(self, seen: Events, name: str) -> list[tuple[Stamp, Value]]:
        """Return the concurrent values of a field with their stamps, oldest first."""
        return [(self.history.events[setter].stamp, value) for setter, value in self.setters(seen, name)]

    def standing(self, seen: Events) -> list[int]:
        """Return the heads that have a say in the fields' values."""
        heads = self.heads(seen)
        if self.is_dead(seen):
            return heads
        if not self.history.kind.delete_wins:
            return [head for head in heads if not self.history.events[head].deletes]
        # Whoever wrote to the old thing without knowing that it was deleted has no say in the new one.
        known = {head: self._deletions(self.history.events[head].past) for head in heads}
        return [head for head in heads if not any(known[head] < known[other] for other in heads)]

    def _deletions(self, seen: Events) -> Events:
        return frozenset(number for number in seen if self.history.events[number].deletes)

    def _names(self, seen: Events) -> set[str]:
        return {name for number in seen for name in self.history.events[number].fields}

    def _resolve(self, name: str, candidates: list[tuple[Stamp, Value]]) -> Value:
        values = [value for _, value in candidates]
        if len(values) == 1:
            return values[0]
        if name == "ids" and name not in self.history.kind.resolvers:
            return values[-1]
        return _TOLD.get(name, _TOLD.get(f"{self.history.kind.name} {name}", _last))(values)

    def setters(self, seen: Events, name: str) -> list[tuple[int, Value]]:
        """Return the events that set a field, and to what, of which no other had been seen by those that set it else."""
        events = self.history.events
        found = [self.setter_at(head, name) for head in self.standing(seen)]
        by_setter = dict(setter for setter in found if setter is not None)
        kept = [one for one in by_setter if not any(one in events[other].past for other in by_setter)]
        return [(one, by_setter[one]) for one in sorted(kept, key=lambda number: events[number].stamp)]

    def setter_at(self, number: int, name: str) -> tuple[int, Value] | None:
        """Return who set a field as one writer left it, and to what."""
        event = self.history.events[number]
        if name in event.fields:
            return number, event.fields[name]
        if name not in self._names(event.past):
            return None
        found = [] if event.creates else self.setters(event.past, name)
        if not found:
            return number, None
        value = self._resolve(name, [(self.history.events[setter].stamp, said) for setter, said in found])
        mine = next(((setter, said) for setter, said in reversed(found) if _same(said, value)), None)
        return mine if mine is not None else (number, value)


def _same(ours: Value, theirs: Value) -> bool:
    return plain(ours) == plain(theirs)


def plain(value: Value) -> Value:
    """Return the value with every tuple in it as a list, as it comes back from its bytes."""
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
