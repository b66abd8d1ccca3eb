"""From a request's or a peer's body into an upload: batches go to a thread while the next one is being received."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from typing import Final

from twinhull.blobs.store import Upload
from twinhull.kit.errors import TooLarge, TwinhullError

# One thread's turn hashes and writes so much, so that switches between loop and thread are few.
BATCH_BYTES: Final = 1 << 20
_BATCH_BYTES_MIN: Final = 256 << 10
# A batch of more pieces than this is joined first, since each piece may wait for the interpreter's lock after its hash.
# Chosen, not measured: granian hands over about 320 KB at a time, three or four pieces a batch.
_PIECES_MAX: Final = 16


async def ingest(
    upload: Upload,
    body: AsyncIterator[bytes],
    *,
    executor: Executor | None = None,
    on_progress: Callable[[int], None] | None = None,
    limit_bytes: int | None = None,
    batch_bytes: Callable[[], int] | None = None,
) -> int:
    """Append the whole body to the upload, and return its length; the upload stays claimed, to be committed or checkpointed.

    After each batch `on_progress` is told the upload's new offset. At most two batches are held: one being written, one
    being received. When the body breaks off, this is cancelled, or the body is longer than `limit_bytes` (TooLarge), what
    came so far is written and checkpointed, so that the client can go on from there. Raises what append raises.
    """
    pump = _Pump(upload, executor, on_progress)
    try:
        async for piece in body:
            if limit_bytes is not None and pump.taken_bytes + len(piece) > limit_bytes:
                raise TooLarge(f"body is longer than {limit_bytes} bytes")
            pump.take(piece)
            if pump.held_bytes >= (batch_bytes() if batch_bytes else BATCH_BYTES):
                await pump.turn()
        await pump.drain()
    except BaseException:
        await pump.give_up()
        raise
    return pump.taken_bytes


class Intake:
    """All ingests of one process: they share threads and a limit on memory, so many at once work in smaller batches."""

    def __init__(self, executor: Executor, *, memory_bytes: int = 48 << 20) -> None:
        """Take the threads, and about how many bytes all batches together may hold."""
        self._executor = executor
        self._memory_bytes = memory_bytes
        self._active = 0

    @property
    def active(self) -> int:
        """Return how many bodies are coming in right now."""
        return self._active

    async def ingest(
        self,
        upload: Upload,
        body: AsyncIterator[bytes],
        *,
        on_progress: Callable[[int], None] | None = None,
        limit_bytes: int | None = None,
    ) -> int:
        """Do what `ingest` does, within the shared limits."""
        with self._counted():
            return await ingest(
                upload,
                body,
                executor=self._executor,
                on_progress=on_progress,
                limit_bytes=limit_bytes,
                batch_bytes=self._batch_bytes,
            )

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    def _batch_bytes(self) -> int:
        return max(_BATCH_BYTES_MIN, min(BATCH_BYTES, self._memory_bytes // (2 * max(1, self._active))))


class _Pump:
    """The batch that is being gathered, and the one that a thread is writing."""

    def __init__(self, upload: Upload, executor: Executor | None, on_progress: Callable[[int], None] | None) -> None:
        self._upload = upload
        self._executor = executor
        self._on_progress = on_progress
        self._pieces: list[bytes] = []
        self._running: asyncio.Future[int] | None = None
        self.held_bytes = 0
        self.taken_bytes = 0

    def take(self, piece: bytes) -> None:
        """Add a piece to the batch."""
        if piece:
            self._pieces.append(piece)
            self.held_bytes += len(piece)
            self.taken_bytes += len(piece)

    async def turn(self) -> None:
        """Hand the batch to a thread once the one before is written; raises what became of that one."""
        await self._finish()
        if self._pieces:
            pieces, self._pieces, self.held_bytes = self._pieces, [], 0
            self._running = asyncio.get_running_loop().run_in_executor(self._executor, _append, self._upload, pieces)

    async def drain(self) -> None:
        """Write all that is held."""
        await self.turn()
        await self._finish()

    async def give_up(self) -> None:
        """Write what is held if that still goes, and let go of the upload; however often this is cancelled meanwhile."""
        running, self._running = self._running, None
        if running is not None:
            await _settled(running)
        last = asyncio.get_running_loop().run_in_executor(
            self._executor, _append_and_let_go, self._upload, [] if _has_failed(running) else self._pieces
        )
        await _settled(last)

    async def _finish(self) -> None:
        if self._running is not None:
            # wait() leaves the future alone when this is cancelled: the thread goes on, and give_up must wait for it.
            await asyncio.wait([self._running])
            offset = self._running.result()
            self._running = None
            if self._on_progress is not None:
                self._on_progress(offset)


def _append(upload: Upload, pieces: list[bytes]) -> int:
    upload.append([b"".join(pieces)] if len(pieces) > _PIECES_MAX else pieces)
    return upload.offset


def _append_and_let_go(upload: Upload, pieces: list[bytes]) -> None:
    """Save what can be saved; the failure that led here is the one to report."""
    with contextlib.suppress(TwinhullError):
        if pieces:
            _append(upload, pieces)
    with contextlib.suppress(TwinhullError):
        upload.checkpoint()


def _has_failed(future: asyncio.Future[int] | None) -> bool:
    return future is not None and future.exception() is not None


async def _settled(future: asyncio.Future[int] | asyncio.Future[None]) -> None:
    """Wait until a thread is done, also when cancelled: it is finite, and nobody else may touch the upload before."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])
