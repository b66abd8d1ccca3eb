"""A growing upload as a peer reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.kit.clock import ManualClock
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import BlobUploadUnknown
from twinhull.replication.tails import Tails

UPLOAD = "node.1"


@pytest.fixture
def blobs(tmp_path: Path) -> FilesystemBlobs:
    """Where the uploads lie."""
    return FilesystemBlobs(tmp_path)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands."""
    return ManualClock()


@pytest.fixture
def tails(blobs: FilesystemBlobs, clock: ManualClock) -> Iterator[Tails]:
    """What follows them."""
    with ThreadPoolExecutor(2) as executor:
        yield Tails(blobs, executor, clock)


async def all_of(pieces: AsyncIterator[bytes]) -> bytes:
    """Return everything until the end."""
    return b"".join([piece async for piece in pieces])


async def test_follower_gets_what_is_there_and_what_comes(blobs: FilesystemBlobs, tails: Tails) -> None:
    upload = blobs.start_upload(UPLOAD, {})
    upload.append([b"first "])
    assert tails.grew(UPLOAD, upload.offset)
    pieces = tails.follow(UPLOAD)
    assert await anext(pieces) == b"first "
    second = asyncio.ensure_future(all_of(pieces))
    await asyncio.sleep(0)
    upload.append([b"second"])
    assert not tails.grew(UPLOAD, upload.offset), "it was heard of before"
    await asyncio.sleep(0)
    digest = digest_of(b"first second")
    upload.commit(digest)
    assert tails.ended(UPLOAD, digest)
    assert await second == b"second"


async def test_follower_that_comes_after_the_end_gets_the_blob(blobs: FilesystemBlobs, tails: Tails) -> None:
    digest = digest_of(b"short")
    upload = blobs.start_upload(UPLOAD, {})
    upload.append([b"short"])
    tails.grew(UPLOAD, 5)
    upload.commit(digest)
    tails.ended(UPLOAD, digest)
    assert await all_of(tails.follow(UPLOAD)) == b"short"


async def test_follower_of_an_upload_that_is_given_up_is_told_so(blobs: FilesystemBlobs, tails: Tails) -> None:
    upload = blobs.start_upload(UPLOAD, {})
    upload.append([b"half"])
    tails.grew(UPLOAD, 4)
    pieces = tails.follow(UPLOAD)
    assert await anext(pieces) == b"half"
    rest = asyncio.ensure_future(all_of(pieces))
    await asyncio.sleep(0)
    upload.abort()
    tails.ended(UPLOAD, None)
    with pytest.raises(BlobUploadUnknown):
        await rest


async def test_upload_that_nobody_has_heard_of_is_unknown(tails: Tails) -> None:
    with pytest.raises(BlobUploadUnknown):
        await all_of(tails.follow(UPLOAD))
    assert not tails.ended(UPLOAD, None)


def test_uploads_that_grow_right_now_are_listed(tails: Tails, clock: ManualClock) -> None:
    for name in ("resting", "ended", "lively"):
        tails.grew(name, 1)
    clock.advance(10_000)
    tails.grew("lively", 2)
    tails.ended("ended", None)
    assert tails.growing() == ["lively"]
