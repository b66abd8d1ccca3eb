"""Blobs that are wanted come as soon as what kept them from coming is over."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.streams import until
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import StorageFull
from twinhull.replication import backlog as module
from twinhull.replication.backlog import Backlog
from twinhull.replication.transfer import Transfer

SIZE = 1_000_000
DIGEST = digest_of(b"wanted")


class Disk:
    """Brings blobs to a disk that has as much room as the test says."""

    def __init__(self) -> None:
        self.free = 0
        self.looks = 0
        self.tries = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def free_bytes(self) -> int:
        self.looks += 1
        return self.free

    def running(self, _digest: Digest) -> Transfer | None:
        return None

    def start(self, digest: Digest, size: int) -> Transfer:
        self.tries += 1
        transfer = Transfer(digest, size, "upload")
        if self.free < size:
            transfer.ended.set_exception(StorageFull())
        else:
            transfer.ended.set_result(None)
        return transfer

    def spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        self.tasks.add(asyncio.ensure_future(coroutine))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def test_blob_comes_once_there_is_room_for_it_however_often_it_has_failed(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BACKOFF_MIN_S", 3600.0)
    monkeypatch.setattr(module, "_BACKOFF_MAX_S", 3600.0)
    monkeypatch.setattr(module, "_LOOK_FOR_ROOM_S", 0.001)
    disk = Disk()
    wanted = Backlog(disk, executor=threads, is_named=lambda _: True, free_bytes=disk.free_bytes, jitter=random.Random(1))
    wanted.want(DIGEST, SIZE)
    await until(lambda: disk.tries == 1)
    disk.free = SIZE // 2
    seen = disk.looks
    await until(lambda: disk.looks > seen + 2)
    assert disk.tries == 1, "there is not room enough yet"
    disk.free = 2 * SIZE
    await until(lambda: wanted.brought == 1)
    assert disk.tries == 2
    await asyncio.gather(*disk.tasks)
