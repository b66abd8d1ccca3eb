"""How a body becomes appends: batches, back-pressure, and what is left when it breaks off."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.memory_blobs import MemoryBlobs, MemoryUpload
from twinhull.blobs.ingest import BATCH_BYTES, Intake, ingest
from twinhull.blobs.store import Chunk
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import Conflict, StorageFull, TooLarge


class Recorder(MemoryUpload):
    """An upload that notes the size and the pieces of each batch, and can be made to wait before it takes one."""

    def __init__(self, store: MemoryBlobs, upload_id: str = "u") -> None:
        store.start_upload(upload_id, {})
        super().__init__(store, upload_id, store.pending[upload_id])
        self.batches: list[tuple[int, int]] = []
        self.may_write = threading.Event()
        self.may_write.set()

    def append(self, chunks: Sequence[Chunk]) -> None:
        """Wait for leave, note, append."""
        assert self.may_write.wait(10)
        self.batches.append((sum(map(len, chunks)), len(chunks)))
        super().append(chunks)


@pytest.fixture
def store() -> MemoryBlobs:
    return MemoryBlobs(capacity_bytes=64 << 20)


@pytest.fixture
def upload(store: MemoryBlobs) -> Recorder:
    return Recorder(store)


async def body_of(pieces: Iterable[bytes], failure: BaseException | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if failure is not None:
        raise failure


def numbered(count: int, size: int) -> list[bytes]:
    return [bytes([i % 251]) * size for i in range(count)]


@pytest.mark.parametrize("size", [1, 1000, 65_536, 417_792, BATCH_BYTES, 3 * BATCH_BYTES + 1])
async def test_body_arrives_whole_in_batches(store: MemoryBlobs, upload: Recorder, size: int) -> None:
    pieces = numbered(7_000_000 // max(size, 10_000), size)
    offsets: list[int] = []
    assert await ingest(upload, body_of(pieces), on_progress=offsets.append) == sum(map(len, pieces))
    assert all(BATCH_BYTES <= taken < BATCH_BYTES + size or size > BATCH_BYTES for taken, _ in upload.batches[:-1])
    assert all(count <= 16 for _, count in upload.batches)
    assert offsets == [sum(taken for taken, _ in upload.batches[: i + 1]) for i in range(len(upload.batches))]
    content = b"".join(pieces)
    upload.commit(digest_of(content))
    assert store.read(digest_of(content), 0, 1 << 30) == content


async def test_empty_body_appends_nothing(upload: Recorder) -> None:
    assert await ingest(upload, body_of([b"", b""])) == 0
    assert upload.batches == []


async def test_slow_disk_holds_the_sender_back(upload: Recorder) -> None:
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(20):
            asked += 1
            yield bytes(BATCH_BYTES)

    upload.may_write.clear()
    task = asyncio.create_task(ingest(upload, endless()))
    for _ in range(100):
        await asyncio.sleep(0)
    # One batch is with the thread, one is held.
    assert asked == 2
    upload.may_write.set()
    assert await task == 20 * BATCH_BYTES
    assert upload.offset == 20 * BATCH_BYTES


async def test_body_that_breaks_off_leaves_what_came_to_go_on_from(store: MemoryBlobs, upload: Recorder) -> None:
    pieces = numbered(5, 700_000)
    with pytest.raises(ConnectionResetError):
        await ingest(upload, body_of(pieces, ConnectionResetError()))
    again = store.open_upload("u")
    assert again.offset == 3_500_000
    again.append([b"the rest"])
    again.commit(digest_of(b"".join(pieces) + b"the rest"))


@pytest.mark.parametrize("second", [4, BATCH_BYTES], ids=["waiting for the body", "waiting for the thread"])
async def test_cancelled_ingest_waits_for_its_thread_and_lets_go(store: MemoryBlobs, upload: Recorder, second: int) -> None:
    reached = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield bytes(BATCH_BYTES)
        if second == BATCH_BYTES:
            reached.set()
        yield bytes(second)
        reached.set()
        await asyncio.Event().wait()

    upload.may_write.clear()
    task = asyncio.create_task(ingest(upload, stuck()))
    await reached.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    with pytest.raises(Conflict):
        claimed_by_the_thread(store, upload)
    upload.may_write.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = store.open_upload("u")
    assert again.offset == BATCH_BYTES + second
    again.abort()


def claimed_by_the_thread(store: MemoryBlobs, upload: Recorder) -> None:
    """Try to append beside an upload whose owner is at work."""
    upload.catch_up()
    store.open_upload("u").append([b"intruder"])


async def test_body_over_the_limit_is_refused_and_its_start_kept(store: MemoryBlobs, upload: Recorder) -> None:
    with pytest.raises(TooLarge):
        await ingest(upload, body_of(numbered(5, 1000)), limit_bytes=2500)
    assert store.open_upload("u").offset == 2000
    store.open_upload("u").abort()


async def test_body_of_exactly_the_limit_is_taken(upload: Recorder) -> None:
    assert await ingest(upload, body_of(numbered(5, 500)), limit_bytes=2500) == 2500


async def test_full_disk_ends_it_with_the_earlier_offset() -> None:
    store = MemoryBlobs(capacity_bytes=3 * BATCH_BYTES)
    upload = Recorder(store)
    with pytest.raises(StorageFull):
        await ingest(upload, body_of(numbered(9, BATCH_BYTES)))
    again = store.open_upload("u")
    assert again.offset == 3 * BATCH_BYTES
    again.abort()


async def test_intake_shares_its_memory_among_the_bodies(store: MemoryBlobs) -> None:
    with ThreadPoolExecutor(2) as executor:
        intake = Intake(executor, memory_bytes=2 << 20)
        together = asyncio.Barrier(4)

        async def waiting(pieces: list[bytes]) -> AsyncIterator[bytes]:
            async with together:
                pass
            for piece in pieces:
                yield piece

        async def one(number: int) -> Recorder:
            upload = Recorder(store, f"u{number}")
            await intake.ingest(upload, waiting(numbered(20, 65_536)))
            return upload

        uploads = await asyncio.gather(*map(one, range(4)))
        assert all(upload.offset == 20 * 65_536 for upload in uploads)
        assert {upload.batches[0][0] for upload in uploads} == {256 << 10}
        assert intake.active == 0
