"""This node's growing uploads, as peers that follow them read them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from typing import Final

from twinhull.blobs.store import BlobStore
from twinhull.kit.errors import BlobUploadUnknown
from twinhull.replication.threads import in_thread

_PIECE_BYTES: Final = 1024 * 1024


class _Tail:
    def __init__(self) -> None:
        self.size = 0
        self.ended = False
        self.announced = False
        self._grew = asyncio.Event()

    def moved(self) -> None:
        """Wake who waits for more."""
        self._grew.set()
        self._grew = asyncio.Event()

    async def wait_beyond(self, offset: int) -> None:
        while self.size <= offset and not self.ended:
            await self._grew.wait()


class Tails:
    """What is known of uploads under way. Lives on the agent's event loop."""

    def __init__(self, blobs: BlobStore, executor: Executor) -> None:
        """Take where the uploads lie."""
        self._blobs = blobs
        self._executor = executor
        self._tails: dict[str, _Tail] = {}

    def grew(self, upload_id: str, size: int) -> bool:
        """Note how far an upload got; tell whether this is the first time it is heard of."""
        tail = self._tails.get(upload_id)
        first = tail is None
        if tail is None:
            tail = self._tails[upload_id] = _Tail()
        tail.size = max(tail.size, size)
        tail.moved()
        return first

    def ended(self, upload_id: str) -> bool:
        """Note that an upload is finished or given up; tell whether it had been heard of."""
        tail = self._tails.pop(upload_id, None)
        if tail is None:
            return False
        tail.ended = True
        tail.moved()
        return True

    async def follow(self, upload_id: str) -> AsyncIterator[bytes]:
        """Yield the upload's bytes from its start, as they come, until it ends. Raises BlobUploadUnknown."""
        tail = self._tails.get(upload_id)
        if tail is None:
            raise BlobUploadUnknown(f"upload {upload_id[:160]} is not arriving here")
        upload = await in_thread(self._executor, self._blobs.open_upload, upload_id)
        try:
            offset = 0
            while True:
                piece = await in_thread(self._executor, upload.read, offset, _PIECE_BYTES)
                if piece:
                    offset += len(piece)
                    yield piece
                elif tail.ended:
                    return
                else:
                    await tail.wait_beyond(offset)
        finally:
            await in_thread(self._executor, upload.close)
