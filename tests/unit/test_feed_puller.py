"""A source's feed and a subscriber's puller over two real stores: order, catching up, promises, and broken lines."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.support.streams import Agent, HoldingExecutor, new_store, pause, until, value, write_many
from twinhull.kit.clock import Clock, ManualClock, SystemClock
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import ProtocolError
from twinhull.kit.hlc import MAX_AHEAD_MS
from twinhull.replication.protocol import (
    NEWEST_PROTOCOL,
    Hello,
    InlineBlob,
    Ping,
    UploadEnded,
    UploadGrew,
    check_greeting,
    decode_from_source,
    decode_from_subscriber,
    encode,
)

NewAgent = Callable[..., Agent]


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """Threads for the databases."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture
async def new_agent(tmp_path: Path, executor: ThreadPoolExecutor) -> AsyncIterator[NewAgent]:
    """Return what makes agents, which are closed after the test."""
    agents: list[Agent] = []

    def make(node: str, *, clock: Clock | None = None, threads: Executor = executor, **limits: float) -> Agent:
        clock = clock or SystemClock()
        agent = Agent(new_store(tmp_path, node, len(agents), clock), threads, clock, **limits)
        agents.append(agent)
        return agent

    yield make
    for agent in agents:
        await agent.close()


async def test_what_was_written_before_and_what_is_written_now_arrives_in_order(new_agent: NewAgent) -> None:
    a, b = new_agent("a"), new_agent("b")
    write_many(a.store, 450)
    b.reads_from(a)
    await until(lambda: len(b.arrived) >= 450)
    for number in range(5):
        a.write("now", n=str(number))
    await until(lambda: len(b.arrived) >= 455)
    assert [change.seq for _, change in b.arrived] == list(range(1, 456))
    assert value(b.store, "now", "n") == "4"
    assert a.store.state_root() == b.store.state_root()


async def test_writer_waits_until_the_reader_has_applied(new_agent: NewAgent) -> None:
    a, b = new_agent("a"), new_agent("b")
    b.reads_from(a)
    await until(lambda: a.acks.is_waited_for("b"))
    for number in range(20):
        assert await a.acks.wait(a.write("p", n=str(number))) == {"b"}
        assert value(b.store, "p", "n") == str(number)


async def test_both_ways_end_in_the_same_state(new_agent: NewAgent) -> None:
    a, b = new_agent("a"), new_agent("b")
    b.reads_from(a)
    a.reads_from(b)
    for number in range(30):
        (a if number % 2 else b).write(f"p{number % 7}", n=str(number))
    await until(lambda: a.store.vector() == b.store.vector() and len(a.store.vector()) == 2)
    assert a.store.state_root() == b.store.state_root()
    await until(lambda: a.acks.lag("b")[0] == b.acks.lag("a")[0] == 0)


async def test_reader_goes_on_where_it_was_when_the_line_broke(new_agent: NewAgent) -> None:
    a, b = new_agent("a"), new_agent("b")
    puller = b.reads_from(a)
    a.write("p", n="1")
    await until(lambda: value(b.store, "p", "n") == "1")
    a.streams[-1].end()
    await until(lambda: len(a.streams) == 2 and a.acks.is_waited_for("b"))
    a.write("p", n="2")
    await until(lambda: len(b.arrived) == 2)
    assert [change.seq for _, change in b.arrived] == [1, 2], "nothing came twice"
    assert puller.reachable


async def test_what_was_committed_when_the_line_broke_is_reported(new_agent: NewAgent, executor: Executor) -> None:
    holding = HoldingExecutor(executor)
    a, b = new_agent("a"), new_agent("b", threads=holding)
    b.reads_from(a)
    await until(lambda: a.acks.is_waited_for("b"))
    holding.hold()
    a.write("p", n="1")
    await until(lambda: value(b.store, "p", "n") == "1" and holding.held > 0)
    # The next ping finds the line broken, while the news of the commit is on its way.
    a.refuses = True
    line = a.streams[-1]
    line.end()
    await until(lambda: line.out.refused > 0)
    await pause(0.01)
    holding.release()
    await until(lambda: bool(b.arrived))
    assert b.vector() == {**a.store.vector(), "b": 0}


async def test_what_came_before_a_change_that_is_held_back_is_reported(new_agent: NewAgent) -> None:
    a, b = new_agent("a"), new_agent("b", clock=ManualClock(SystemClock().unix_ms() - 2 * MAX_AHEAD_MS))
    c = new_agent("c", clock=ManualClock(b.clock.unix_ms()))
    a.reads_from(c)
    c.write("early", n="1")
    await until(lambda: bool(a.arrived))
    a.write("late", n="1")
    puller = b.reads_from(a)
    await until(lambda: "clock" in puller.taking.reasons().get("a", ""))
    assert puller.connected
    assert [change.key for _, change in b.arrived] == ["early"]
    assert b.vector() == {"c": 1, "b": 0}


