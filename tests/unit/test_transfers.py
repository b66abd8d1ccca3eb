"""Blobs on their way here: shared, resumed, from another peer, never wrong, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.blob_transfers import CONTENT, DIGEST, PIECE, Node, Peer, running_node
from tests.support.streams import until
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import PeerUnavailable, StorageFull
from twinhull.replication.protocol import INLINE_BLOB_BYTES_MAX


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node that has nothing yet."""
    async with running_node(tmp_path) as node:
        yield node


async def test_blob_is_brought_from_the_peer_that_has_it(node: Node) -> None:
    empty, full = Peer("a"), Peer("b", content=CONTENT)
    node.peers = [empty, full]
    await node.transfers.start(DIGEST, len(CONTENT)).ended
    assert node.blobs.read(DIGEST, 0, len(CONTENT)) == CONTENT
    assert node.transfers.received_bytes == {"b": len(CONTENT)}
    assert node.transfers.ended == {("b", "ok"): 1}
    assert node.uploads() == []
    assert node.transfers.running(DIGEST) is None


async def test_empty_blob_is_a_blob_too(node: Node) -> None:
    node.peers = [Peer("a", content=b"")]
    await node.transfers.start(digest_of(b""), 0).ended
    assert node.blobs.stat(digest_of(b"")) == 0


async def test_all_who_want_a_blob_share_one_transfer(node: Node) -> None:
    peer = Peer("a", content=CONTENT)
    peer.going.clear()
    node.peers = [peer]
    first = node.transfers.start(DIGEST, len(CONTENT))
    assert node.transfers.start(DIGEST, len(CONTENT)) is first
    node.transfers.backlog.want(DIGEST, len(CONTENT))
    assert node.transfers.backlog.size_bytes == len(CONTENT)
    assert await first.wait_beyond(0) == PIECE
    assert await node.transfers.wait_beyond(DIGEST, first.number, 0) == PIECE
    peer.going.set()
    await first.ended
    assert await node.transfers.wait_beyond(DIGEST, first.number, 0) is None
    assert len(peer.asked) == 1
    assert node.transfers.backlog.size_bytes == node.transfers.backlog.blobs == 0


async def test_small_blob_comes_in_one_go_whatever_its_record_says_of_its_size(node: Node) -> None:
    small = b"small" * 10
    node.peers = [Peer("liar"), Peer("a", small=small, big=CONTENT)]
    node.peers[0].blobs[digest_of(small)] = b"other" * 10
    transfer = node.transfers.start(digest_of(small), len(small))
    with pytest.raises(PeerUnavailable, match="other bytes"):
        await transfer.ended
    await node.transfers.start(digest_of(small), len(small)).ended
    assert node.blobs.read(digest_of(small), 0, 100) == small
    await node.transfers.start(DIGEST, 5).ended
    assert node.blobs.stat(DIGEST) == len(CONTENT)
    assert node.uploads() == []
    assert node.transfers.ended == {("liar", "failed"): 1, ("a", "ok"): 2}


async def test_broken_transfer_goes_on_at_the_same_peer_later(node: Node) -> None:
    peer = Peer("a", content=CONTENT)
    peer.breaks_after = 4 * PIECE
    node.peers = [peer]
    transfer = node.transfers.start(DIGEST, len(CONTENT))
    await until(lambda: peer.sent == 4 * PIECE)
    peer.breaks_after = None
    await transfer.ended
    assert peer.sent == len(CONTENT)


async def test_transfer_that_a_dead_process_left_is_gone_on_with(node: Node) -> None:
    half = node.blobs.start_upload(f"transfer-sha256-{DIGEST.partition(':')[2]}", {})
    half.append([CONTENT[:PIECE]])
    half.checkpoint()
    peer = Peer("a", content=CONTENT)
    node.peers = [peer]
    transfer = node.transfers.start(DIGEST, len(CONTENT))
    await transfer.ended
    assert peer.asked == [(DIGEST, PIECE)]
    assert node.uploads() == []


