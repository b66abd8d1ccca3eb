"""The other masters as an HTTP worker sees them: its questions go to the node's agent, which alone talks to peers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, Final, Protocol

import msgspec

from twinhull.blobs.store import BlobStore, Upload
from twinhull.config.durability import Wish, read_wish
from twinhull.config.values import OnPeerLoss
from twinhull.kit.clock import Clock
from twinhull.kit.digest import Digest
from twinhull.kit.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    DurabilityUnreached,
    PeerUnavailable,
    QuotaExceeded,
    RegistryBusy,
    RegistryLacks,
    RegistryRefused,
    RegistryUnreachable,
    StorageFull,
    TwinhullError,
    Unavailable,
)
from twinhull.replication.link import AgentLink, Beyond, Ended, Fetch, Find, Grown, Locate, Reach, Status
from twinhull.replication.page import SyncPage
from twinhull.replication.threads import in_thread

# What the agent may answer with; everything else arrives as PeerUnavailable.
LINK_FAILURES: Final[dict[str, type[TwinhullError]]] = {
    failure.__name__: failure
    for failure in (
        *(BlobUnknown, DurabilityUnreached, StorageFull, Unavailable, PeerUnavailable, QuotaExceeded),
        *(RegistryLacks, RegistryRefused, RegistryBusy, RegistryUnreachable),
    )
}
# A hanging agent is no reason to hang. The agent itself keeps to shorter limits; a transfer of bytes may take longer.
_FIND_LIMIT_S: Final = 2.0
_REACH_LIMIT_S: Final = 15.0
_STATUS_LIMIT_S: Final = 5.0
# As long as the agent takes at most to ask for one record; what takes longer is caught up with in the background.
_SETTLE_LIMIT_S: Final = 0.5
_SETTLE_STEP_S: Final = 0.01
# How much more an upload must have grown before the agent is told again.
_NOTICE_BYTES: Final = 1024 * 1024


class BlobsOf(Protocol):
    """Tells which blobs a manifest needs."""

    def __call__(self, repository: str, digest: Digest) -> list[tuple[str, int]]:
        """Return digest and size of each blob that the manifest, and what it names, needs."""
        ...


# Given a project's name, it returns what was set for it, and for the cluster; for "" what was set for the cluster.
WishOf = Callable[[str], Awaitable[Wish]]


class RemotePeers:
    """Peers, durability and upload watch of one HTTP worker; see catalog/peers.py for what they promise."""

    def __init__(
        self,
        link: AgentLink,
        page: SyncPage,
        *,
        blobs: BlobStore,
        executor: Executor,
        clock: Clock,
        durability: Wish,
        blobs_of: BlobsOf,
        wish_of: WishOf | None = None,
    ) -> None:
        """Take the link to the agent, the page it writes, the node's own durability, and what tells that of others."""
        self._link = link
        self._page = page
        self._blobs = blobs
        self._executor = executor
        self._clock = clock
        self._durability = durability
        self._blobs_of = blobs_of
        self._wish_of = wish_of
        self._told: dict[str, int] = {}

    # -- questions -------------------------------------------------------------------------------------------------

    def is_behind(self) -> bool:
        """Tell whether a reachable peer may have applied writes that this node has not seen."""
        return not self._page.is_sure(self._clock)

    async def find(self, kind: str, key: str) -> bool:
        """Ask the reachable peers for a record; True once what they have is merged here."""
        try:
            async with asyncio.timeout(_FIND_LIMIT_S):
                return bool(await self._link.call(Find(kind=kind, key=key)))
        except (TwinhullError, TimeoutError):
            # No answer is no news: the caller goes on with what this node knows.
            return False

    async def settle(self) -> None:
        """Wait until no reachable peer may have applied writes that this node has not seen, or time is up."""
        until_s = self._clock.monotonic_s() + _SETTLE_LIMIT_S
        while self.is_behind() and self._clock.monotonic_s() < until_s:  # noqa: ASYNC110 - another process writes the page
            await asyncio.sleep(_SETTLE_STEP_S)

    async def blob_source(self, repository: str, digest: Digest, size: int) -> ArrivingBlob:
        """Return the bytes of a blob that has not arrived; all readers share one transfer."""
        del repository
        upload_id = str(await self._link.call(Fetch(digest=digest, size=size)))
        source = ArrivingBlob(self._link, self._blobs, self._executor, digest, size)
        await source.open(upload_id)
        return source

    async def status(self) -> str:
        """Return how this node and its peers are, as JSON; raises PeerUnavailable while the agent does not answer."""
        try:
            async with asyncio.timeout(_STATUS_LIMIT_S):
                return str(await self._link.call(Status()))
        except TimeoutError as error:
            raise PeerUnavailable("this node's agent does not answer", hint="see its log") from error

    async def locate(self, records: list[tuple[str, str]], blobs: list[tuple[str, int]]) -> list[dict[str, Any]]:
        """Return per node what it has of these; raises PeerUnavailable while this node's agent does not answer."""
        try:
            async with asyncio.timeout(_STATUS_LIMIT_S):
                found: list[dict[str, Any]] = msgspec.json.decode(
                    str(await self._link.call(Locate(records=records, blobs=blobs))), type=list[dict[str, Any]]
                )
                return found
        except TimeoutError as error:
            raise PeerUnavailable("this node's agent does not answer", hint="see its log") from error

    # -- durability ------------------------------------------------------------------------------------------------

    async def reached(self, seq: int, *, repository: str = "", digest: Digest | None = None, wanted: str = "") -> str:
        """Return the level that was reached for this node's change `seq`."""
        wish = await self._wish(read_wish(wanted), repository.partition("/")[0])
        level, refuse = wish.level, wish.on_peer_loss == OnPeerLoss.REFUSE
        if seq == 0:
            return level
        blobs: list[tuple[str, int]] = []
        if level == "full" and digest is not None:
            blobs = await in_thread(self._executor, self._blobs_of, repository, digest)
        try:
            async with asyncio.timeout(None if level == "full" else _REACH_LIMIT_S):
                return str(await self._link.call(Reach(seq=seq, level=level, blobs=blobs, refuse=refuse)))
        except (PeerUnavailable, TimeoutError):
            # The agent is being restarted: the write is on this disk, and will be streamed when it is back. Until then a
            # peer may answer alone, for as long as the agent has promised it.
            if level != "local":
                await asyncio.sleep(self._page.promised_s(self._clock))
            if refuse and level != "local":
                raise DurabilityUnreached(hint="this node's agent is not running; see its log") from None
            return "local"

    async def _wish(self, asked: Wish, project: str) -> Wish:
        """Return what holds for a write: each part as the most particular of request, project, cluster and node has it."""
        if not (asked.level and asked.on_peer_loss) and self._wish_of is not None:
            asked = asked.or_else(await self._wish_of(project))
        return asked.or_else(self._durability)

    # -- uploads ---------------------------------------------------------------------------------------------------

    def started(self, upload_id: str, repository: str) -> None:
        """Wait for bytes: an empty upload is nothing to follow."""

    def grown(self, upload_id: str, size_bytes: int) -> None:
        """Let the agent know, every now and then, how far an upload got."""
        if size_bytes - self._told.get(upload_id, 0) >= _NOTICE_BYTES:
            self._told[upload_id] = size_bytes
            self._link.notify(Grown(upload_id=upload_id, size=size_bytes))

    def ended(self, upload_id: str, digest: Digest | None) -> None:
        """Let the agent know what became of an upload."""
        self._told.pop(upload_id, None)
        self._link.notify(Ended(upload_id=upload_id, digest=digest))


