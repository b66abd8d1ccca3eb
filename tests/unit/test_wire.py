"""What older releases say and understand: recorded frames are read and answered, and a version is agreed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from tests.support.streams import Agent, Stream, new_store, until
from twinhull.kit.clock import SystemClock
from twinhull.kit.errors import ProtocolError
from twinhull.records.kinds import MANIFEST, PROJECT
from twinhull.replication import protocol
from twinhull.replication.protocol import (
    NEWEST_PROTOCOL,
    OLDEST_PROTOCOL,
    Hello,
    Welcome,
    check_greeting,
    decode_from_source,
    decode_from_subscriber,
    encode,
)

RECORDED: Final = Path(__file__).parents[1] / "data" / "wire"
SUBSCRIBER: Final = ("hello", "ack", "ping")
LIMIT_S: Final = 10
# Where an older node's question has another name today.
RENAMED: Final[dict[str, str]] = {}


def recorded(version: int) -> dict[str, Any]:
    """Return what a release sent that spoke this version: frames, bodies of requests and answers, and their fields."""
    document = msgspec.msgpack.decode((RECORDED / f"protocol-{version}.msgpack").read_bytes())
    assert isinstance(document, dict)
    return document


OLD: Final = recorded(1)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads for the database."""
    with ThreadPoolExecutor(4) as threads:
        yield threads


@pytest.fixture
async def agent(tmp_path: Path, threads: ThreadPoolExecutor) -> AsyncIterator[Agent]:
    """A node of this release."""
    agent = Agent(new_store(tmp_path, "0b", 1, SystemClock()), threads, SystemClock())
    yield agent
    await agent.close()


def test_every_version_that_is_spoken_was_recorded() -> None:
    assert {int(path.stem.partition("-")[2]) for path in RECORDED.iterdir()} >= set(range(OLDEST_PROTOCOL, NEWEST_PROTOCOL))


@pytest.mark.parametrize("name", OLD["frames"])
def test_frame_of_an_older_release_is_read(name: str) -> None:
    read = decode_from_subscriber if name in SUBSCRIBER else decode_from_source
    frame = read(OLD["frames"][name])
    said, again = msgspec.msgpack.decode(OLD["frames"][name]), msgspec.msgpack.decode(encode(frame))
    assert {field: again[field] for field in said} == said, "nothing of it is lost"


@pytest.mark.parametrize("name", OLD["bodies"])
def test_question_or_answer_of_an_older_release_is_read(name: str) -> None:
    body = msgspec.msgpack.decode(OLD["bodies"][name], type=getattr(protocol, RENAMED.get(name, name)))
    said, again = msgspec.msgpack.decode(OLD["bodies"][name]), msgspec.msgpack.decode(msgspec.msgpack.encode(body))
    assert {field: again[field] for field in said} == said


def test_question_for_the_summary_is_read_as_it_was_asked_first() -> None:
    asked = msgspec.msgpack.decode(OLD["bodies"]["RecordQuery"], type=protocol.SummaryQuery)
    assert not asked.is_brief


@pytest.mark.parametrize("name", OLD["fields"])
def test_older_release_finds_all_that_it_looks_for(name: str) -> None:
    form = getattr(protocol, RENAMED.get(name, name))
    assert set(OLD["fields"][name]) <= set(form.__struct_fields__)


async def test_subscriber_of_an_older_release_is_served(agent: Agent) -> None:
    agent.write("p", n="1")
    stream = Stream()
    serving = asyncio.get_running_loop().create_task(agent.serve(stream))
    agent.tasks.append(serving)
    for name in SUBSCRIBER:
        # As it was recorded, but that it has nothing of this node yet.
        await stream.out.put(OLD["frames"][name].replace(b"\xa20b\x04", b"\xa20b\x00").replace(b"\xa20b\x02", b"\xa20b\x00"))
    async with asyncio.timeout(LIMIT_S):
        tags = []
        while "pong" not in tags:
            packed = await stream.back.receive()
            assert packed is not None
            frame = msgspec.msgpack.decode(packed)
            tags.append(frame["t"])
            if frame["t"] == "welcome":
                assert frame["protocol"] == 1, "an older release looks at this alone, and wants to find its own version"
    assert tags == ["welcome", "changes", "pong"]
    stream.end()


async def test_source_of_an_older_release_is_read_from(agent: Agent) -> None:
    puller, stream = agent.dials("0a")
    for name in ("welcome", "changes", "pong", "snapshot", "snapshot-end"):
        await stream.back.put(OLD["frames"][name])
    await until(lambda: agent.store.vector().get("0a") == 2)
    with agent.store.write() as transaction:
        assert (transaction.values(PROJECT, "old") or {})["owner"] == "admin"
    # Told after the commit, by the loop.
    await until(lambda: len(agent.arrived) >= 2)
    assert [change.kind for _, change in agent.arrived][:2] == [PROJECT.name, MANIFEST.name]
    hello = msgspec.msgpack.decode(await stream.out.receive() or b"")
    assert hello["protocol"] == 1
    assert "cannot" not in puller.last_error


@pytest.mark.parametrize(
    ("oldest", "newest", "spoken"),
    [(1, 0, 1), (1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 9, 2), (1, 9, 2)],
)
def test_newest_version_that_both_speak_is_spoken(oldest: int, newest: int, spoken: int) -> None:
    assert (OLDEST_PROTOCOL, NEWEST_PROTOCOL) == (1, 2)
    hello = Hello(protocol=oldest, newest=newest, cluster="c", node="n", vector={}, linked=[])
    welcome = Welcome(protocol=oldest, newest=newest, cluster="c", node="n", vector={})
    assert check_greeting(hello, cluster="c", node="n") == check_greeting(welcome, cluster="c", node="n") == spoken


def test_no_version_in_common_is_an_error_that_names_both() -> None:
    hello = Hello(protocol=3, newest=4, cluster="c", node="n", vector={}, linked=[])
    with pytest.raises(ProtocolError, match="speaks versions 3 to 4 of the protocol, this node 1 to 2"):
        check_greeting(hello, cluster="c", node="n")


async def test_both_sides_are_told_when_they_have_no_version_in_common(agent: Agent) -> None:
    puller, stream = agent.dials("0a")
    await stream.back.put(encode(Welcome(protocol=8, newest=9, cluster="cluster", node="0a", vector={})))
    await until(lambda: "upgrade the older node" in puller.last_error)
    await until(lambda: "upgrade the older node" in stream.reason)