async def test_reader_that_finds_nobody_says_so_and_tries_again(new_agent: NewAgent) -> None:
    a, b = new_agent("a"), new_agent("b")
    a.refuses = True
    puller = b.reads_from(a)
    await until(lambda: not puller.reachable)
    assert "nobody listens" in puller.last_error
    assert not puller.connected
    a.refuses = False
    puller.heard_of()
    await until(lambda: puller.connected)
    assert puller.last_error == ""


async def test_answered_ping_vouches_for_as_long_as_the_source_promised(new_agent: NewAgent) -> None:
    a, b = new_agent("a"), new_agent("b")
    puller = b.reads_from(a)
    await until(lambda: puller.sure_until_s > b.clock.monotonic_s())
    promised_until_s = a.acks.peer("b").promised_until_s
    assert puller.sure_until_s <= promised_until_s, "the reader's lease ends no later than the source's promise"
    assert puller.complete


async def test_reader_that_is_not_waited_for_is_promised_nothing(new_agent: NewAgent) -> None:
    a, b = new_agent("a", lease_s=0.05), new_agent("b")
    puller = b.reads_from(a)
    await until(lambda: puller.sure_until_s > 0)
    # It lacks what it will never get, so it does not count as caught up however often it pings.
    a.acks.wrote({"elsewhere": 1_000_000})
    a.acks.suspects("b")
    heard_s = a.acks.peer("b").heard_s
    await until(lambda: a.acks.peer("b").heard_s > heard_s + 0.2)
    assert puller.connected
    assert puller.sure_until_s < b.clock.monotonic_s()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_no_write_is_acknowledged_that_a_sure_reader_lacks(new_agent: NewAgent, seed: int) -> None:
    a, b = new_agent("a", timeout_s=0.08, lease_s=0.06), new_agent("b", ping_s=0.005)
    puller = b.reads_from(a)
    await until(lambda: puller.sure_until_s > 0)
    acknowledged = -1
    draw = random.Random(seed)

    async def write_on() -> None:
        nonlocal acknowledged
        for number in itertools.count():
            await a.acks.wait(a.write("p", n=str(number)))
            acknowledged = number
            # Where nobody is waited for, nothing else makes way for the others.
            await pause(0.001)

    async def disturb() -> None:
        while True:
            pipe = draw.choice((a.streams[-1].back, a.streams[-1].out))
            pipe.open.clear()
            await pause(draw.random() * 0.12)
            if draw.random() < 0.1:
                a.streams[-1].end()
            pipe.open.set()
            await pause(draw.random() * 0.1)

    writing, disturbing = asyncio.ensure_future(write_on()), asyncio.ensure_future(disturb())
    checked = 0
    try:
        async with asyncio.timeout(20):
            while checked < 60 or acknowledged < 100:
                before = acknowledged
                if before >= 0 and puller.sure_until_s > b.clock.monotonic_s():
                    seen = value(b.store, "p", "n")
                    assert isinstance(seen, str)
                    assert int(seen) >= before
                    checked += 1
                await pause(0.001)
    finally:
        writing.cancel()
        disturbing.cancel()
        await asyncio.gather(writing, disturbing, return_exceptions=True)


async def test_reader_is_not_sure_while_it_lacks_what_the_source_has_from_others(new_agent: NewAgent) -> None:
    a, b, c = new_agent("a"), new_agent("b"), new_agent("c")
    # b says that it hears c, so a holds c's changes back for a while.
    from_c = b.reads_from(c)
    a.reads_from(c)
    await until(lambda: from_c.connected)
    puller = b.reads_from(a)
    await until(lambda: puller.sure_until_s > 0)
    # b's line to c is stuck, a's is not.
    stuck = next(stream for stream, feed in zip(c.streams, c.feeds, strict=True) if feed.peer == "b")
    stuck.back.open.clear()
    c.write("p", n="1")
    await until(lambda: value(a.store, "p", "n") == "1")
    puller.distrust()
    await until(lambda: puller.source_vector.get("c", 0) >= 1)
    # On a slow machine a's patience may have ended already, and then nothing is lacking.
    assert puller.sure_until_s == 0 or value(b.store, "p", "n") == "1"
    stuck.back.open.set()
    await until(lambda: puller.sure_until_s > 0)
    assert value(b.store, "p", "n") == "1"


