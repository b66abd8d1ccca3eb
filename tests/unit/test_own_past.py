"""A node whose log went back in time finds that out by its peers' greetings, goes on under another origin, takes all back."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.streams import Agent, new_store, until, value, write, write_many
from twinhull.kit.clock import SystemClock
from twinhull.metadata.incarnation import ELSEWHERE, move
from twinhull.metadata.store import Store
from twinhull.records.change import node_of
from twinhull.records.kinds import PROJECT
from twinhull.replication.apply import apply_changes
from twinhull.replication.own_past import settle_by_answers


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """Threads for the databases."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture
async def agents() -> AsyncIterator[list[Agent]]:
    """Agents to close after the test."""
    made: list[Agent] = []
    yield made
    await asyncio.gather(*(agent.close() for agent in made))


def old_copy(tmp_path: Path, clock: SystemClock) -> tuple[Store, Store]:
    """Return node a after 20 changes, and a copy that was made after 8 of them."""
    store = new_store(tmp_path, "a", 0, clock)
    write_many(store, 8)
    store.close()
    shutil.copytree(tmp_path / "a", tmp_path / "copy" / "a")
    store = new_store(tmp_path, "a", 0, clock)
    for number in range(12):
        write(store, f"later{number}", n="1")
    return store, new_store(tmp_path / "copy", "a", 0, clock)


async def test_node_goes_on_under_another_origin_when_a_peer_knows_more_of_it(
    tmp_path: Path, executor: ThreadPoolExecutor, agents: list[Agent]
) -> None:
    clock = SystemClock()
    whole, copy = old_copy(tmp_path, clock)
    before, peer, restored = (Agent(store, executor, clock) for store in (whole, new_store(tmp_path, "b", 1, clock), copy))
    agents.extend((before, peer, restored))
    peer.reads_from(before)
    await until(lambda: peer.store.vector() == {"a": 20})
    await before.close()

    restored.reads_from(peer)
    peer.pullers.clear()
    peer.reads_from(restored)
    await until(lambda: restored.store.origin != "a")
    assert node_of(restored.store.origin) == "a"
    restored.write("new", n="2")
    await until(lambda: restored.store.vector() == {"a": 20, restored.store.origin: 1} == peer.store.vector())

    assert value(restored.store, "later11", "n") == "1"
    assert value(peer.store, "new", "n") == "2"
    assert restored.store.state_root() == peer.store.state_root()
    # What it writes is waited for under the new origin.
    await until(lambda: restored.acks.is_waited_for("b"))
    assert await restored.acks.wait(restored.write("new", n="3")) == {"b"}
    assert peer.store.vector()[restored.store.origin] == 2


async def test_node_begins_one_new_life_when_several_peers_know_more_of_it(
    tmp_path: Path, executor: ThreadPoolExecutor, agents: list[Agent]
) -> None:
    clock = SystemClock()
    whole, copy = old_copy(tmp_path, clock)
    before, restored = Agent(whole, executor, clock), Agent(copy, executor, clock)
    others = [Agent(new_store(tmp_path, node, slot, clock), executor, clock) for slot, node in enumerate("bcd", start=1)]
    agents.extend((before, restored, *others))
    for other in others:
        other.reads_from(before)
    await until(lambda: all(other.store.vector() == {"a": 20} for other in others))
    await before.close()

    for other in others:
        restored.reads_from(other)
    await until(lambda: restored.store.vector().get("a") == 20)
    restored.write("new", n="1")

    lives = {change.origin for _, change in restored.store.changes_since(0, 1000)}
    assert lives == {"a", restored.store.origin}
    await until(lambda: all(puller.connected for puller in restored.pullers.values()))


def test_what_a_peer_was_told_of_the_forgotten_time_is_not_taken_for_what_is_written_now(tmp_path: Path) -> None:
    clock = SystemClock()
    before, restored = old_copy(tmp_path, clock)
    peer = new_store(tmp_path, "b", 1, clock)
    apply_changes(peer, [change for _, change in before.changes_of("a", 0, 8)])
    # An answer to a question, ahead of the stream: no vector tells of it.
    told = before.record(PROJECT.name, "later0")
    assert told is not None
    with peer.write() as transaction:
        transaction.merge_record(told)

    restored.settle()
    with restored.write() as transaction:
        move(transaction.connection, "a", ELSEWHERE)
    settle_by_answers(restored, [peer.vector()])
    write(restored, "later0", n="2")
    with restored.write() as transaction:
        transaction.merge_record(told)
    apply_changes(
        peer, [change for _, change in restored.changes_of(restored.origin, peer.vector().get(restored.origin, 0), 100)]
    )
    assert value(restored, "later0", "n") == value(peer, "later0", "n") == "2"
    assert restored.state_root()[1] == peer.state_root()[1]


async def test_node_that_peers_know_no_more_of_keeps_its_origin(
    tmp_path: Path, executor: ThreadPoolExecutor, agents: list[Agent]
) -> None:
    clock = SystemClock()
    a, b = (Agent(new_store(tmp_path, node, slot, clock), executor, clock) for slot, node in enumerate("ab"))
    agents.extend((a, b))
    a.reads_from(b)
    b.reads_from(a)
    a.write("one", n="1")
    await until(lambda: b.store.vector() == {"a": 1})
    assert a.store.origin == "a"