class ArrivingBlob:
    """A blob that the agent is fetching, read from the file it grows in."""

    def __init__(self, link: AgentLink, blobs: BlobStore, executor: Executor, digest: Digest, size: int) -> None:
        """Take where to ask and where to read."""
        self._link = link
        self._blobs = blobs
        self._executor = executor
        self._digest = digest
        self._size = size
        self._number = 0
        self._upload: Upload | None = None
        # All of it is here, and hashes to its digest.
        self._arrived = False

    async def open(self, fetched: str) -> None:
        """Take the agent's answer, and hold on to the growing file, which loses its name when the transfer ends."""
        number, _, upload_id = fetched.partition(" ")
        if not upload_id:
            self._arrived = True
            return
        self._number = int(number)
        try:
            upload = await in_thread(self._executor, self._blobs.open_upload, upload_id)
            await in_thread(self._executor, upload.read, 0, 1)
        except BlobUploadUnknown:
            return
        self._upload = upload

    async def read(self, start: int, length: int) -> bytes:
        """Return bytes from `start`, at least one and at most `length`, as soon as any are there.

        The last byte is held back until the whole has been found to be what its digest says: no reader is given all of
        what is not the blob.
        """
        last = self._size - 1
        while not self._arrived:
            growing = self._upload if start < last else None
            if growing is not None and (piece := await self._read_growing(growing, start, min(length, last - start))):
                return piece
            beyond = start if growing is not None and self._upload is not None else self._size
            self._arrived = await self._link.call(Beyond(digest=self._digest, number=self._number, offset=beyond)) == -1
        if await in_thread(self._executor, self._blobs.stat, self._digest) is None:
            raise PeerUnavailable(f"blob {self._digest} has gone before all of it was read")
        piece = await in_thread(self._executor, self._blobs.read, self._digest, start, length)
        if not piece:
            raise PeerUnavailable(f"blob {self._digest} ends at {start} of {self._size} bytes")
        return piece

    async def _read_growing(self, upload: Upload, start: int, length: int) -> bytes:
        try:
            return await in_thread(self._executor, upload.read, start, length)
        except BlobUploadUnknown:
            self._upload = None
            return b""

    async def close(self) -> None:
        """Let go of the file; the transfer goes on."""
        if self._upload is not None:
            await in_thread(self._executor, self._upload.close)
