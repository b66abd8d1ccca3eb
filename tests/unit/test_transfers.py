"""Blobs on their way here: shared, resumed, from another peer, never wrong, and nothing left behind."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.streams import until
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import BlobUnknown, PeerUnavailable, StorageFull
from twinhull.replication.following import FOLLOWED_MAX, Following
from twinhull.replication.peer_client import PeerClient
from twinhull.replication.protocol import INLINE_BLOB_BYTES_MAX
from twinhull.replication.transfers import Transfers

CONTENT = random.Random(1).randbytes(300_000)
DIGEST = digest_of(CONTENT)
PIECE = 50_000
UPLOAD = "peer.upload"


class Peer(PeerClient):
    """A peer that has blobs in memory, and sends them as the test wants."""

    def __init__(self, node: str, **blobs: bytes) -> None:
        self.node = node
        self.blobs: dict[Digest, bytes] = {digest_of(content): content for content in blobs.values()}
        self.asked: list[tuple[Digest, int]] = []
        self.sent = 0
        # Break the connection after so many bytes in all.
        self.breaks_after: int | None = None
        self.going = threading.Event()
        self.going.set()
        self.was_cut = False
        self.following: dict[str, list[bytes | None]] = {}

    def download(self, digest: Digest, start: int, sink: Callable[[memoryview], None]) -> None:
        self.asked.append((digest, start))
        content = self.blobs.get(digest)
        if content is None:
            raise BlobUnknown(f"peer {self.node} has no blob {digest}")
        self._pour(content[start:], sink)

    def follow(self, upload_id: str, sink: Callable[[memoryview], None]) -> None:
        if upload_id not in self.following:
            raise BlobUnknown(f"peer {self.node} has no upload {upload_id}")
        for piece in self.following[upload_id]:
            if piece is None:
                raise PeerUnavailable(f"peer {self.node} broke off")
            self._pour(piece, sink)

    def _pour(self, content: bytes, sink: Callable[[memoryview], None]) -> None:
        for start in range(0, len(content), PIECE):
            piece = content[start : start + PIECE]
            if self.breaks_after is not None:
                piece = piece[: max(0, self.breaks_after - self.sent)]
            if piece:
                self.sent += len(piece)
                sink(memoryview(piece))
            if self.was_cut or (self.breaks_after is not None and self.sent >= self.breaks_after):
                raise PeerUnavailable(f"peer {self.node} broke off")
            self.going.wait(10)

    def cut(self) -> None:
        self.was_cut = True
        self.going.set()


class Node:
    """A node's transfers."""

    def __init__(self, folder: Path, threads: ThreadPoolExecutor) -> None:
        self.blobs = FilesystemBlobs(folder)
        self.peers: list[Peer] = []
        self.named = True
        self.folder = folder
        self.transfers = Transfers(
            self.blobs,
            lambda: self.peers,
            executor=threads,
            movers=threads,
            is_named=lambda _digest: self.named,
            jitter=random.Random(1),
        )
        self.following = Following(self.blobs, self.transfers, executor=threads)

    def uploads(self) -> list[str]:
        """Return what lies about unfinished."""
        return sorted(state.upload_id for state in self.blobs.uploads())


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads."""
    with ThreadPoolExecutor(8) as executor:
        yield executor


@pytest.fixture
async def node(tmp_path: Path, threads: ThreadPoolExecutor) -> AsyncIterator[Node]:
    """A node that has nothing yet."""
    node = Node(tmp_path, threads)
    yield node
    for peer in node.peers:
        peer.going.set()
    await node.transfers.close()


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
    node.transfers.want(DIGEST, len(CONTENT))
    assert node.transfers.wanted_bytes == len(CONTENT)
    assert await first.wait_beyond(0) == PIECE
    assert await node.transfers.wait_beyond(DIGEST, first.number, 0) == PIECE
    peer.going.set()
    await first.ended
    assert await node.transfers.wait_beyond(DIGEST, first.number, 0) is None
    assert len(peer.asked) == 1
    assert node.transfers.wanted_bytes == node.transfers.wanted_blobs == 0


async def test_broken_transfer_goes_on_at_the_next_peer_where_it_was(node: Node) -> None:
    first, second = Peer("a", content=CONTENT), Peer("b", content=CONTENT)
    first.breaks_after = 2 * PIECE
    node.peers = [first, second]
    await node.transfers.start(DIGEST, len(CONTENT)).ended
    assert second.asked == [(DIGEST, 2 * PIECE)]
    assert first.sent + second.sent == len(CONTENT)
    assert node.blobs.stat(DIGEST) == len(CONTENT)


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
    node.transfers.want(DIGEST, len(CONTENT))
    await until(lambda: node.transfers.running(DIGEST) is None)
    node.peers = [Peer("a", content=CONTENT)]
    for _ in range(100):
        node.transfers.retry_now()
        await asyncio.sleep(0)
        if not node.transfers.wanted_blobs:
            break
    await until(lambda: node.blobs.stat(DIGEST) is not None)
    await until(lambda: node.transfers.wanted_blobs == 0)


async def test_blob_that_nothing_names_any_more_is_not_wanted_for_ever(node: Node) -> None:
    node.named = False
    node.transfers.want(DIGEST, len(CONTENT))
    await until(lambda: node.transfers.wanted_blobs == 0)


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
    node.transfers.want(digest, len(content))
    node.transfers.inline(digest, content)
    await until(lambda: node.transfers.wanted_blobs == 0)
    assert node.blobs.read(digest, 0, 10) == content
    assert peer.asked == []


async def test_small_blob_of_the_stream_that_is_another_one_is_fetched_instead(node: Node) -> None:
    content = b"small"
    digest = digest_of(content)
    peer = Peer("a", content=content)
    node.peers = [peer]
    node.transfers.inline(digest, b"wrong")
    node.transfers.want(digest, INLINE_BLOB_BYTES_MAX)
    await until(lambda: node.blobs.stat(digest) is not None)
    assert peer.asked == [(digest, 0)]


# -- following -------------------------------------------------------------------------------------------------------


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
    node.transfers.want(DIGEST, len(CONTENT))
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


async def test_upload_whose_following_breaks_leaves_nothing_and_can_be_followed_again(node: Node) -> None:
    peer = Peer("a")
    peer.following[UPLOAD] = [CONTENT[:PIECE], None]
    node.following.follow(peer, UPLOAD)
    await until(lambda: node.transfers.ended == {("a", "failed"): 1})
    await until(lambda: node.uploads() == [])
    peer.following[UPLOAD] = [CONTENT]
    node.following.follow(peer, UPLOAD)
    node.following.upload_ended(UPLOAD, DIGEST, len(CONTENT))
    await until(lambda: node.blobs.stat(DIGEST) is not None)


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
    assert peer.asked == [(DIGEST, 0)]


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
    await until(lambda: node.uploads() == [])


async def test_leftovers_of_a_dead_process_are_dropped(node: Node) -> None:
    for name in (f"follow-{UPLOAD}", "transfer-sha256-1", "node.1"):
        upload = node.blobs.start_upload(name, {})
        upload.append([b"half"])
        upload.checkpoint()
    node.following.drop_leftovers()
    assert node.uploads() == ["node.1", "transfer-sha256-1"]


async def test_closing_stops_what_waits_for_a_peer(node: Node) -> None:
    peer = Peer("a", content=CONTENT)
    peer.going.clear()
    node.peers = [peer]
    transfer = node.transfers.start(DIGEST, len(CONTENT))
    await until(lambda: peer.sent > 0)
    await asyncio.wait_for(node.transfers.close(), 5)
    assert transfer.ended.exception() is not None
    assert peer.was_cut
