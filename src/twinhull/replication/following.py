"""Peers' uploads, read while they are still arriving there: when the last byte lands, little is left to send."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

import structlog

from twinhull.blobs.store import BlobStore
from twinhull.kit.digest import Digest
from twinhull.kit.errors import BlobUnknown, DigestInvalid, PeerUnavailable, SizeInvalid, TwinhullError, Unavailable
from twinhull.replication.peer import Peer
from twinhull.replication.threads import in_thread
from twinhull.replication.transfer import Transfer
from twinhull.replication.transfers import Transfers

log = structlog.get_logger(__name__)

# Each takes a thread for as long as the client takes to send. What finds no room is fetched when it is whole.
FOLLOWED_MAX: Final = 16
_NAMED_WITHIN_S: Final = 30.0
_PREFIX: Final = "follow-"


class Following:
    """The uploads of peers that this node follows. Used on the agent's event loop."""

    def __init__(self, blobs: BlobStore, transfers: Transfers, *, executor: Executor) -> None:
        """Take where the bytes go, and what counts them and fetches what could not be followed."""
        self._blobs = blobs
        self._transfers = transfers
        self._executor = executor
        self._followed: dict[str, Transfer] = {}

    def follow(self, peer: Peer, upload_id: str) -> None:
        """Read a peer's upload while it is still arriving there."""
        if upload_id not in self._followed and len(self._followed) < FOLLOWED_MAX:
            transfer = self._followed[upload_id] = Transfer(None, 0, f"{_PREFIX}{upload_id}")
            self._transfers.spawn(self._follow(peer, upload_id, transfer))

    def upload_ended(self, upload_id: str, digest: Digest | None, size: int) -> None:
        """Finish what is followed: the peer's upload became this blob, or was given up (None)."""
        transfer = self._followed.get(upload_id)
        if transfer is None:
            return
        if digest is None:
            transfer.end(BlobUnknown("the upload was given up"))
            return
        transfer.became(digest, size)
        self._transfers.adopt(digest, transfer)

    async def _follow(self, peer: Peer, upload_id: str, transfer: Transfer) -> None:
        try:
            await self._read(peer, upload_id, transfer)
            transfer.end()
            self._transfers.count(peer.node, "ok")
        except (TwinhullError, TimeoutError) as error:
            if not isinstance(error, BlobUnknown):
                self._transfers.count(peer.node, "failed")
                log.warning("following an upload broke", peer=peer.node, upload=upload_id, error=str(error))
            # It may be announced again, should it go on.
            self._followed.pop(upload_id, None)
            await self._fetch_instead(transfer, error)
        finally:
            transfer.end(Unavailable("the transfer was stopped"))
            self._followed.pop(upload_id, None)
            self._transfers.disown(transfer)

    async def _read(self, peer: Peer, upload_id: str, transfer: Transfer) -> None:
        upload = await in_thread(self._executor, self._blobs.start_upload, transfer.upload_id, {})
        try:
            sink = self._transfers.sink(peer, transfer, upload)
            await self._transfers.moved(lambda: peer.follow(upload_id, sink))
            async with asyncio.timeout(_NAMED_WITHIN_S):
                digest = await transfer.wait_named()
            await self._transfers.moved(lambda: upload.commit(digest, expected_size=transfer.size or None))
            self._transfers.arrived(digest)
        except BaseException:
            # Half of an upload is of no use to anybody; nothing goes on with it under this name.
            await self._transfers.moved(upload.abort)
            raise

    async def _fetch_instead(self, transfer: Transfer, error: Exception) -> None:
        """Bring a blob that could not be followed the other way, for those who wait for it."""
        if transfer.digest is None:
            transfer.end(error if isinstance(error, TwinhullError) else Unavailable(str(error)))
            return
        if isinstance(error, DigestInvalid | SizeInvalid):
            # Who reads along has been given other bytes than the blob's.
            transfer.end(PeerUnavailable(error.message))
        self._transfers.disown(transfer)
        try:
            await asyncio.shield(self._transfers.start(transfer.digest, transfer.size).ended)
            transfer.end()
        except TwinhullError as failure:
            transfer.end(failure)

    def drop_leftovers(self) -> None:
        """Remove what a process that died had followed; waits for the disk."""
        for state in list(self._blobs.uploads()):
            if state.upload_id.startswith(_PREFIX):
                self._blobs.open_upload(state.upload_id).abort()
