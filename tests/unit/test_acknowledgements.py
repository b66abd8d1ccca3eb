"""Who is waited for, for how long, and what a peer was promised."""

from __future__ import annotations

import asyncio

import pytest

from twinhull.kit.clock import ManualClock
from twinhull.replication.acknowledgements import Acknowledgements

TIMEOUT_S = 0.02
LEASE_S = 0.015


class Told:
    """A source, `a`, its clock, and what it told of its promises."""

    def __init__(self, timeout_s: float = TIMEOUT_S, lease_s: float = LEASE_S, inherited_s: float = 0.0) -> None:
        self.clock = ManualClock()
        self.promises: list[float] = []
        self.acks = Acknowledgements(
            "a",
            self.clock,
            timeout_s=timeout_s,
            lease_s=lease_s,
            inherited_s=inherited_s,
            on_promise=self.promises.append,
        )

    def reads(self, node: str, seq: int = 0) -> None:
        """Let a peer subscribe that has so many of a's changes."""
        self.acks.subscribed(node, {"a": seq}, [])

    def has(self, node: str, seq: int, **others: int) -> None:
        """Let a peer confirm so many of a's changes."""
        self.acks.acknowledged(node, {"a": seq, **others}, [], 0)

    def wrote(self, seq: int) -> None:
        """Write so many changes in all."""
        self.acks.wrote({"a": seq})

    def waiting(self, seq: int) -> asyncio.Task[set[str]]:
        """Wait for a change in the background."""
        return asyncio.get_running_loop().create_task(self.acks.wait(seq))


