"""Changes that can't be taken: their origin is held up and all others go on, both sides say why, and it is tried again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import msgspec
import pytest

from tests.support.streams import Agent, new_store, until, value
from twinhull.kit.clock import Clock, ManualClock, SystemClock
from twinhull.kit.errors import SnapshotRefused
from twinhull.kit.hlc import MAX_AHEAD_MS, Stamp
from twinhull.metadata.store import Store
from twinhull.records.change import Change
from twinhull.records.kinds import MANIFEST, PROJECT
from twinhull.records.merge import Value, created, encode
from twinhull.replication.apply import apply_changes, apply_page, merge_records
from twinhull.replication.engine import Engine
from twinhull.replication.mending import Mending
from twinhull.replication.protocol import SnapshotPage
from twinhull.replication.taking import Taking

NewAgent = Callable[..., Agent]
DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """Threads for the databases."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture
async def new_agent(tmp_path: Path, executor: ThreadPoolExecutor) -> AsyncIterator[NewAgent]:
    """Return what makes agents, which are closed after the test."""
    agents: list[Agent] = []

    def make(node: str, *, clock: Clock | None = None) -> Agent:
        clock = clock or SystemClock()
        agent = Agent(new_store(tmp_path, node, len(agents), clock), executor, clock)
        agents.append(agent)
        return agent

    yield make
    for agent in agents:
        await agent.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A node's metadata."""
    store = new_store(tmp_path, "n", 0, SystemClock())
    yield store
    store.close()


def change_of(
    origin: str, seq: int, *, kind: str = PROJECT.name, key: str = "", fields: Mapping[str, Value] | None = None
) -> Change:
    """Return a change that makes a thing, by whoever."""
    record = created(None, Stamp(SystemClock().unix_ms(), 0, origin), seq, fields or {"owner": "x"})
    return Change(origin=origin, seq=seq, kind=kind, key=key or f"{origin}-{seq}", record=encode(record))


def future_change(origin: str, seq: int) -> Change:
    """Return a change whose writer's clock is an hour ahead."""
    record = created(None, Stamp(SystemClock().unix_ms() + 3_600_000, 0, origin), seq, {"owner": "x"})
    return Change(origin=origin, seq=seq, kind=PROJECT.name, key=f"{origin}-{seq}", record=encode(record))


def later_field(change: Change) -> Change:
    """Return the change with one field that pretends to be of tomorrow, which would win over every other write."""
    form, context, versions = msgspec.msgpack.decode(change.record)
    writes, deleted, fields, *rest = versions[0]
    ms, *other = writes[0]
    packed = [form, context, [[[*writes, [ms + 86_400_000, *other]], deleted, {**fields, "owner": [len(writes), "x"]}, *rest]]]
    return msgspec.structs.replace(change, record=msgspec.msgpack.encode(packed))


def said_to_have_seen(change: Change, seen: dict[str, int]) -> Change:
    """Return the change with another context."""
    form, context, versions = msgspec.msgpack.decode(change.record)
    return msgspec.structs.replace(change, record=msgspec.msgpack.encode([form, {**context, **seen}, versions]))


