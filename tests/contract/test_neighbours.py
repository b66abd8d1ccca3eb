"""Who is a member, and whether this node itself is one."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from twinhull.kit.clock import SystemClock
from twinhull.metadata.members import Node
from twinhull.metadata.store import Store
from twinhull.records.kinds import NODE
from twinhull.replication.acknowledgements import Acknowledgements
from twinhull.replication.neighbours import Neighbours
from twinhull.replication.peer import Peer
from twinhull.replication.taking import Receiver


class Unheard:
    """Takes note of nothing."""

    def removed(self, node: str) -> None:
        """Do nothing."""

    def state_changed(self) -> None:
        """Do nothing."""


def nobody(node: Node) -> Peer:
    """Return no client: there is no other member."""
    raise AssertionError(node)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads."""
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
async def neighbours(store: Store, threads: ThreadPoolExecutor) -> AsyncIterator[Neighbours]:
    """The other members of this node's cluster."""
    clock = SystemClock()
    neighbours = Neighbours(
        cluster="c",
        store=store,
        acknowledgements=Acknowledgements(store.origin, clock, timeout_s=1, lease_s=1),
        call=nobody,
        executor=threads,
        clock=clock,
        ping_s=1,
        jitter=random.Random(1),
    )
    neighbours.receiver = cast("Receiver", Unheard())
    yield neighbours
    await neighbours.close()


async def says_removed(neighbours: Neighbours) -> bool:
    """Look again, and tell what is known then."""
    await neighbours.refresh()
    return neighbours.is_removed


async def test_node_that_has_left_is_not_taken_for_one_that_was_removed(store: Store, neighbours: Neighbours) -> None:
    own = {"name": "a", "slot": 0, "address": "a:1", "url": "", "token_keys": [], "joined_ms": 1}
    with store.write() as transaction:
        transaction.create(NODE, store.node, own)
    assert not await says_removed(neighbours)
    with store.write() as transaction:
        transaction.delete(NODE, store.node)
    # As a change of the members does, in the middle of a leave.
    assert await says_removed(neighbours)
    with store.write() as transaction:
        transaction.create(NODE, store.node, own)
    assert not await says_removed(neighbours)
