"""This node's growing uploads, as peers that follow them read them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from typing import Final

from twinhull.blobs.store import BlobStore
from twinhull.kit.clock import Clock
from twinhull.kit.digest import Digest
from twinhull.kit.errors import BlobUploadUnknown
from twinhull.replication.threads import in_thread

_PIECE_BYTES: Final = 1024 * 1024
_REMEMBERED_MAX: Final = 10_000
# A follower of an upload that rests for longer is sent away, since its client may never come back.
_REST_MAX_S: Final = 30.0
# Who rests for longer is not announced to peers that come later: its client may be gone.
_LIVELY_S: Final = 5.0


class _Tail:
    def __init__(self) -> None:
        self.size = 0
        self.grew_s = 0.0
        self.ended = False
        # What it became, once it has ended well.
        self.digest: Digest | None = None
        self._grew = asyncio.Event()

    def moved(self) -> None:
        """Wake who waits for more."""
        self._grew.set()
        self._grew = asyncio.Event()

    async def wait_beyond(self, offset: int) -> None:
        while self.size <= offset and not self.ended:
            await self._grew.wait()


class Tails:
    """What is known of uploads under way, and of those that ended lately. Lives on the agent's event loop."""

    def __init__(self, blobs: BlobStore, executor: Executor, clock: Clock) -> None:
        """Take where the uploads lie."""
        self._blobs = blobs
        self._executor = executor
        self._clock = clock
        self._tails: OrderedDict[str, _Tail] = OrderedDict()

    def grew(self, upload_id: str, size: int) -> bool:
        """Note how far an upload got; tell whether this is the first time it is heard of."""
        tail = self._tails.get(upload_id)
        first = tail is None
        if tail is None:
            tail = self._tails[upload_id] = _Tail()
            if len(self._tails) > _REMEMBERED_MAX:
                self._tails.popitem(last=False)
        tail.size, tail.grew_s = max(tail.size, size), self._clock.monotonic_s()
        tail.moved()
        return first

    def ended(self, upload_id: str, digest: Digest | None) -> bool:
        """Note that an upload became this blob, or was given up (None); tell whether it had been heard of."""
        tail = self._tails.get(upload_id)
        if tail is None:
            return False
        tail.ended, tail.digest = True, digest
        tail.moved()
        return True

    def growing(self) -> list[str]:
        """Return the uploads that are arriving at this moment."""
        since_s = self._clock.monotonic_s() - _LIVELY_S
        return [upload_id for upload_id, tail in self._tails.items() if not tail.ended and tail.grew_s > since_s]

    async def follow(self, upload_id: str) -> AsyncIterator[bytes]:
        """Yield the upload's bytes from its start, as they come, until it ends.

        Raises BlobUploadUnknown, also when it is given up, or rests for too long.

        A short upload may have ended before its follower asks: then the blob that it became is given.
        """
        tail = self._tails.get(upload_id)
        if tail is None:
            raise BlobUploadUnknown(f"upload {upload_id[:160]} is not arriving here")
        offset = 0
        while True:
            # Looked at before the read: what arrives between the two is found by another one.
            ended = tail.ended
            piece = await in_thread(self._executor, self._read, upload_id, tail, offset)
            if piece:
                offset += len(piece)
                yield piece
            elif ended and tail.digest is None:
                raise BlobUploadUnknown(f"upload {upload_id[:160]} was given up")
            elif ended:
                return
            else:
                await self._wait_beyond(upload_id, tail, offset)

    async def _wait_beyond(self, upload_id: str, tail: _Tail, offset: int) -> None:
        try:
            async with asyncio.timeout(_REST_MAX_S):
                await tail.wait_beyond(offset)
        except TimeoutError:
            raise BlobUploadUnknown(f"nothing more of upload {upload_id[:160]} arrives") from None

    def _read(self, upload_id: str, tail: _Tail, offset: int) -> bytes:
        """Return what there is after the offset: from the growing file, or from the blob that it was renamed to."""
        try:
            with self._blobs.open_upload(upload_id) as upload:
                return upload.read(offset, _PIECE_BYTES)
        except BlobUploadUnknown:
            if tail.digest is None:
                if not tail.ended:
                    # Renamed, but its end is not announced yet.
                    return b""
                raise
            return self._blobs.read(tail.digest, offset, _PIECE_BYTES)
