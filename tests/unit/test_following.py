"""Uploads that are read while they still arrive at a peer: whole in the end, gone on with after a cut, never wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.blob_transfers import CONTENT, DIGEST, PIECE, UPLOAD, Node, Peer, running_node
from tests.support.streams import until
from twinhull.kit.errors import PeerUnavailable
from twinhull.replication.following import FOLLOWED_MAX


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node that has nothing yet."""
    async with running_node(tmp_path) as node:
        yield node


async def test_followed_upload_becomes_the_blob_when_its_end_is_announced(node: Node) -> None:
    peer = Peer("a")
    peer.following[UPLOAD] = [CONTENT]
    node.peers = [peer]
    node.following.follow(peer, UPLOAD)
    node.following.follow(peer, UPLOAD)
    await until(lambda: peer.sent == len(CONTENT))
    assert node.blobs.stat(DIGEST) is None
    node.following.upload_ended(UPLOAD, DIGEST, 0)
    # Who wants it now waits for what is under way.
    node.transfers.backlog.want(DIGEST, len(CONTENT))
    transfer = node.transfers.start(DIGEST, len(CONTENT))
    assert transfer.upload_id == f"follow-{UPLOAD}"
    await transfer.ended
    assert node.blobs.stat(DIGEST) == len(CONTENT)
    assert peer.asked == []
    assert peer.sent == len(CONTENT)
    assert node.uploads() == []


async def test_followed_upload_that_is_given_up_leaves_nothing(node: Node) -> None:
    peer = Peer("a")
    peer.following[UPLOAD] = [CONTENT]
    node.following.follow(peer, UPLOAD)
    await until(lambda: peer.sent == len(CONTENT))
    node.following.upload_ended(UPLOAD, None, 0)
    await until(lambda: node.uploads() == [])
    assert node.transfers.ended == {}


async def test_upload_whose_following_breaks_is_followed_again_from_there(node: Node) -> None:
    peer = Peer("a")
    peer.following[UPLOAD] = [CONTENT[:PIECE], None]
    node.following.follow(peer, UPLOAD)
    await until(lambda: node.transfers.ended == {("a", "failed"): 1})
    peer.following[UPLOAD] = [CONTENT[PIECE:]]
    node.following.follow(peer, UPLOAD)
    node.following.upload_ended(UPLOAD, DIGEST, len(CONTENT))
    await until(lambda: node.blobs.stat(DIGEST) is not None)
    assert peer.followed == [(UPLOAD, 0), (UPLOAD, PIECE)]
    await until(lambda: node.uploads() == [])


async def test_upload_that_ended_while_its_follower_was_cut_off_is_fetched_from_there(node: Node) -> None:
    peer = Peer("a", content=CONTENT)
    peer.following[UPLOAD] = [CONTENT[:PIECE], None]
    node.peers = [peer]
    node.following.follow(peer, UPLOAD)
    await until(lambda: node.transfers.ended == {("a", "failed"): 1})
    node.following.upload_ended(UPLOAD, DIGEST, 0)
    await node.transfers.start(DIGEST, len(CONTENT)).ended
    assert peer.asked == [(DIGEST, PIECE)]
    await until(lambda: node.uploads() == [])


async def test_upload_that_was_given_up_while_its_follower_was_cut_off_leaves_nothing(node: Node) -> None:
    peer = Peer("a")
    peer.following[UPLOAD] = [CONTENT[:PIECE], None]
    node.following.follow(peer, UPLOAD)
    await until(lambda: node.transfers.ended == {("a", "failed"): 1})
    node.following.upload_ended(UPLOAD, None, 0)
    await until(lambda: node.uploads() == [])


async def test_upload_whose_following_breaks_at_its_end_is_fetched(node: Node) -> None:
    peer = Peer("a", content=CONTENT)
    peer.following[UPLOAD] = [CONTENT[:PIECE], None]
    peer.going.clear()
    node.peers = [peer]
    node.following.follow(peer, UPLOAD)
    await until(lambda: peer.sent == PIECE)
    node.following.upload_ended(UPLOAD, DIGEST, 0)
    waiting = node.transfers.start(DIGEST, len(CONTENT))
    peer.going.set()
    await waiting.ended
    assert node.blobs.stat(DIGEST) == len(CONTENT)
    assert peer.asked == [(DIGEST, PIECE)]


async def test_followed_upload_that_is_not_what_it_is_said_to_be_is_thrown_away(node: Node) -> None:
    peer = Peer("a", content=CONTENT)
    peer.following[UPLOAD] = [b"something else"]
    node.peers = [peer]
    node.following.follow(peer, UPLOAD)
    node.following.upload_ended(UPLOAD, DIGEST, 0)
    waiting = node.transfers.running(DIGEST)
    assert waiting is not None
    with pytest.raises(PeerUnavailable):
        await waiting.ended
    await until(lambda: node.blobs.stat(DIGEST) is not None)
    assert node.blobs.read(DIGEST, 0, len(CONTENT)) == CONTENT
    with pytest.raises(PeerUnavailable):
        await node.transfers.wait_beyond(DIGEST, waiting.number, 0)


async def test_unknown_upload_is_no_failure(node: Node) -> None:
    node.following.follow(Peer("a"), UPLOAD)
    node.following.upload_ended("never heard of", DIGEST, 0)
    await until(lambda: node.uploads() == [])
    assert node.transfers.ended == {}


async def test_no_more_uploads_are_followed_than_there_is_room_for(node: Node) -> None:
    peer = Peer("a")
    peer.going.clear()
    for number in range(FOLLOWED_MAX + 5):
        peer.following[f"u{number}"] = [CONTENT]
        node.following.follow(peer, f"u{number}")
    await until(lambda: len(node.uploads()) == FOLLOWED_MAX)
    peer.cut()
    await until(lambda: node.transfers.ended == {("a", "failed"): FOLLOWED_MAX})
    for number in range(FOLLOWED_MAX):
        node.following.upload_ended(f"u{number}", None, 0)
    await until(lambda: node.uploads() == [])


async def test_leftovers_of_a_dead_process_are_dropped(node: Node) -> None:
    for name in (f"follow-{UPLOAD}", "transfer-sha256-1", "node.1"):
        upload = node.blobs.start_upload(name, {})
        upload.append([b"half"])
        upload.checkpoint()
    node.following.drop_leftovers()
    assert node.uploads() == ["node.1", "transfer-sha256-1"]