async def test_wrong_bytes_are_thrown_away_and_another_peer_is_asked_the_next_time(node: Node) -> None:
    liar, honest = Peer("a"), Peer("b", content=CONTENT)
    liar.blobs[DIGEST] = b"X" + CONTENT[1:]
    node.peers = [liar, honest]
    transfer = node.transfers.start(DIGEST, len(CONTENT))
    with pytest.raises(PeerUnavailable, match="other bytes"):
        await transfer.ended
    assert node.blobs.stat(DIGEST) is None
    assert node.uploads() == []
    # Who read along must not go on with what comes now.
    again = node.transfers.start(DIGEST, len(CONTENT))
    with pytest.raises(PeerUnavailable, match="began anew"):
        await node.transfers.wait_beyond(DIGEST, transfer.number, 0)
    await again.ended
    assert honest.asked == [(DIGEST, 0)]
    with pytest.raises(PeerUnavailable, match="began anew"):
        await node.transfers.wait_beyond(DIGEST, transfer.number, 0)
    assert await node.transfers.wait_beyond(DIGEST, again.number, 0) is None


async def test_blob_that_no_peer_has_is_unavailable_at_once(node: Node) -> None:
    node.peers = [Peer("a"), Peer("b")]
    with pytest.raises(PeerUnavailable, match="no reachable node"):
        await asyncio.wait_for(node.transfers.start(DIGEST, len(CONTENT)).ended, 5)
    node.peers = []
    with pytest.raises(PeerUnavailable):
        await node.transfers.start(DIGEST, len(CONTENT)).ended


async def test_wanted_blob_is_asked_for_again_as_soon_as_a_peer_is_back(node: Node) -> None:
    node.transfers.backlog.want(DIGEST, len(CONTENT))
    await until(lambda: node.transfers.running(DIGEST) is None)
    node.peers = [Peer("a", content=CONTENT)]
    for _ in range(100):
        node.transfers.backlog.retry_now()
        await asyncio.sleep(0)
        if not node.transfers.backlog.blobs:
            break
    await until(lambda: node.blobs.stat(DIGEST) is not None)
    await until(lambda: node.transfers.backlog.blobs == 0)


async def test_blob_that_nothing_names_any_more_is_not_wanted_for_ever(node: Node) -> None:
    node.named = False
    node.transfers.backlog.want(DIGEST, len(CONTENT))
    await until(lambda: node.transfers.backlog.blobs == 0)


async def test_full_disk_ends_the_transfer_and_a_later_one_goes_on(node: Node) -> None:
    peer = Peer("a", content=CONTENT)
    node.peers = [peer]
    filled = True

    class FillingUp(FilesystemBlobs):
        """A store whose disk has no room while the test says so."""

    started = node.blobs.start_upload

    def start_upload(upload_id: str, labels: dict[str, str]) -> object:
        if filled:
            raise StorageFull
        return started(upload_id, labels)

    store = FillingUp(node.folder)
    store.start_upload = start_upload  # type: ignore[method-assign, assignment]
    node.transfers._blobs = store  # noqa: SLF001 - the disk is the one thing that can't be filled here
    with pytest.raises(StorageFull):
        await node.transfers.start(DIGEST, len(CONTENT)).ended
    filled = False
    await node.transfers.start(DIGEST, len(CONTENT)).ended
    assert node.blobs.stat(DIGEST) == len(CONTENT)


async def test_small_blob_of_the_stream_is_stored_and_not_fetched(node: Node) -> None:
    content = b"small"
    digest = digest_of(content)
    peer = Peer("a", content=content)
    node.peers = [peer]
    node.transfers.backlog.want(digest, len(content))
    node.transfers.inline(digest, content)
    await until(lambda: node.transfers.backlog.blobs == 0)
    assert node.blobs.read(digest, 0, 10) == content
    assert peer.asked == []


async def test_small_blob_of_the_stream_that_is_another_one_is_fetched_instead(node: Node) -> None:
    content = b"small"
    digest = digest_of(content)
    peer = Peer("a", content=content)
    node.peers = [peer]
    node.transfers.inline(digest, b"wrong")
    node.transfers.backlog.want(digest, INLINE_BLOB_BYTES_MAX)
    await until(lambda: node.blobs.stat(digest) is not None)
    assert peer.asked == [(digest, 0)]


async def test_closing_stops_what_waits_for_a_peer(node: Node) -> None:
    peer = Peer("a", content=CONTENT)
    peer.going.clear()
    node.peers = [peer]
    transfer = node.transfers.start(DIGEST, len(CONTENT))
    await until(lambda: peer.sent > 0)
    await asyncio.wait_for(node.transfers.close(), 5)
    assert transfer.ended.exception() is not None
    assert peer.was_cut
