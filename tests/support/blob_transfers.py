"""A node's transfers of blobs, and peers that send them as a test wants."""

from __future__ import annotations

import random
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import BlobUnknown, PeerUnavailable, RegistryRefused, RegistryUnreachable
from twinhull.replication.following import Following
from twinhull.replication.peer_client import PeerClient
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
        self.followed: list[tuple[str, int]] = []

    def download(self, digest: Digest, start: int, sink: Callable[[memoryview], None]) -> None:
        self.asked.append((digest, start))
        content = self.blobs.get(digest)
        if content is None:
            raise BlobUnknown(f"peer {self.node} has no blob {digest}")
        self._pour(content[start:], sink)

    def follow(self, upload_id: str, start: int, sink: Callable[[memoryview], None]) -> None:
        self.followed.append((upload_id, start))
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


class Registry:
    """A foreign registry that has one blob, and sends it as the test wants."""

    name = "hub"

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[int] = []
        # Break each answer after so many bytes.
        self.breaks_after: int | None = None
        self.refuses = False

    @asynccontextmanager
    async def open(self, _digest: Digest, start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked.append(start)
        if self.refuses:
            raise RegistryRefused
        yield self._pieces(start)

    async def _pieces(self, start: int) -> AsyncIterator[bytes]:
        end = len(self.content) if self.breaks_after is None else start + self.breaks_after
        for first in range(start, min(end, len(self.content)), PIECE):
            yield self.content[first : min(first + PIECE, end)]
        if end < len(self.content):
            raise RegistryUnreachable("it broke off")


class Node:
    """A node's transfers."""

    def __init__(self, folder: Path, threads: ThreadPoolExecutor) -> None:
        self.blobs = FilesystemBlobs(folder)
        self.threads = threads
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


@asynccontextmanager
async def running_node(folder: Path) -> AsyncIterator[Node]:
    """Give a node that has nothing yet; at the end its transfers are stopped, whatever its peers are about."""
    with ThreadPoolExecutor(8) as threads:
        node = Node(folder, threads)
        yield node
        for peer in node.peers:
            peer.going.set()
        await node.transfers.close()
