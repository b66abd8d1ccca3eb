"""However writes, deletes and exchanges fall, replicas that have seen the same have the same, and it is what the rules say."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import combinations

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.histories import History, Oracle, Rules, any_history, histories, plain
from twinhull.kit.hlc import Stamp
from twinhull.metadata.summaries import summary_of
from twinhull.records.kinds import MEMBER, PROJECT, USER
from twinhull.records.merge import (
    Kind,
    Record,
    Value,
    conflicts_of,
    created,
    decode,
    encode,
    is_dead,
    merge,
    values_of,
    written,
)

# Where the rules have the most ways to go wrong, more cases than usual.
MANY = hypothesis.settings(max_examples=max(400, hypothesis.settings().max_examples))
GENERATE_ONLY = hypothesis.settings(max_examples=2000, database=None, phases=[hypothesis.Phase.generate])
SHUFFLES = st.randoms(use_true_random=False)


def joined_in_some_order(records: list[Record], shuffle: random.Random) -> Record:
    """Return what becomes of the records when they are delivered in some order, some of them twice, and in some groups."""
    due = records + shuffle.sample(records, shuffle.randint(0, len(records)))
    shuffle.shuffle(due)
    while len(due) > 1:
        ours, theirs = due.pop(shuffle.randrange(len(due))), due.pop(shuffle.randrange(len(due)))
        due.append(merge(ours, theirs))
    return due[0]


def require_right(history: History) -> None:
    """Hold every state that came up against the oracle."""
    kind, rules, oracle = history.kind, history.rules, Oracle(history)
    for record, seen in history.states:
        dots = [(history.events[head].stamp.origin, history.events[head].seq) for head in oracle.heads(seen)]
        assert [version.write.dot for version in record.versions] == sorted(dots)
        assert rules.is_dead(kind, record) == oracle.is_dead(seen)
        assert rules.values(kind, record) == oracle.values(seen)


@MANY
@given(any_history())
def test_state_is_what_the_rules_say_after_any_history(history: History) -> None:
    require_right(history)


@given(any_history())
def test_conflicts_are_exactly_the_concurrent_values_that_differ(history: History) -> None:
    kind, oracle = history.kind, Oracle(history)
    for record, seen in history.states:
        values = oracle.values(seen)
        expected = {
            name: (values[name], [stamp for stamp, _ in found])
            for name in values
            if name not in kind.quiet and len(found := oracle.candidates(seen, name)) > 1
            if any(plain(value) != plain(found[0][1]) for _, value in found)
        }
        conflicts = conflicts_of(kind, record)
        assert expected == {each.field: (each.winner, [field.write.stamp for field in each.candidates]) for each in conflicts}


@given(any_history())
def test_merge_is_commutative_associative_and_idempotent(history: History) -> None:
    records = [record for record, _ in history.states[-5:]]
    for one in records:
        assert merge(one, one) == one
    for one, two in combinations(records, 2):
        both = merge(one, two)
        assert both == merge(two, one)
        assert both == merge(both, one) == merge(two, both)
        for three in records:
            assert merge(both, three) == merge(one, merge(two, three))


@MANY
@given(any_history(), SHUFFLES, SHUFFLES)
def test_delivery_gives_the_same_bytes_in_any_order_repetition_and_grouping(
    history: History, one_way: random.Random, another: random.Random
) -> None:
    hypothesis.assume(history.states)
    records = [record for record, _ in history.states]
    one, two = joined_in_some_order(records, one_way), joined_in_some_order(records, another)
    assert one == two
    assert encode(one) == encode(two)
    assert summary_of("key", encode(one)) == summary_of("key", encode(two))


@given(any_history())
def test_records_come_back_from_their_bytes(history: History) -> None:
    for record, _ in history.states:
        encoded = encode(record)
        assert decode(encoded) == record
        assert encode(decode(encoded)) == encoded


@given(any_history())
def test_summary_differs_when_versions_do(history: History) -> None:
    versions = {tuple(version.write.dot for version in record.versions): record for record, _ in history.states}
    assert len({summary_of("key", encode(record)) for record in versions.values()}) == len(versions)
    for record in versions.values():
        assert summary_of("key", encode(record)) != summary_of("another key", encode(record))


@given(any_history())
def test_create_leaves_nothing_of_an_earlier_life(history: History) -> None:
    for record, _ in history.states:
        if is_dead(history.kind, record):
            stamp = Stamp(10_000, 0, "a")
            anew = created(record, stamp, 1000, {"first": "new"})
            # Whoever is late with what the creator had seen changes nothing.
            for earlier, _ in history.states:
                if all(record.context.get(origin, 0) >= seq for origin, seq in earlier.context.items()):
                    values = values_of(history.kind, merge(anew, earlier))
                    assert {name: value for name, value in values.items() if value is not None} == {"first": "new"}


@given(st.binary(max_size=200), any_history(), SHUFFLES)
def test_broken_bytes_are_refused_and_break_nothing(junk: bytes, history: History, chance: random.Random) -> None:
    hypothesis.assume(history.states)
    encoded = bytearray(encode(history.states[-1][0]))
    for _ in range(chance.randint(1, 4)):
        encoded[chance.randrange(len(encoded))] = chance.randrange(256)
    for broken in (junk, bytes(encoded)):
        try:
            record = decode(broken)
        except (ValueError, msgspec.DecodeError):
            continue
        # What can be read can be merged and written down again.
        assert merge(record, record) == record
        assert decode(encode(record)) == record


# -- the tests, tested: each of these mistakes must be found ---------------------------------------------------------


def merge_without_contexts(ours: Record, theirs: Record) -> Record:
    versions = {version.write.dot: version for version in (*ours.versions, *theirs.versions)}
    return msgspec.structs.replace(merge(ours, theirs), versions=tuple(versions[dot] for dot in sorted(versions)))


def merge_to_the_latest_version(ours: Record, theirs: Record) -> Record:
    both = merge(ours, theirs)
    return msgspec.structs.replace(both, versions=(max(both.versions, key=lambda version: version.write.stamp),))


def merge_without_what_only_we_have(ours: Record, theirs: Record) -> Record:
    return msgspec.structs.replace(merge(ours, theirs), versions=theirs.versions)


def create_as_a_write(record: Record | None, stamp: Stamp, seq: int, fields: Mapping[str, Value]) -> Record:
    return written(USER, record, stamp, seq, fields)


def create_without_deletions(record: Record | None, stamp: Stamp, seq: int, fields: Mapping[str, Value]) -> Record:
    anew = created(record, stamp, seq, fields)
    return msgspec.structs.replace(anew, versions=(msgspec.structs.replace(anew.versions[0], deletions={}),))


def dead_by_the_other_rule(kind: Kind, record: Record) -> bool:
    return is_dead(msgspec.structs.replace(kind, delete_wins=not kind.delete_wins), record)


def values_without_resolvers(kind: Kind, record: Record) -> dict[str, Value]:
    return values_of(msgspec.structs.replace(kind, resolvers={}), record)


MISTAKES = {
    "merge that ignores contexts": (PROJECT, Rules(merge=merge_without_contexts)),
    "merge that keeps the latest version only": (PROJECT, Rules(merge=merge_to_the_latest_version)),
    "merge that loses our versions": (PROJECT, Rules(merge=merge_without_what_only_we_have)),
    "create that keeps old fields": (USER, Rules(create=create_as_a_write)),
    "create that forgets the deletion": (USER, Rules(create=create_without_deletions)),
    "write that wins over a deletion": (USER, Rules(is_dead=dead_by_the_other_rule)),
    "deletion that wins over a write": (PROJECT, Rules(is_dead=dead_by_the_other_rule)),
    "latest role instead of the weakest": (MEMBER, Rules(values=values_without_resolvers)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_the_rules_is_found(mistake: str) -> None:
    kind, rules = MISTAKES[mistake]

    def is_wrong(history: History) -> bool:
        try:
            require_right(history)
        except AssertionError:
            return True
        return False

    found = hypothesis.find(histories(kind, rules), is_wrong, settings=GENERATE_ONLY)
    assert found.events
