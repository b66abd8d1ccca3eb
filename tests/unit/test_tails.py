"""A growing upload as a peer reads it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.kit.clock import ManualClock
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import BlobUploadUnknown
from twinhull.replication.protocol import FOLLOWED_UPLOAD_BYTES_MIN
from twinhull.replication.tails import Follower, Tails

UPLOAD = "node.1"
DEADLINE_S = 10
LONG_BYTES = FOLLOWED_UPLOAD_BYTES_MIN


@pytest.fixture
def blobs(tmp_path: Path) -> FilesystemBlobs:
    """Where the uploads lie."""
    return FilesystemBlobs(tmp_path)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands."""
    return ManualClock()


@pytest.fixture
def tails(blobs: FilesystemBlobs, clock: ManualClock) -> Tails:
    """What follows them."""
    return Tails(blobs, clock)


def piece_of(follower: Follower) -> bytes:
    """Return what the follower has to read next; nothing at the end."""
    buffer = bytearray(100)
    return bytes(buffer[: follower.read_into(memoryview(buffer))])


def all_of(follower: Follower) -> bytes:
    """Return everything until the end."""
    return b"".join(iter(lambda: piece_of(follower), b""))


def test_follower_gets_what_is_there_and_what_comes(blobs: FilesystemBlobs, tails: Tails) -> None:
    upload = blobs.start_upload(UPLOAD, {})
    upload.append([b"first "])
    tails.grew(UPLOAD, upload.offset)
    with tails.follow(UPLOAD) as follower, ThreadPoolExecutor(1) as thread:
        assert piece_of(follower) == b"first "
        rest = thread.submit(all_of, follower)
        upload.append([b"second"])
        tails.grew(UPLOAD, upload.offset)
        digest = digest_of(b"first second")
        upload.commit(digest)
        tails.ended(UPLOAD, digest)
        assert rest.result(DEADLINE_S) == b"second"


def test_follower_that_comes_after_the_end_gets_the_blob(blobs: FilesystemBlobs, tails: Tails) -> None:
    digest = digest_of(b"short")
    upload = blobs.start_upload(UPLOAD, {})
    upload.append([b"short"])
    tails.grew(UPLOAD, 5)
    upload.commit(digest)
    tails.ended(UPLOAD, digest)
    with tails.follow(UPLOAD) as follower:
        assert all_of(follower) == b"short"


def test_follower_that_comes_between_the_end_and_its_news_waits_for_the_blob(blobs: FilesystemBlobs, tails: Tails) -> None:
    digest = digest_of(b"short")
    upload = blobs.start_upload(UPLOAD, {})
    upload.append([b"short"])
    tails.grew(UPLOAD, 5)
    upload.commit(digest)
    with tails.follow(UPLOAD) as follower, ThreadPoolExecutor(1) as thread:
        whole = thread.submit(all_of, follower)
        tails.ended(UPLOAD, digest)
        assert whole.result(DEADLINE_S) == b"short"


def test_follower_of_an_upload_that_is_given_up_is_told_so(blobs: FilesystemBlobs, tails: Tails) -> None:
    upload = blobs.start_upload(UPLOAD, {})
    upload.append([b"half"])
    tails.grew(UPLOAD, 4)
    with tails.follow(UPLOAD) as follower, ThreadPoolExecutor(1) as thread:
        assert piece_of(follower) == b"half"
        rest = thread.submit(all_of, follower)
        upload.abort()
        tails.ended(UPLOAD, None)
        with pytest.raises(BlobUploadUnknown, match="given up"):
            rest.result(DEADLINE_S)


def test_follower_of_an_upload_that_rests_is_sent_away(blobs: FilesystemBlobs, clock: ManualClock) -> None:
    tails = Tails(blobs, clock, rest_max_s=0.01)
    upload = blobs.start_upload(UPLOAD, {})
    upload.append([b"half"])
    upload.checkpoint()
    tails.grew(UPLOAD, 4)
    with tails.follow(UPLOAD) as follower:
        assert piece_of(follower) == b"half"
        with pytest.raises(BlobUploadUnknown, match="nothing more"):
            piece_of(follower)


def test_upload_that_nobody_has_heard_of_is_unknown(tails: Tails) -> None:
    with pytest.raises(BlobUploadUnknown), tails.follow(UPLOAD):
        pass
    assert not tails.ended(UPLOAD, None)


def test_upload_is_announced_once_when_it_has_become_long(tails: Tails) -> None:
    assert not tails.grew(UPLOAD, LONG_BYTES - 1), "sent when it is whole"
    assert tails.grew(UPLOAD, LONG_BYTES)
    assert not tails.grew(UPLOAD, LONG_BYTES + 1), "it was told before"
    assert tails.ended(UPLOAD, None), "who follows it must hear of its end"
    tails.grew("short", LONG_BYTES - 1)
    assert not tails.ended("short", None)


def test_uploads_that_grow_right_now_are_listed(tails: Tails, clock: ManualClock) -> None:
    for name in ("resting", "ended", "lively"):
        tails.grew(name, LONG_BYTES)
    tails.grew("short", 1)
    clock.advance(10_000)
    tails.grew("lively", LONG_BYTES + 1)
    tails.grew("short", 2)
    tails.ended("ended", None)
    assert tails.growing() == ["lively"]