async def test_changes_pass_through_a_node_between(new_agent: NewAgent) -> None:
    a, b, c = new_agent("a"), new_agent("b"), new_agent("c")
    b.reads_from(a)
    puller = c.reads_from(b)
    a.write("p", n="1")
    await until(lambda: bool(c.arrived))
    assert [(node, change.origin) for node, change in c.arrived] == [("b", "a")]
    await until(lambda: "a" in puller.peer_hears)
    await until(lambda: b.acks.lag("c")[0] == 0)


async def test_reader_says_what_it_lacks_without_being_sent_anything(new_agent: NewAgent) -> None:
    a, b = new_agent("a"), new_agent("b")
    b.lacking_bytes = 4711
    b.reads_from(a)
    await until(lambda: a.acks.lag("b")[1] == 4711)
    b.lacking_bytes = 0
    await until(lambda: a.acks.lag("b")[1] == 0)


async def test_newcomer_with_a_snapshot_has_everything(new_agent: NewAgent) -> None:
    a, b = new_agent("a"), new_agent("b")
    write_many(a.store, 700)
    with a.store.write() as transaction:
        # As after a compaction: what came first can be had as a snapshot only.
        transaction.reached({"gone": 5})
    puller = b.reads_from(a)
    await until(lambda: puller.complete)
    assert a.store.state_root()[1] == b.store.state_root()[1]
    assert b.store.vector() == a.store.vector()
    a.write("p1", n="after")
    await until(lambda: value(b.store, "p1", "n") == "after")


async def test_uploads_and_small_blobs_are_announced(new_agent: NewAgent) -> None:
    a, b = new_agent("a"), new_agent("b")
    b.reads_from(a)
    await until(lambda: bool(a.feeds))
    for frame in (
        UploadGrew(upload_id="u1"),
        UploadEnded(upload_id="u1", digest=digest_of(b"large")),
        UploadEnded(upload_id="u2", digest=None),
        InlineBlob(digest=digest_of(b"small"), content=b"small"),
    ):
        a.feeds[0].offer(frame)
    await until(lambda: bool(b.inlined))
    assert b.uploads == [("u1", None), ("u1", digest_of(b"large")), ("u2", "")]
    assert b.inlined == {digest_of(b"small"): b"small"}


async def test_stopped_feed_ends_and_its_peer_is_not_waited_for(new_agent: NewAgent) -> None:
    a, b = new_agent("a", timeout_s=30, lease_s=0), new_agent("b")
    b.reads_from(a)
    await until(lambda: a.acks.is_waited_for("b"))
    a.refuses = True
    feed = a.feeds[0]
    feed.stop()
    await until(lambda: feed not in a.feeds)
    assert await asyncio.wait_for(a.acks.wait(a.write("p")), 5) == set()


async def test_peer_of_another_cluster_release_or_name_is_told_so() -> None:
    hello = Hello(protocol=NEWEST_PROTOCOL, cluster="c", node="n", vector={}, linked=[])
    check_greeting(hello, cluster="c", node="n")
    with pytest.raises(ProtocolError, match="another cluster"):
        check_greeting(hello, cluster="d", node="n")
    with pytest.raises(ProtocolError, match="certificate says m"):
        check_greeting(hello, cluster="c", node="m")
    later = Hello(protocol=NEWEST_PROTOCOL + 1, cluster="c", node="n", vector={}, linked=[])
    with pytest.raises(ProtocolError, match="upgrade the older node"):
        check_greeting(later, cluster="c", node="n")


@pytest.mark.parametrize("packed", [b"", b"\xc1", b"\x81\xa1t\xa4none", b"\x80", b"\xff" * 40])
def test_frame_that_cannot_be_read_is_refused(packed: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_from_source(packed)
    with pytest.raises(ProtocolError):
        decode_from_subscriber(packed)


def test_frame_comes_out_as_it_went_in() -> None:
    ping = Ping(number=1, vector={"a": 2}, linked=["b"], missing_bytes=3)
    assert decode_from_subscriber(encode(ping)) == ping


@pytest.mark.parametrize("damage", ["UPDATE changes SET key = 'p9' WHERE seq = 3", "DELETE FROM changes WHERE seq >= 3"])
async def test_change_that_is_damaged_in_the_log_reaches_the_reader_with_all_records_instead(
    new_agent: NewAgent, damage: str
) -> None:
    a, b = new_agent("a"), new_agent("b")
    for number in range(4):
        a.write(f"p{number}", n=str(number))
    with a.store.write() as transaction:
        transaction.connection.execute(text(damage))
    b.reads_from(a)
    await until(lambda: b.store.vector() == a.store.vector())
    assert b.store.state_root() == a.store.state_root()
    assert len(a.streams) == 2
    a.write("after", n="1")
    await until(lambda: value(b.store, "after", "n") == "1")
    assert len(a.streams) == 2
