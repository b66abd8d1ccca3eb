"""A registry that is down is asked once in a while, and not by everybody."""

from __future__ import annotations

import asyncio

import pytest

from twinhull.kit.clock import ManualClock
from twinhull.kit.errors import RegistryUnreachable
from twinhull.mirror.reached import HELD_MAX_S, HOLDS_S, Reached

URL = "http://one"


class Registry:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_down = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def check(self) -> None:
        """Answer, or not."""
        self.asked += 1
        await self.answers.wait()
        if self.is_down:
            raise RegistryUnreachable("registry http://one does not answer")


async def test_one_that_is_down_is_not_asked_again_at_once() -> None:
    clock, registry = ManualClock(), Registry()
    reached = Reached(clock)
    registry.is_down = True
    for _ in range(5):
        with pytest.raises(RegistryUnreachable, match="http://one does not answer"):
            await reached.require(URL, registry.check)
    assert registry.asked == 1
    registry.is_down = False
    clock.advance(int(HOLDS_S * 1000) + 1)
    await reached.require(URL, registry.check)
    await reached.require(URL, registry.check)
    assert registry.asked == 2


async def test_one_that_is_down_says_nothing_of_another() -> None:
    reached = Reached(ManualClock())
    down, up = Registry(), Registry()
    down.is_down = True
    with pytest.raises(RegistryUnreachable):
        await reached.require(URL, down.check)
    await reached.require("http://two", up.check)
    assert up.asked == 1


async def test_one_that_is_silent_holds_up_one_task_and_not_for_long() -> None:
    clock, registry = ManualClock(), Registry()
    reached = Reached(clock, limit_s=0.01)
    registry.answers.clear()
    with pytest.raises(RegistryUnreachable, match="in time"):
        await reached.require(URL, registry.check)
    clock.advance(int(HOLDS_S * 1000) + 1)
    asking = asyncio.ensure_future(reached.require(URL, registry.check))
    await asyncio.sleep(0)
    with pytest.raises(RegistryUnreachable, match="in time"):
        await reached.require(URL, registry.check)
    assert not asking.done()
    with pytest.raises(RegistryUnreachable, match="in time"):
        await asking
    assert registry.asked == 2


async def test_one_that_wants_to_be_left_alone_is() -> None:
    clock, registry = ManualClock(), Registry()
    reached = Reached(clock)
    await reached.require(URL, registry.check)
    reached.hold(URL, 60, "registry http://one takes no more requests for now")
    clock.advance(59_000)
    with pytest.raises(RegistryUnreachable, match="no more requests"):
        await reached.require(URL, registry.check)
    clock.advance(2_000)
    await reached.require(URL, registry.check)
    assert registry.asked == 2
    reached.hold(URL, 10**6, "for ever")
    clock.advance(int(HELD_MAX_S * 1000) + 1)
    await reached.require(URL, registry.check)


async def test_all_who_come_first_wait_for_one_answer() -> None:
    reached, registry = Reached(ManualClock()), Registry()
    await asyncio.gather(*(reached.require(URL, registry.check) for _ in range(5)))
    assert registry.asked == 1


async def test_whoever_is_stopped_while_asking_stops_nobody_else() -> None:
    reached, registry = Reached(ManualClock()), Registry()
    registry.answers.clear()
    first, second = (asyncio.ensure_future(reached.require(URL, registry.check)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    registry.answers.set()
    await second
    assert first.cancelled()