BAD = {
    "unknown kind": change_of("bad", 1, kind="nonsense"),
    "no record": Change(origin="bad", seq=1, kind=PROJECT.name, key="p", record=b"\xc1"),
    "gap": change_of("bad", 7),
    "clock an hour ahead": future_change("bad", 1),
    "field of tomorrow": later_field(change_of("bad", 1)),
    "fields of other types": change_of("bad", 1, kind=MANIFEST.name, key=f"library/a@{DIGEST}", fields={"blobs": [1, 2]}),
    "value that no column takes": change_of("bad", 1, kind=MANIFEST.name, key=f"a/b@{DIGEST}", fields={"blobs": [[[], 1, 1]]}),
    "key that is none": change_of("bad", 1, kind="member", key="nothing"),
    "bytes of another manifest": msgspec.structs.replace(
        change_of("bad", 1, kind=MANIFEST.name, key=f"library/a@{DIGEST}"), content=b"{}"
    ),
    "our own that we never made": change_of("n", 1),
    "has seen what we never wrote": said_to_have_seen(change_of("bad", 1), {"n": 1000}),
    "no origin": change_of("", 1),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_change_is_not_applied_in_part_and_stops_no_other_origin(store: Store, name: str) -> None:
    bad = BAD[name]
    batch = [change_of("good", 1), bad, msgspec.structs.replace(change_of("bad", bad.seq + 1), origin=bad.origin)]
    applied = apply_changes(store, [*batch, change_of("good", 2), change_of("other", 1)])
    assert [(change.origin, change.seq) for change in applied.changes] == [("good", 1), ("good", 2), ("other", 1)]
    assert applied.vector == {"good": 2, "other": 1}
    assert list(applied.held) == [bad.origin]
    assert applied.held[bad.origin].reason
    assert applied.failure is None
    assert store.record(bad.kind, bad.key) is None
    # Nor does it slow the others down: they go on in one transaction, and the bad one's successors are not even tried.
    later = msgspec.structs.replace(change_of("bad", bad.seq + 2), origin=bad.origin)
    again = apply_changes(store, [change_of("good", 3), later, change_of("other", 2)], applied.held)
    assert again.vector == {"good": 3, "other": 2}
    assert again.held == applied.held


def test_fields_that_a_newer_release_adds_are_kept(store: Store) -> None:
    assert not apply_changes(store, [change_of("newer", 1, key="p", fields={"owner": "x", "colour": ["red"]})]).held
    with store.write() as transaction:
        assert (transaction.values(PROJECT, "p") or {})["colour"] == ["red"]
        transaction.put(PROJECT, "p", {"owner": "y"})
        assert (transaction.values(PROJECT, "p") or {})["colour"] == ["red"]


def test_held_origin_goes_on_once_what_was_due_can_be_taken(store: Store) -> None:
    first = apply_changes(store, [change_of("late", 2), change_of("late", 3)])
    assert first.held["late"].seq == 0
    second = apply_changes(store, [change_of("late", 1), change_of("late", 2), change_of("late", 3)], first.held)
    assert second.vector == {"late": 3}
    assert not second.held


def test_snapshot_with_a_bad_record_is_taken_but_for_that_and_never_called_complete(store: Store) -> None:
    records = [msgspec.structs.replace(change, origin="", seq=0) for change in (change_of("a", 1), BAD["unknown kind"])]
    applied = apply_page(store, SnapshotPage(records=records, vector={"a": 1, "bad": 1}))
    assert [change.key for change in applied.changes] == ["a-1"]
    assert applied.vector == {}
    with pytest.raises(SnapshotRefused, match="unknown to this release"):
        applied.require_all()
    assert store.record(PROJECT.name, "a-1") is not None


def test_answer_with_a_bad_record_is_taken_but_for_that(store: Store) -> None:
    good = change_of("a", 1)
    merged = merge_records(store, [BAD["clock an hour ahead"], good])
    assert (merged.taken, merged.changed, len(merged.refused)) == ([good], [good], 1)
    assert merge_records(store, [good]) == ([good], [], [])


@pytest.mark.parametrize("name", ["no record", "fields of other types", "key that is none", "value that no column takes"])
async def test_record_for_mending_that_is_bad_keeps_no_other_away(new_agent: NewAgent, tmp_path: Path, name: str) -> None:
    agent = new_agent("a")
    # It has all that is used of an engine here.
    mending = Mending(cast("Engine", agent), tmp_path / "scratch")
    good = change_of("b", 1)
    assert await mending.take("b", [BAD[name], good]) == 1
    assert await mending.take("b", [BAD[name], good]) == 0, "it is here already"
    assert agent.arrived == [("b", good)]


async def test_both_sides_say_why_and_everything_comes_when_the_clock_has_caught_up(new_agent: NewAgent) -> None:
    slow = ManualClock(SystemClock().unix_ms() - 2 * MAX_AHEAD_MS)
    a, b = new_agent("a"), new_agent("b", clock=slow)
    c = new_agent("c", clock=slow)
    a.reads_from(c)
    puller = b.reads_from(a)
    a.write("ahead", n="1")
    await until(lambda: bool(a.feeds) and "clock" in a.feeds[0].held_there.get("a", ""))
    assert "clock" in puller.taking.reasons()["a"]
    c.write("in-time", n="1")
    await until(lambda: value(b.store, "in-time", "n") == "1")
    assert value(b.store, "ahead", "n") is None
    assert puller.connected
    slow.advance(2 * MAX_AHEAD_MS)
    await until(lambda: value(b.store, "ahead", "n") == "1")
    await until(lambda: not a.feeds[0].held_there)
    assert not puller.taking.reasons()


async def test_what_was_lost_on_the_way_is_sent_again(new_agent: NewAgent) -> None:
    a, b = new_agent("a"), new_agent("b")
    b.reads_from(a)
    await until(lambda: a.acks.is_waited_for("b"))
    a.streams[0].back.loses = 1
    a.write("p", n="1")
    await until(lambda: a.streams[0].back.loses == 0)
    a.write("p", n="2")
    await until(lambda: len(b.arrived) == 2)
    assert value(b.store, "p", "n") == "2"
    assert [change.seq for _, change in b.arrived] == [1, 2]


async def test_subscriber_that_says_it_has_what_was_never_made_is_turned_away(new_agent: NewAgent) -> None:
    a, b = new_agent("a"), new_agent("b")
    puller = b.reads_from(a)
    a.write("p", n="1")
    await until(lambda: a.acks.is_waited_for("b"))
    b.settled_as({"a": 1000})
    await until(lambda: len(a.streams) > 1)
    assert a.acks.peer("b").vector.get("a", 0) <= 1
    assert puller.node == "a"


async def test_source_that_talks_nonsense_is_told_so(new_agent: NewAgent) -> None:
    a, b = new_agent("a"), new_agent("b")
    puller = b.reads_from(a)
    await until(lambda: a.acks.is_waited_for("b"))
    await a.streams[0].back.put(b"\xc1nonsense")
    await until(lambda: "cannot be read" in puller.last_error)
    await until(lambda: "cannot be read" in a.streams[0].reason)


async def test_origin_is_said_to_be_held_up_no_more_once_another_peer_has_brought_what_was_due(new_agent: NewAgent) -> None:
    agent = new_agent("a")
    taking = Taking("b", agent.store, agent, agent.executor)
    first, second, third = (change_of("late", seq) for seq in (1, 2, 3))
    await taking.changes([third])
    assert "1 was due" in taking.reasons()["late"]
    # Nothing of that origin may come over this stream for days.
    agent.settled_as(apply_changes(agent.store, [first, second]).vector)
    assert taking.reasons() == {}
    assert await taking.changes([third]) == {"late": 3}


def test_origin_that_is_held_up_goes_on_when_another_peer_has_brought_what_was_due(store: Store) -> None:
    first, second, third = (change_of("late", seq) for seq in (1, 2, 3))
    held = apply_changes(store, [first, third]).held
    assert apply_changes(store, [second]).vector == {"late": 2}
    # Its source has heard that, and sends what comes after it.
    again = apply_changes(store, [third], held)
    assert again.vector == {"late": 3}
    assert again.held == {}
