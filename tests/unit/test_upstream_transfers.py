"""Blobs that have to come from a foreign registry: asked when no peer has them, resumed, and kept only when they are right."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.blob_transfers import CONTENT, DIGEST, PIECE, Node, Peer, Registry, running_node
from twinhull.kit.errors import RegistryRefused, RegistryUnreachable, Unavailable


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node that has nothing yet."""
    async with running_node(tmp_path) as node:
        yield node


async def test_registry_is_asked_when_no_peer_has_the_blob(node: Node) -> None:
    node.peers = [Peer("a")]
    registry = Registry(CONTENT)
    transfer = node.transfers.start(DIGEST, len(CONTENT), registry)
    assert node.transfers.start(DIGEST, len(CONTENT), registry) is transfer
    await transfer.ended
    assert node.blobs.read(DIGEST, 0, len(CONTENT)) == CONTENT
    assert registry.asked == [0]
    assert node.transfers.received_bytes == {"hub": len(CONTENT)}
    assert node.transfers.ended == {("hub", "ok"): 1}


async def test_peer_that_has_it_is_nearer(node: Node) -> None:
    node.peers = [Peer("a", content=CONTENT)]
    registry = Registry(CONTENT)
    await node.transfers.start(DIGEST, len(CONTENT), registry).ended
    assert registry.asked == []


async def test_transfer_that_found_no_peer_yet_learns_of_the_registry(node: Node) -> None:
    peer = Peer("a", content=CONTENT)
    peer.breaks_after = PIECE
    node.peers = [peer]
    transfer = node.transfers.start(DIGEST, len(CONTENT))
    registry = Registry(CONTENT)
    assert node.transfers.start(DIGEST, len(CONTENT), registry) is transfer
    await transfer.ended
    assert registry.asked == [PIECE]


async def test_broken_answer_goes_on_where_it_broke(node: Node) -> None:
    registry = Registry(CONTENT)
    registry.breaks_after = 2 * PIECE
    await node.transfers.start(DIGEST, len(CONTENT), registry).ended
    assert registry.asked == [0, 2 * PIECE, 4 * PIECE]
    assert node.blobs.read(DIGEST, 0, len(CONTENT)) == CONTENT


async def test_registry_that_stays_away_ends_the_transfer_and_what_came_is_kept(node: Node) -> None:
    registry = Registry(CONTENT)
    registry.breaks_after = PIECE // 2
    with pytest.raises(RegistryUnreachable):
        await node.transfers.start(DIGEST, len(CONTENT), registry).ended
    registry.breaks_after = None
    await node.transfers.start(DIGEST, len(CONTENT), registry).ended
    assert registry.asked[-1] == 4 * (PIECE // 2)


async def test_refusal_is_not_asked_again(node: Node) -> None:
    registry = Registry(CONTENT)
    registry.refuses = True
    with pytest.raises(RegistryRefused):
        await node.transfers.start(DIGEST, len(CONTENT), registry).ended
    assert registry.asked == [0]


@pytest.mark.parametrize("sent", [CONTENT[:-1] + b"x", CONTENT + b"x", CONTENT[:-1]], ids=["other", "longer", "shorter"])
async def test_wrong_bytes_are_not_kept(node: Node, sent: bytes) -> None:
    with pytest.raises(Unavailable, match="other bytes"):
        await node.transfers.start(DIGEST, len(CONTENT), Registry(sent)).ended
    assert node.blobs.stat(DIGEST) is None
    assert node.uploads() == []
