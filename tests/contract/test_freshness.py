"""A cached answer is never older than a write that was acknowledged, whatever the database can tell of its log."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from tests.support.log_cache import LogCache
from tests.support.metadata import Opened
from twinhull.kit.clock import ManualClock
from twinhull.kit.errors import Unavailable
from twinhull.metadata.freshness import Freshness
from twinhull.metadata.store import Store
from twinhull.records.kinds import SETTING

T = TypeVar("T")


class Held(ThreadPoolExecutor):
    """Threads whose results arrive only when they are let through."""

    def __init__(self) -> None:
        super().__init__(4)
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Semaphore(0)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:  # noqa: ANN401 - as its parent has it
        """Run the function, then wait to be let through."""

        def run() -> T:
            result = fn(*args, **kwargs)
            self.begun.release()
            assert self.open.wait(20)
            return result

        return super().submit(run)

    def hold(self) -> None:
        """Let no more results through."""
        while self.begun.acquire(blocking=False):
            pass
        self.open.clear()

    async def wait_until_begun(self) -> None:
        """Wait until one more job has done its work and is being held."""
        assert await asyncio.to_thread(self.begun.acquire, timeout=20)


class FlakyStore(Store):
    """A store whose log cannot always be read."""

    broken = False

    def changed_since(self, position: int, limit: int) -> list[tuple[int, str, str]]:
        """Fail while it is broken."""
        if self.broken:
            raise Unavailable
        return super().changed_since(position, limit)


@pytest.fixture
def store(opened: Opened, clock: ManualClock) -> FlakyStore:
    """The store under test, which can be made to fail."""
    return FlakyStore(opened.database, node="n1", slot=0, clock=clock)


@pytest.fixture
def executor() -> Iterator[Held]:
    """Threads that can be held up."""
    with Held() as held:
        yield held
        held.open.set()


class Settings:
    """Settings as a face would cache them."""

    def __init__(self, store: Store, executor: Held) -> None:
        self.store = store
        self.executor = executor
        self.freshness = Freshness(store, executor)
        self.cache: LogCache[str, object] = LogCache(100)
        self.loads = 0
        self.dropped: list[str] = []
        self.resets = 0
        self.freshness.listen(self.on_change, self.on_reset)

    def on_change(self, kind: str, key: str) -> None:
        assert kind == SETTING.name
        self.dropped.append(key)
        self.cache.drop(key)

    def on_reset(self) -> None:
        self.resets += 1
        self.cache.clear()

    def load(self, key: str) -> object:
        with self.store.write() as transaction:
            return (transaction.values(SETTING, key) or {}).get("value")

    async def get(self, key: str) -> object:
        if not self.freshness.is_current():
            await self.freshness.catch_up()
        cached = self.cache.get(key)
        if cached is not None:
            return cached
        token = self.cache.begin(key)
        self.loads += 1
        value = await asyncio.get_running_loop().run_in_executor(self.executor, self.load, key)
        self.cache.store(key, token, value)
        return value


@pytest.fixture
def cached(store: Store, executor: Held) -> Settings:
    """A cache of settings over the store under test."""
    return Settings(store, executor)


def write(store: Store, key: str, value: object) -> None:
    """Write a setting, whether it is there or not."""
    with store.write() as transaction:
        if transaction.values(SETTING, key) is None:
            transaction.create(SETTING, key, {"value": value})
        else:
            transaction.put(SETTING, key, {"value": value})


async def test_answer_comes_from_memory_until_something_is_written(store: Store, cached: Settings) -> None:
    write(store, "a", 1)
    assert [await cached.get("a") for _ in range(3)] == [1, 1, 1]
    assert cached.loads == 1
    write(store, "b", 1)
    # Another key's change does not cost this one's answer.
    assert await cached.get("a") == 1
    assert cached.loads == 1
    assert cached.dropped == ["b"]
    write(store, "a", 2)
    assert await cached.get("a") == 2
    assert cached.loads == 2


async def test_only_a_database_that_tells_its_position_is_current_without_a_look(store: Store, cached: Settings) -> None:
    assert not cached.freshness.is_current()
    await cached.freshness.catch_up()
    assert cached.freshness.seen == 0
    tells = store.position_hint() is not None
    assert cached.freshness.is_current() == tells
    write(store, "a", 1)
    assert not cached.freshness.is_current()
    await cached.freshness.catch_up()
    assert cached.freshness.seen == store.position()
    assert cached.freshness.is_current() == tells


async def test_answer_read_before_a_write_is_not_kept_after_it(store: Store, cached: Settings) -> None:
    write(store, "a", "old")
    await cached.freshness.catch_up()
    token = cached.cache.begin("a")
    old = cached.load("a")
    write(store, "a", "new")
    await cached.freshness.catch_up()
    cached.cache.store("a", token, old)
    assert cached.cache.get("a") is None
    assert await cached.get("a") == "new"


async def test_answer_kept_before_its_change_is_seen_is_dropped_when_it_is(store: Store, cached: Settings) -> None:
    write(store, "a", "old")
    await cached.freshness.catch_up()
    token = cached.cache.begin("a")
    old = cached.load("a")
    write(store, "a", "new")
    cached.cache.store("a", token, old)
    assert await cached.get("a") == "new"


async def test_look_that_began_before_a_write_is_not_enough(store: Store, cached: Settings, executor: Held) -> None:
    write(store, "a", 1)
    assert await cached.get("a") == 1
    write(store, "b", 1)
    executor.hold()
    early = asyncio.ensure_future(cached.get("a"))
    await executor.wait_until_begun()
    # The early look at the log is over, its result still on its way: it cannot know of this.
    write(store, "a", 2)
    late = [asyncio.ensure_future(cached.get("a")) for _ in range(3)]
    await asyncio.sleep(0)
    executor.open.set()
    assert [await each for each in late] == [2, 2, 2]
    assert await early in (1, 2)


async def test_everything_is_dropped_when_too_much_has_changed(store: Store, cached: Settings) -> None:
    write(store, "a", 1)
    assert await cached.get("a") == 1
    with store.write() as transaction:
        transaction.put(SETTING, "a", {"value": 2})
        for number in range(2001):
            transaction.create(SETTING, str(number), {"value": number})
    assert await cached.get("a") == 2
    assert cached.dropped == []
    assert cached.resets == 2
    assert cached.freshness.seen == store.position()


async def test_failed_look_is_told_and_the_next_one_tries_again(store: FlakyStore, cached: Settings) -> None:
    write(store, "a", 1)
    assert await cached.get("a") == 1
    write(store, "a", 2)
    store.broken = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            await cached.get("a")
    store.broken = False
    assert await cached.get("a") == 2


async def test_no_answer_is_older_than_an_acknowledged_write_under_load(store: Store, cached: Settings) -> None:
    chance = random.Random(3)
    acknowledged = dict.fromkeys("abc", 0)

    async def write_on(key: str) -> None:
        for number in range(1, 25):
            await asyncio.to_thread(write, store, key, number)
            acknowledged[key] = number

    async def read_on(writers: list[asyncio.Task[None]]) -> None:
        while not all(writer.done() for writer in writers):
            key = chance.choice("abc")
            least = acknowledged[key]
            value = await cached.get(key)
            assert (value or 0) >= least  # type: ignore[operator]
            await asyncio.sleep(0)

    writers = [asyncio.ensure_future(write_on(key)) for key in acknowledged]
    await asyncio.gather(*(read_on(writers) for _ in range(4)), *writers)
    assert [await cached.get(key) for key in "abc"] == [24, 24, 24]
