"""Another master, as far as this node's own code knows it: what can be asked of it, whatever the line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twinhull.kit.digest import Digest
from twinhull.records.change import Change, VersionVector
from twinhull.replication.protocol import (
    CheckAnswer,
    CheckQuery,
    FromSource,
    FromSubscriber,
    KeptAnswer,
    KeptQuery,
    PresenceAnswer,
    PresenceQuery,
    RecordsAnswer,
    SummaryAnswer,
)


class SourceLink(Protocol):
    """The connection to a source."""

    async def send(self, frame: FromSubscriber) -> None:
        """Send a frame; raises an OSError when the connection is gone."""
        ...

    async def receive(self) -> FromSource | None:
        """Return the next frame, or None when the other side has closed."""
        ...

    async def close(self, reason: str = "") -> None:
        """Close the connection; a reason tells the source what it did wrong."""
        ...


class Peer(Protocol):
    """One other master. `download` and `follow` block and belong in a thread; the rest is for the event loop.

    Everything raises PeerUnavailable when the peer does not answer, ProtocolError when it refuses.
    """

    @property
    def node(self) -> str:
        """The peer's node id."""
        ...

    async def dial(self) -> SourceLink:
        """Open the stream of the peer's changes."""
        ...

    async def find(self, kind: str, key: str, *, timeout_s: float) -> list[Change]:
        """Return the peer's record of that key and those it needs; nothing if it has none."""
        ...

    async def hold(self, blobs: list[tuple[str, int]], *, timeout_s: float) -> None:
        """Return when the peer has all these blobs on its disk."""
        ...

    async def summary(self, *, is_brief: bool = False, timeout_s: float) -> SummaryAnswer:
        """Return the peer's state in short; if brief, perhaps without its buckets."""
        ...

    async def records(self, names: list[tuple[str, str]], *, timeout_s: float) -> RecordsAnswer:
        """Return the peer's records of these kinds and keys, as many as one answer holds."""
        ...

    async def offer(self, records: list[Change], *, timeout_s: float) -> int:
        """Let the peer merge these records; return how many of them changed anything there."""
        ...

    async def check(self, query: CheckQuery, *, timeout_s: float) -> CheckAnswer:
        """Let the peer look through a part of its own data."""
        ...

    async def vector(self, *, timeout_s: float) -> VersionVector:
        """Return what the peer has applied."""
        ...

    async def presence(self, query: PresenceQuery, *, timeout_s: float) -> PresenceAnswer:
        """Return what the peer lacks of these records and blobs."""
        ...

    async def removal(self, *, timeout_s: float) -> list[Change]:
        """Return the record of this node's removal if the peer, which turns it away, knows of one."""
        ...

    async def kept(self, query: KeptQuery, *, timeout_s: float) -> KeptAnswer:
        """Return which of the blobs the peer needs, or the node that it is to ask for us."""
        ...

    async def cluster_keys(self, *, timeout_s: float) -> list[bytes]:
        """Return the keys that the peer seals and unseals secrets with."""
        ...

    async def bucket(self, kind: str, bucket: int, *, timeout_s: float) -> dict[str, int]:
        """Return the keys of one bucket of the peer's state, each with the hash of its record."""
        ...

    def download(self, digest: Digest, start: int, sink: Callable[[memoryview], None]) -> None:
        """Hand the blob's bytes from `start` on to the sink; BlobUnknown when the peer does not have it."""
        ...

    def follow(self, upload_id: str, start: int, sink: Callable[[memoryview], None]) -> None:
        """Hand the bytes of a growing upload from `start` on to the sink until it ends; fails like `download`."""
        ...

    def cut(self) -> None:
        """Break off what threads are reading: each of them fails at once with PeerUnavailable."""
        ...
