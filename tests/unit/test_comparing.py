"""Two nodes' states are compared by hashes, then by buckets, then by keys, and only as far as they differ."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import pytest
from sqlalchemy import text

from tests.support.streams import new_store, write
from twinhull.kit.clock import SystemClock
from twinhull.kit.errors import ProtocolError
from twinhull.metadata.names import Name
from twinhull.metadata.store import Store
from twinhull.records.change import Change
from twinhull.replication import comparing
from twinhull.replication.comparing import (
    SUMMARY_FORM,
    Comparison,
    Sides,
    compare,
    lasting,
    roots_of,
    sides_of,
    unlike_buckets,
)
from twinhull.replication.peer import Peer
from twinhull.replication.protocol import SummaryAnswer, SummaryQuery

HERE: Final = {"tag": {1: (10, 1), 2: (20, 2)}, "user": {3: (30, 1)}}


def test_buckets_that_are_not_the_same_are_named_in_order() -> None:
    assert unlike_buckets(HERE, HERE) == []
    there = {"tag": {1: (10, 1), 2: (21, 2), 9: (1, 1)}, "robot": {0: (5, 1)}}
    assert unlike_buckets(HERE, there) == [("robot", 0), ("tag", 2), ("tag", 9), ("user", 3)]
    assert unlike_buckets(there, HERE) == unlike_buckets(HERE, there)


def test_root_of_a_kind_follows_each_of_its_buckets_and_no_order() -> None:
    assert roots_of(HERE) == roots_of({kind: dict(reversed(list(of_kind.items()))) for kind, of_kind in HERE.items()})
    for other in ({1: (11, 1), 2: (20, 2)}, {1: (10, 2), 2: (20, 2)}, {1: (10, 1), 3: (20, 2)}, {1: (10, 1)}):
        assert roots_of({"tag": other})["tag"] != roots_of(HERE)["tag"]


def test_keys_are_told_apart_by_who_has_them_and_those_on_their_way_are_left_out() -> None:
    first = sides_of({"a": 1, "b": 2, "c": 3}, {"b": 2, "c": 4, "d": 5})
    assert (first.only_here, first.only_there, first.unlike) == (["a"], ["d"], ["c"])
    second = sides_of({"a": 1, "b": 2, "c": 4, "e": 6}, {"b": 2, "c": 4, "d": 5})
    assert lasting(first, second) == Sides(only_here=["a"], only_there=["d"])


class Beside:
    """A peer whose store is in the same process, and which counts what it is asked."""

    node = "n2"

    def __init__(self, store: Store, **answer: Any) -> None:  # noqa: ANN401 - fields of the answer
        """Take its store, and what its summary shall have instead."""
        self.store = store
        self.answer = answer
        self.asked: list[str] = []
        self.bytes = 0

    async def summary(self, *, is_brief: bool = False, timeout_s: float) -> SummaryAnswer:
        """Answer like a peer."""
        del timeout_s
        self.asked.append("brief" if is_brief else "summary")
        vector, buckets = self.store.state_root()
        answer = SummaryAnswer(
            vector=vector,
            buckets={} if is_brief else buckets,
            missing_blobs=0,
            missing_bytes=0,
            kinds=roots_of(buckets),
            form=SUMMARY_FORM,
        )
        self.bytes += len(msgspec.msgpack.encode(answer))
        return msgspec.structs.replace(answer, **self.answer)

    async def bucket(self, kind: str, bucket: int, *, timeout_s: float) -> dict[str, int]:
        """Answer like a peer."""
        del timeout_s
        self.asked.append("bucket")
        return self.store.bucket(kind, bucket)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """Threads for the databases."""
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """Two nodes, of which the second has all that the first wrote."""
    clock = SystemClock()
    one, two = new_store(tmp_path, "n1", 0, clock), new_store(tmp_path, "n2", 1, clock)
    for number in range(20):
        write(one, f"p{number}", public="true")
    with two.write() as transaction:
        for _, change in one.changes_since(0, 100):
            transaction.apply(change)
    yield one, two
    one.close()
    two.close()


async def compared(store: Store, peer: Beside, executor: ThreadPoolExecutor, **more: Any) -> Comparison:  # noqa: ANN401
    """Compare with the peer."""
    return await compare(store, cast("Peer", peer), executor, tries=1, **more)


async def test_nodes_that_are_equal_exchange_one_small_message(
    stores: tuple[Store, Store], executor: ThreadPoolExecutor
) -> None:
    peer = Beside(stores[1])
    assert (await compared(stores[0], peer, executor)).equal
    assert peer.asked == ["brief"]
    assert peer.bytes < 150
    # What a release sends that does not know the short form.
    vector, buckets = stores[1].state_root()
    assert vector == {"n1": 20}
    assert (await compared(stores[0], Beside(stores[1], kinds={}, buckets=buckets), executor)).equal


async def test_what_differs_is_listed_and_handed_to_be_mended(
    stores: tuple[Store, Store], executor: ThreadPoolExecutor
) -> None:
    one, two = stores
    lost = one.record("project", "p3")
    assert lost is not None
    for store, key in ((one, "p7"), (two, "p3")):
        with store.write() as transaction:
            transaction.connection.execute(text("DELETE FROM records WHERE key = :key"), {"key": key})
    handed: list[Name] = []

    async def mend(names: list[Name]) -> None:
        handed.extend(names)

    peer = Beside(two)
    found = await compared(one, peer, executor, mend=mend)

    assert not found.equal
    [differing] = found.differing
    assert (differing.kind, differing.count, differing.keys) == ("project", 2, ["p3", "p7"])
    assert (differing.only_here, differing.only_there) == (["p3"], ["p7"])
    assert sorted(handed) == [("project", "p3"), ("project", "p7")]
    # Two buckets differ, and each is looked at twice.
    assert peer.asked == ["brief", "summary", *["bucket"] * 4]
    with two.write() as transaction:
        assert transaction.merge_record(Change(origin="", seq=0, kind="project", key="p3", record=lost.record))


async def test_node_that_differs_in_everything_is_compared_some_buckets_at_a_time(
    stores: tuple[Store, Store], executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "_KEYS_AT_ONCE", 2)
    monkeypatch.setattr(comparing, "_SECOND_LOOK_S", 0)
    one, two = stores
    with two.write() as transaction:
        transaction.connection.execute(text("DELETE FROM records WHERE kind = 'project'"))
    peer = Beside(two)
    handed: list[Name] = []
    looks: list[int] = []

    async def mend(names: list[Name]) -> None:
        handed.extend(names)
        looks.append(peer.asked.count("bucket"))

    found = await compared(one, peer, executor, mend=mend)

    [differing] = found.differing
    assert differing.count == 20
    assert sorted(handed) == sorted(("project", f"p{number}") for number in range(20))
    # Two first looks and a second one, not all first looks.
    assert looks[0] <= 3


async def test_sums_of_another_form_are_not_compared(stores: tuple[Store, Store], executor: ThreadPoolExecutor) -> None:
    with pytest.raises(ProtocolError, match="in another way"):
        await compared(stores[0], Beside(stores[1], form=1), executor)


def test_question_of_an_older_release_is_read_as_one_for_everything() -> None:
    asked = msgspec.msgpack.encode({"kind": "", "key": ""})
    assert not msgspec.msgpack.decode(asked, type=SummaryQuery).is_brief
