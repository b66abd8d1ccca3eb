"""What the catalog asks of the other masters: does one of you have it, give me the bytes, is my write with you.

Protocols only, and their plain forms for a node that is alone; replication fulfils them.
"""

from __future__ import annotations

from typing import Protocol

from twinhull.kit.digest import Digest
from twinhull.kit.errors import PeerUnavailable


class BlobSource(Protocol):
    """A blob on its way here from a peer. Several readers may share one transfer; each has a source of its own."""

    async def read(self, start: int, length: int) -> bytes:
        """Return bytes from `start`, at least one and at most `length`, as soon as any are there.

        Raises PeerUnavailable when no peer goes on with the transfer.
        """
        ...

    async def close(self) -> None:
        """Say that nothing more will be read. The transfer goes on: the blob is wanted here anyway."""
        ...


class Peers(Protocol):
    """The other masters, as seen by a request that misses something."""

    def is_behind(self) -> bool:
        """Tell, at no cost, whether this node knows of changes that it has not applied yet."""
        ...

    async def find(self, kind: str, key: str) -> bool:
        """Ask the reachable peers for a newer version of a record, and return True once it is applied here.

        False when nobody has one, or none answers within a short limit; at once when alone and when everything is in
        sync. Does not raise.
        """
        ...

    async def settle(self) -> None:
        """Wait, for a short limit, until this node is not behind: for lists, which no question about one record settles.

        Returns at once when alone and when everything is in sync. Does not raise.
        """
        ...

    async def blob_source(self, repository: str, digest: Digest, size: int) -> BlobSource:
        """Return the bytes of a blob that is visible here but has not arrived, or raise PeerUnavailable."""
        ...


class NoPeers:
    """A node on its own."""

    def is_behind(self) -> bool:
        """Return False: there is nobody to be behind of."""
        return False

    async def find(self, kind: str, key: str) -> bool:  # noqa: ARG002 - the protocol's
        """Return False."""
        return False

    async def settle(self) -> None:
        """Return at once."""

    async def blob_source(self, repository: str, digest: Digest, size: int) -> BlobSource:  # noqa: ARG002
        """Raise PeerUnavailable."""
        raise PeerUnavailable(f"the bytes of {digest} are not on this node, and there is no other")


class Durability(Protocol):
    """Waits until a write is as safe as its level says."""

    async def reached(self, seq: int, *, repository: str = "", digest: Digest | None = None, wanted: str = "") -> str:
        """Return the level that was reached for this node's change `seq`: what the answer's Twinhull-Durability says.

        `digest` names a manifest whose blobs level `full` waits for too; `wanted` is the level that the request itself
        asks for. Raises DurabilityUnreached when the level is missed and the cluster is set to refuse, Invalid when
        `wanted` is no level.
        """
        ...


class LocalDurability:
    """A node on its own: what is on its disk is as safe as it gets."""

    async def reached(self, seq: int, *, repository: str = "", digest: Digest | None = None, wanted: str = "") -> str:  # noqa: ARG002
        """Return "local"."""
        return "local"


class UploadWatch(Protocol):
    """Is told of uploads while they arrive, so that peers can follow them early. Called often; must not wait or raise."""

    def started(self, upload_id: str, repository: str) -> None:
        """Hear that an upload was begun."""
        ...

    def grown(self, upload_id: str, size_bytes: int) -> None:
        """Hear that so many bytes of it are on this node's disk now."""
        ...

    def ended(self, upload_id: str, digest: Digest | None) -> None:
        """Hear that it became this blob, or came to nothing."""
        ...


class NoUploadWatch:
    """Looks away."""

    def started(self, upload_id: str, repository: str) -> None:
        """Do nothing."""

    def grown(self, upload_id: str, size_bytes: int) -> None:
        """Do nothing."""

    def ended(self, upload_id: str, digest: Digest | None) -> None:
        """Do nothing."""
