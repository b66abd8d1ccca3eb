"""A reader of the log deals with each change at least once, from where it had come, and the log waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from twinhull.jobs.access import Access
from twinhull.jobs.reader import LogReader
from twinhull.kit.errors import Unavailable
from twinhull.metadata import compaction
from twinhull.metadata.readers import cursor_of
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import Change
from twinhull.records.kinds import LABEL, NODE, USER


class Made:
    """What a reader has made of the log."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.fails = False

    def handle(self, transaction: Transaction, changes: Sequence[Change]) -> None:
        for change in changes:
            transaction.create(LABEL, f"/seen-{change.key}", {})
        if self.fails:
            raise Unavailable("not now")
        self.keys += [change.key for change in changes]


@pytest.fixture
def made() -> Made:
    return Made()


@pytest.fixture
def begin(store: Store, made: Made) -> Callable[[], LogReader]:
    def begin() -> LogReader:
        access = Access(store, ThreadPoolExecutor(1), lambda _: None)
        return LogReader("webhooks", access, kinds=[USER.name], handle=made.handle)

    return begin


def users(store: Store, *names: str) -> None:
    with store.write() as transaction:
        for name in names:
            transaction.create(USER, name, {})


async def read_all(reader: LogReader) -> None:
    while await reader.work() is not None:
        pass


async def test_new_reader_begins_at_the_end_and_goes_on_where_it_was(
    store: Store, made: Made, begin: Callable[[], LogReader]
) -> None:
    users(store, "before")
    reader = begin()
    await read_all(reader)
    users(store, "a", "b")
    await read_all(reader)
    assert made.keys == ["a", "b"]
    users(store, "while-down")
    await read_all(begin())
    assert made.keys == ["a", "b", "while-down"]


async def test_many_changes_are_handled_page_by_page(store: Store, made: Made, begin: Callable[[], LogReader]) -> None:
    reader = begin()
    await read_all(reader)
    names = [f"user-{number}" for number in range(450)]
    users(store, *names)
    await read_all(reader)
    assert made.keys == names


async def test_failed_step_leaves_nothing_and_is_done_again(store: Store, made: Made, begin: Callable[[], LogReader]) -> None:
    reader = begin()
    await read_all(reader)
    users(store, "a")
    made.fails = True
    with pytest.raises(Unavailable):
        await reader.work()
    with store.write() as transaction:
        assert transaction.values(LABEL, "/seen-a") is None
    made.fails = False
    await read_all(reader)
    assert made.keys == ["a"]


async def test_reader_of_a_longer_log_begins_at_the_end_of_this_one(
    store: Store, made: Made, begin: Callable[[], LogReader]
) -> None:
    await read_all(begin())
    with store.write() as transaction:
        transaction.connection.exec_driver_sql("UPDATE readers SET position = 1000000")
    users(store, "a")
    reader = begin()
    await read_all(reader)
    users(store, "b")
    await read_all(reader)
    assert made.keys == ["b"]


async def test_log_is_not_trimmed_past_a_reader(store: Store, begin: Callable[[], LogReader]) -> None:
    reader = begin()
    await read_all(reader)
    with store.write() as transaction:
        transaction.create(NODE, "n1", {"slot": 0})
    users(store, *[f"user-{number}" for number in range(20)])
    with store.write() as transaction:
        assert compaction.trim_log(transaction, store.vector(), keep=5) == 0
    await read_all(reader)
    with store.read() as connection:
        assert (cursor_of(connection, "webhooks") or 0) > 20
    with store.write() as transaction:
        assert compaction.trim_log(transaction, store.vector(), keep=5) > 15