async def settle() -> None:
    """Let what can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_wait_returns_at_once_when_nobody_reads() -> None:
    told = Told()
    told.wrote(1)
    assert await told.acks.wait(1) == set()


async def test_wait_returns_when_the_last_of_those_waited_for_has_confirmed() -> None:
    told = Told(timeout_s=30)
    for node in ("b", "c"):
        told.reads(node)
    told.wrote(1)
    waiting = told.waiting(1)
    await settle()
    told.has("b", 1)
    await settle()
    assert not waiting.done()
    told.has("c", 1)
    assert await waiting == {"b", "c"}


async def test_confirming_an_earlier_change_is_not_enough() -> None:
    told = Told(timeout_s=30)
    told.reads("b")
    told.wrote(2)
    waiting = told.waiting(2)
    await settle()
    told.has("b", 1)
    await settle()
    assert not waiting.done()
    told.has("b", 2)
    assert await waiting == {"b"}


async def test_silent_peer_is_suspect_after_the_limit_and_waited_for_again_once_it_has_caught_up() -> None:
    told = Told()
    told.reads("b")
    told.wrote(1)
    assert await told.acks.wait(1) == set()
    assert not told.acks.is_waited_for("b")
    told.wrote(2)
    assert await told.acks.wait(2) == set()
    told.has("b", 1)
    assert told.acks.is_waited_for("b"), "it has what it lacked when it became suspect, and nearly all the rest"
    assert told.acks.lag("b")[0] == 1


async def test_peer_that_leaves_is_not_waited_for_any_longer() -> None:
    told = Told(timeout_s=30)
    told.reads("b")
    told.wrote(1)
    waiting = told.waiting(1)
    await settle()
    told.acks.lost("b")
    assert await waiting == set()
    told.reads("b")
    told.wrote(2)
    waiting = told.waiting(2)
    await settle()
    told.acks.forget("b")
    assert await waiting == set()
    assert list(told.acks.peers()) == []


async def test_peer_that_is_far_behind_is_waited_for_only_once_it_is_near() -> None:
    told = Told()
    told.wrote(10_000)
    told.reads("b")
    assert not told.acks.is_waited_for("b")
    assert await told.acks.wait(10_000) == set()
    told.has("b", 9_000)
    assert not told.acks.is_waited_for("b")
    told.wrote(20_000)
    told.has("b", 10_000)
    assert not told.acks.is_waited_for("b"), "more was written than it could take meanwhile"
    told.has("b", 20_000)
    assert told.acks.is_waited_for("b")


async def test_changes_of_the_peer_itself_are_none_that_it_lacks() -> None:
    told = Told()
    told.acks.wrote({"a": 1, "b": 700})
    told.reads("b", 1)
    assert told.acks.is_waited_for("b")
    assert told.acks.lag("b")[0] == 0


async def test_peer_that_has_heard_of_a_change_elsewhere_has_confirmed_it() -> None:
    told = Told(timeout_s=30)
    told.reads("b")
    told.acks.wrote({"a": 1, "c": 5})
    waiting = told.waiting(1)
    await settle()
    told.has("b", 1, c=5)
    assert await waiting == {"b"}
    assert told.acks.lag("b") == (0, 0, 0.0)


async def test_promise_is_made_only_to_those_that_are_waited_for() -> None:
    told = Told()
    assert told.acks.promise("b") == 0
    told.reads("b")
    assert told.acks.promise("b") == LEASE_S
    assert told.promises == [LEASE_S]
    told.acks.suspects("b")
    assert told.acks.promise("b") == 0
    told.acks.lost("b")
    assert told.acks.promise("b") == 0


async def test_promise_is_kept_when_the_peer_becomes_suspect() -> None:
    told = Told(timeout_s=60, lease_s=0.2)
    told.reads("b")
    told.wrote(1)
    assert told.acks.promise("b")
    # An earlier write has run out of patience.
    told.acks.suspects("b")
    waiting = told.waiting(1)
    await settle()
    assert not waiting.done(), "b may still answer alone, and lacks the write"
    told.has("b", 1)
    assert await waiting == {"b"}


async def test_promise_is_kept_when_the_connection_breaks() -> None:
    told = Told(timeout_s=60, lease_s=30)
    told.reads("b")
    told.wrote(1)
    waiting = told.waiting(1)
    assert told.acks.promise("b")
    await settle()
    told.acks.lost("b")
    await settle()
    assert not waiting.done()
    told.has("b", 1)
    assert await waiting == {"b"}


async def test_promise_runs_out() -> None:
    told = Told(lease_s=0.015)
    told.reads("b")
    told.wrote(1)
    assert told.acks.promise("b")
    told.acks.lost("b")
    waiting = told.waiting(1)
    await settle()
    assert not waiting.done()
    told.clock.advance(16)
    assert await asyncio.wait_for(waiting, 5) == set()
    assert await told.acks.wait(1) == set()


async def test_promise_does_not_make_a_waiting_write_wait_longer_than_its_limit() -> None:
    told = Told(timeout_s=2, lease_s=1.5)
    told.reads("b")
    told.wrote(1)
    waiting = told.waiting(1)
    await settle()
    told.clock.advance(400)
    assert told.acks.promise("b") == 1.5
    told.clock.advance(200)
    assert told.acks.promise("b") == 0
    told.has("b", 1)
    assert await waiting == {"b"}
    assert told.acks.promise("b") == 1.5


async def test_promise_of_an_earlier_life_is_kept() -> None:
    told = Told(inherited_s=0.015)
    told.wrote(1)
    waiting = told.waiting(1)
    await settle()
    assert not waiting.done()
    assert await asyncio.wait_for(waiting, 5) == set()
    told.clock.advance(16)
    assert await told.acks.wait(1) == set()


async def test_cancelled_wait_leaves_nothing_behind() -> None:
    told = Told(timeout_s=30)
    told.reads("b")
    told.wrote(1)
    waiting = told.waiting(1)
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    told.has("b", 1)
    assert told.acks.is_waited_for("b")


async def test_lag_tells_changes_bytes_and_the_age_of_the_oldest() -> None:
    told = Told()
    told.reads("b")
    told.wrote(1)
    told.clock.advance(3000)
    told.wrote(4)
    told.clock.advance(2000)
    told.acks.acknowledged("b", {"a": 0}, [], 77)
    assert told.acks.lag("b") == (4, 77, 5.0)
    told.acks.acknowledged("b", {"a": 1}, [], 0)
    assert told.acks.lag("b") == (3, 0, 2.0)
    told.has("b", 4)
    assert told.acks.lag("b") == (0, 0, 0.0)
