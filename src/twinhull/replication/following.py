"""Peers' uploads, read while they are still arriving there: when the last byte lands, little is left to send."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Executor
from typing import Final

import structlog

from twinhull.blobs.store import BlobStore, Upload
from twinhull.kit.digest import Digest
from twinhull.kit.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    DigestInvalid,
    PeerUnavailable,
    SizeInvalid,
    TwinhullError,
    Unavailable,
)
from twinhull.replication.peer import Peer
from twinhull.replication.threads import in_thread
from twinhull.replication.transfer import Transfer
from twinhull.replication.transfers import Transfers

log = structlog.get_logger(__name__)

# Each takes a thread for as long as the client takes to send. What finds no room is fetched when it is whole.
FOLLOWED_MAX: Final = 16
_NAMED_WITHIN_S: Final = 30.0
# Broken off uploads whose first parts are kept until their peers say what became of them.
_LEFT_MAX: Final = 32
_BEGUN_MAX: Final = 100
_PREFIX: Final = "follow-"


class Following:
    """The uploads of peers that this node follows. Used on the agent's event loop."""

    def __init__(self, blobs: BlobStore, transfers: Transfers, *, executor: Executor) -> None:
        """Take where the bytes go, and what counts them and fetches what could not be followed."""
        self._blobs = blobs
        self._transfers = transfers
        self._executor = executor
        self._followed: dict[str, Transfer] = {}
        # Uploads of which the first part is here, and whose peer was lost.
        self._left: dict[str, None] = {}

    def follow(self, peer: Peer, upload_id: str) -> None:
        """Read a peer's upload while it is still arriving there, from where it was broken off if it was."""
        if upload_id not in self._followed and len(self._followed) < FOLLOWED_MAX:
            self._left.pop(upload_id, None)
            transfer = self._followed[upload_id] = Transfer(None, 0, f"{_PREFIX}{upload_id}")
            self._transfers.spawn(self._follow(peer, upload_id, transfer))

    def upload_ended(self, upload_id: str, digest: Digest | None, size: int) -> None:
        """Finish what is followed: the peer's upload became this blob, or was given up (None)."""
        transfer = self._followed.get(upload_id)
        if transfer is None:
            self._leave_to_transfers(upload_id, digest)
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
            self._transfers.disown(transfer)
            if transfer.digest is not None or transfer.ended.done():
                # The peer has said what became of it before the line was cut.
                self._leave_to_transfers(upload_id, transfer.digest)
            await self._fetch_instead(transfer, error)
        finally:
            transfer.end(Unavailable("the transfer was stopped"))
            self._followed.pop(upload_id, None)
            self._transfers.disown(transfer)

    async def _read(self, peer: Peer, upload_id: str, transfer: Transfer) -> None:
        upload = await in_thread(self._executor, self._open, transfer.upload_id)
        try:
            transfer.grew(upload.offset)
            sink = self._transfers.sink(peer, transfer, upload)
            await self._transfers.moved(lambda: peer.follow(upload_id, upload.offset, sink))
            async with asyncio.timeout(_NAMED_WITHIN_S):
                digest = await transfer.wait_named()
            await self._transfers.moved(lambda: upload.commit(digest, expected_size=transfer.size or None))
            self._transfers.arrived(digest)
        except (PeerUnavailable, TimeoutError):
            # The line was cut, which says nothing against what came over it: the rest is added when the peer is back.
            await self._transfers.moved(upload.checkpoint)
            self._keep(upload_id)
            raise
        except BaseException:
            # Half of an upload that was given up, or is not what it should be, is of no use to anybody.
            await self._transfers.moved(upload.abort)
            raise

    def _open(self, upload_id: str) -> Upload:
        try:
            upload = self._blobs.open_upload(upload_id)
        except BlobUploadUnknown:
            return self._blobs.start_upload(upload_id, {})
        upload.catch_up()
        return upload

    def _keep(self, upload_id: str) -> None:
        self._left[upload_id] = None
        if len(self._left) > _LEFT_MAX:
            self._leave_to_transfers(next(iter(self._left)), None)

    def _leave_to_transfers(self, upload_id: str, digest: Digest | None) -> None:
        """Let what is here of an upload be the first part of the blob that it became, or go if it became none."""
        if upload_id not in self._left:
            return
        del self._left[upload_id]
        name = f"{_PREFIX}{upload_id}"
        if digest is not None and self._transfers.running(digest) is None and len(self._transfers.begun) < _BEGUN_MAX:
            self._transfers.begun[digest] = name
        else:
            self._transfers.spawn(in_thread(self._executor, self._drop, name))

    def _drop(self, name: str) -> None:
        with contextlib.suppress(BlobUploadUnknown):
            self._blobs.open_upload(name).abort()

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
