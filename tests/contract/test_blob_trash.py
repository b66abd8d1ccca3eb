"""What every blob store promises of blobs that nothing names any more, asked of each backend."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.memory_blobs import MemoryBlobs
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.blobs.store import BlobStore
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import Conflict

FAR_FUTURE_MS: Final = 1 << 50
CONTENT: Final = random.Random(3).randbytes(300_000)

# Gives the store as a process that was started just now sees it.
Reopen = Callable[[], BlobStore]


@pytest.fixture(params=["filesystem", "memory"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    """The same store again and again."""
    if request.param == "filesystem":
        return lambda: FilesystemBlobs(tmp_path)
    memory = MemoryBlobs()
    return lambda: memory


@pytest.fixture
def blobs(reopen: Reopen) -> BlobStore:
    """A store with nothing in it."""
    return reopen()


def stored(blobs: BlobStore, content: bytes = CONTENT) -> Digest:
    digest = digest_of(content)
    blobs.put(digest, content)
    return digest


def test_discarded_blobs_are_gone_at_once_and_their_space_when_the_trash_is_emptied(blobs: BlobStore) -> None:
    digest, other = stored(blobs), stored(blobs, b"stays")
    with blobs.open(digest) as reader:
        assert blobs.discard([digest, digest_of(b"never was")], untouched_since_ms=FAR_FUTURE_MS) == {digest: len(CONTENT)}
        assert blobs.stat(digest) is None
        assert list(blobs.digests()) == [other]
        assert blobs.empty_trash() == len(CONTENT)
        assert blobs.empty_trash() == 0
        assert reader.read() == CONTENT
    assert stored(blobs) == digest
    assert blobs.stat(digest) == len(CONTENT)


def test_discard_spares_what_was_touched_since(blobs: BlobStore) -> None:
    digest = stored(blobs)
    assert blobs.discard([digest], untouched_since_ms=0) == {}
    assert blobs.stat(digest) == len(CONTENT)


def test_nothing_is_discarded_while_somebody_holds(reopen: Reopen) -> None:
    digest = stored(reopen())
    with reopen().held(), reopen().held(), pytest.raises(Conflict):
        reopen().discard([digest], untouched_since_ms=FAR_FUTURE_MS)
    assert reopen().stat(digest) == len(CONTENT)
    assert reopen().discard([digest], untouched_since_ms=FAR_FUTURE_MS)


def test_what_was_discarded_before_a_crash_is_removed_by_the_next_recovery(reopen: Reopen) -> None:
    digest = stored(reopen())
    free_bytes = reopen().free_bytes()
    reopen().discard([digest], untouched_since_ms=FAR_FUTURE_MS)
    reopen().recover(0)
    assert reopen().empty_trash() == 0
    assert reopen().free_bytes() >= free_bytes
