"""What every blob store promises, asked of each backend."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.memory_blobs import MemoryBlobs
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.blobs.store import ALGORITHM_LABEL, BlobStore, transfer_upload_id
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import (
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    Conflict,
    DigestInvalid,
    RangeInvalid,
    SizeInvalid,
    Unsupported,
)

FAR_FUTURE_MS: Final = 1 << 50
CONTENT: Final = random.Random(3).randbytes(300_000)
DIGEST: Final = digest_of(CONTENT)

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


def test_put_blob_is_found_and_read(blobs: BlobStore) -> None:
    assert stored(blobs) == DIGEST
    assert blobs.stat(DIGEST) == len(CONTENT)
    with blobs.open(DIGEST) as file:
        assert file.read() == CONTENT
        file.seek(-10, 2)
        assert file.read() == CONTENT[-10:]
    path = blobs.path_of(DIGEST)
    assert path is None or path.read_bytes() == CONTENT
    assert blobs.free_bytes() > 0


def test_unknown_blob_is_not_found(blobs: BlobStore) -> None:
    assert blobs.stat(DIGEST) is None
    assert blobs.touch(DIGEST) is None
    assert blobs.path_of(DIGEST) is None
    assert not blobs.delete(DIGEST)
    assert not blobs.quarantine(DIGEST)
    with pytest.raises(BlobUnknown):
        blobs.open(DIGEST)
    with pytest.raises(BlobUnknown):
        blobs.read(DIGEST, 0, 1)


def test_put_refuses_bytes_that_do_not_match_the_digest(blobs: BlobStore) -> None:
    with pytest.raises(DigestInvalid):
        blobs.put(DIGEST, b"other")
    assert blobs.stat(DIGEST) is None
    assert list(blobs.digests()) == []


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, 0, b""),
        (0, 1, CONTENT[:1]),
        (100, 1000, CONTENT[100:1100]),
        (len(CONTENT) - 5, 100, CONTENT[-5:]),
        (len(CONTENT), 1, b""),
    ],
)
def test_read_gives_the_range_that_is_there(blobs: BlobStore, start: int, length: int, expected: bytes) -> None:
    stored(blobs)
    assert blobs.read(DIGEST, start, length) == expected


@pytest.mark.parametrize(("start", "length"), [(-1, 5), (0, -1), (len(CONTENT) + 1, 1)])
def test_read_outside_the_blob_is_refused_with_its_size(blobs: BlobStore, start: int, length: int) -> None:
    stored(blobs)
    with pytest.raises(RangeInvalid) as refused:
        blobs.read(DIGEST, start, length)
    assert refused.value.size_bytes == len(CONTENT)


@pytest.mark.parametrize("bad", ["sha256:../../../etc/passwd", "sha256:", "md5:" + "0" * 32, "../x", "sha256:" + "A" * 64, ""])
def test_what_is_no_digest_reaches_no_storage(blobs: BlobStore, bad: str) -> None:
    with pytest.raises((DigestInvalid, Unsupported)):
        blobs.stat(Digest(bad))
    with pytest.raises((DigestInvalid, Unsupported)):
        blobs.put(Digest(bad), b"")


def test_upload_in_appends_becomes_the_blob(blobs: BlobStore) -> None:
    upload = blobs.start_upload("n1.abc", {"repository": "library/app"})
    assert (upload.upload_id, upload.offset, dict(upload.labels)) == ("n1.abc", 0, {"repository": "library/app"})
    upload.append([CONTENT[:1000], memoryview(CONTENT)[1000:70_000], b""])
    assert upload.offset == 70_000
    upload.append([bytearray(CONTENT[70_000:])])
    assert blobs.stat(DIGEST) is None
    assert upload.commit(DIGEST, expected_size=len(CONTENT)) == len(CONTENT)
    assert blobs.read(DIGEST, 0, 1 << 20) == CONTENT
    assert list(blobs.uploads()) == []
    with pytest.raises(BlobUploadUnknown):
        blobs.open_upload("n1.abc")


def test_append_takes_more_chunks_than_the_system_takes_at_once(blobs: BlobStore) -> None:
    upload = blobs.start_upload("u", {})
    upload.append([CONTENT[i : i + 100] for i in range(0, len(CONTENT), 100)])
    assert upload.commit(DIGEST) == len(CONTENT)


def test_empty_upload_is_the_empty_blob(blobs: BlobStore) -> None:
    assert blobs.start_upload("u", {}).commit(digest_of(b""), expected_size=0) == 0
    assert blobs.stat(digest_of(b"")) == 0


def test_commit_refuses_bytes_that_do_not_match_the_digest(blobs: BlobStore) -> None:
    upload = blobs.start_upload("u", {})
    upload.append([CONTENT, b"!"])
    with pytest.raises(DigestInvalid):
        upload.commit(DIGEST)
    assert blobs.stat(DIGEST) is None
    assert list(blobs.digests()) == []
    with pytest.raises(BlobUploadUnknown):
        blobs.open_upload("u")
    with pytest.raises(BlobUploadUnknown):
        upload.append([b"more"])


def test_commit_of_another_size_keeps_the_upload(blobs: BlobStore) -> None:
    upload = blobs.start_upload("u", {})
    upload.append([CONTENT[:10]])
    with pytest.raises(SizeInvalid):
        upload.commit(digest_of(CONTENT[:10]), expected_size=len(CONTENT))
    again = blobs.open_upload("u")
    again.append([CONTENT[10:]])
    assert again.commit(DIGEST, expected_size=len(CONTENT)) == len(CONTENT)


@pytest.mark.parametrize("label", [{}, {ALGORITHM_LABEL: "sha512"}, {ALGORITHM_LABEL: "sha256,sha512"}])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_upload_commits_under_either_algorithm(reopen: Reopen, label: dict[str, str], algorithm: str) -> None:
    blobs = reopen()
    with blobs.start_upload("u", label) as upload:
        upload.append([CONTENT[:500]])
        upload.checkpoint()
    digest = digest_of(CONTENT, algorithm)
    with reopen().open_upload("u") as upload:
        upload.append([CONTENT[500:]])
        upload.checkpoint()
    with reopen().open_upload("u") as upload:
        upload.commit(digest)
    assert blobs.read(digest, 0, 1 << 20) == CONTENT
    assert list(blobs.digests()) == [digest]


def test_upload_goes_on_from_its_checkpoint_elsewhere(reopen: Reopen) -> None:
    first = reopen().start_upload("u", {"repository": "a/b"})
    first.append([CONTENT[:1234]])
    first.checkpoint()
    second = reopen().open_upload("u")
    assert (second.offset, dict(second.labels)) == (1234, {"repository": "a/b"})
    second.catch_up()
    second.append([CONTENT[1234:]])
    second.checkpoint()
    assert reopen().open_upload("u").commit(DIGEST) == len(CONTENT)


def test_bytes_after_the_last_checkpoint_count_too(reopen: Reopen) -> None:
    with reopen().start_upload("u", {}) as upload:
        upload.append([CONTENT])
        upload.checkpoint()
    with reopen().open_upload("u") as upload:
        upload.append([b"more"])
    with pytest.raises(DigestInvalid):
        reopen().open_upload("u").commit(DIGEST)
    assert reopen().stat(DIGEST) is None


def test_upload_of_one_writer_refuses_a_second(reopen: Reopen) -> None:
    first = reopen().start_upload("u", {})
    first.append([b"a"])
    second = reopen().open_upload("u")
    for act in (lambda: second.append([b"b"]), second.abort, second.catch_up, lambda: second.commit(digest_of(b"a"))):
        with pytest.raises(Conflict):
            act()
    first.close()
    second.append([b"b"])
    second.commit(digest_of(b"ab"))


def test_upload_that_went_on_elsewhere_is_not_overwritten(reopen: Reopen) -> None:
    late = reopen().open_upload(reopen().start_upload("u", {}).upload_id)
    with reopen().open_upload("u") as other:
        other.append([b"abc"])
    with pytest.raises(RangeInvalid) as refused:
        late.append([b"abc"])
    assert refused.value.size_bytes == 3
    with pytest.raises(RangeInvalid):
        late.commit(digest_of(b""))
    assert reopen().open_upload("u").offset == 3


def test_upload_that_ended_elsewhere_is_unknown(reopen: Reopen) -> None:
    late = reopen().start_upload("u", {})
    reopen().open_upload("u").commit(digest_of(b""))
    with pytest.raises(BlobUploadUnknown):
        late.append([b"x"])
    assert reopen().read(digest_of(b""), 0, 10) == b""


def test_writer_of_an_ended_upload_touches_neither_the_blob_nor_its_namesake(reopen: Reopen) -> None:
    late = reopen().start_upload("u", {})
    assert late.read(0, 1) == b""
    reopen().open_upload("u").commit(digest_of(b""))
    reopen().start_upload("u", {})
    with pytest.raises(BlobUploadUnknown):
        late.append([b"x"])
    assert reopen().stat(digest_of(b"")) == 0
    assert reopen().open_upload("u").offset == 0


def test_started_anew_upload_is_not_the_old_one(reopen: Reopen) -> None:
    blobs = reopen()
    old = blobs.start_upload("u", {})
    old.append([b"abc"])
    old.checkpoint()
    reopen().open_upload("u").abort()
    with reopen().start_upload("u", {}) as new:
        new.append([b"xyz"])
        new.checkpoint()
    # The first store still has the hash of "abc" in memory, and the length is the same.
    with blobs.open_upload("u") as upload:
        upload.append([b"!"])
        upload.commit(digest_of(b"xyz!"))
    assert reopen().read(digest_of(b"xyz!"), 0, 10) == b"xyz!"


def test_abort_forgets_and_may_be_repeated(reopen: Reopen) -> None:
    upload = reopen().start_upload("u", {})
    upload.append([b"a"])
    upload.abort()
    upload.abort()
    assert list(reopen().uploads()) == []
    assert reopen().start_upload("u", {}).offset == 0


def test_start_of_an_id_in_use_is_refused(reopen: Reopen) -> None:
    with reopen().start_upload(transfer_upload_id(DIGEST), {}) as upload:
        upload.append([b"a"])
    with pytest.raises(Conflict):
        reopen().start_upload(transfer_upload_id(DIGEST), {})
    assert reopen().open_upload(transfer_upload_id(DIGEST)).offset == 1


@pytest.mark.parametrize(
    "bad", ["", ".", "..", "../x", "a/b", "/etc/passwd", ".new-x", "a\x00b", "a\nb", "é", "x" * 201, "a b"]
)
def test_id_that_could_leave_the_directory_is_refused(blobs: BlobStore, bad: str) -> None:
    with pytest.raises(BlobUploadUnknown):
        blobs.open_upload(bad)
    with pytest.raises(BlobUploadInvalid):
        blobs.start_upload(bad, {})


def test_growing_upload_is_read_by_others_to_its_end(reopen: Reopen) -> None:
    writer = reopen().start_upload("u", {})
    reader = reopen().open_upload("u")
    assert reader.read(0, 100) == b""
    writer.append([b"abc"])
    assert reader.read(0, 100) == b"abc"
    writer.append([b"def"])
    writer.commit(digest_of(b"abcdef"))
    with reader:
        assert (reader.read(3, 100), reader.read_into(4, memoryview(bytearray(4)))) == (b"def", 2)


def test_commit_of_a_blob_that_is_here_changes_nothing(reopen: Reopen) -> None:
    blobs = reopen()
    stored(blobs)
    with blobs.open(DIGEST) as file:
        upload = reopen().start_upload("u", {})
        upload.append([CONTENT])
        assert upload.commit(DIGEST) == len(CONTENT)
        assert file.read() == CONTENT
    assert blobs.read(DIGEST, 0, 1 << 20) == CONTENT
    assert list(blobs.uploads()) == []


def test_commits_of_the_same_blob_at_once_all_succeed(reopen: Reopen) -> None:
    sizes: list[int] = []
    uploads = [reopen().start_upload(f"u{i}", {}) for i in range(8)]
    gate = threading.Barrier(len(uploads))

    def commit(index: int) -> None:
        uploads[index].append([CONTENT])
        gate.wait()
        sizes.append(uploads[index].commit(DIGEST))

    threads = [threading.Thread(target=commit, args=(i,)) for i in range(len(uploads))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [len(CONTENT)] * len(uploads)
    assert reopen().read(DIGEST, 0, 1 << 20) == CONTENT
    assert list(reopen().uploads()) == []


def test_uploads_are_listed_with_what_is_known_of_them(blobs: BlobStore) -> None:
    with blobs.start_upload("u1", {"repository": "a/b"}) as upload:
        upload.append([b"abc"])
    blobs.start_upload("u2", {})
    listed = {state.upload_id: state for state in blobs.uploads()}
    assert {name: state.size_bytes for name, state in listed.items()} == {"u1": 3, "u2": 0}
    assert listed["u1"].labels == {"repository": "a/b"}
    assert listed["u1"].modified_ms > 1_600_000_000_000


def test_recover_drops_what_is_old_and_in_nobodys_hand(reopen: Reopen) -> None:
    blobs = reopen()
    stored(blobs)
    blobs.start_upload("old", {})
    busy = blobs.start_upload("busy", {})
    busy.append([b"a"])
    assert reopen().recover(0) == []
    assert reopen().recover(FAR_FUTURE_MS) == ["old"]
    busy.append([b"b"])
    busy.commit(digest_of(b"ab"))
    assert set(blobs.digests()) == {DIGEST, digest_of(b"ab")}


def test_delete_removes_the_blob_but_not_from_its_reader(blobs: BlobStore) -> None:
    stored(blobs)
    with blobs.open(DIGEST) as file:
        assert blobs.delete(DIGEST)
        assert file.read() == CONTENT
    assert blobs.stat(DIGEST) is None
    assert not blobs.delete(DIGEST)
    stored(blobs)
    assert blobs.stat(DIGEST) == len(CONTENT)


def test_delete_spares_what_was_touched_since(blobs: BlobStore) -> None:
    stored(blobs)
    assert not blobs.delete(DIGEST, untouched_since_ms=0)
    assert blobs.touch(DIGEST) == blobs.stat(DIGEST) == len(CONTENT)
    assert blobs.delete(DIGEST, untouched_since_ms=FAR_FUTURE_MS)


def test_quarantine_hides_the_blob_until_it_is_stored_again(blobs: BlobStore) -> None:
    stored(blobs)
    assert blobs.quarantine(DIGEST)
    assert blobs.stat(DIGEST) is None
    assert list(blobs.digests()) == []
    stored(blobs)
    assert blobs.quarantine(DIGEST)
    stored(blobs)
    assert blobs.read(DIGEST, 0, 1 << 20) == CONTENT


def test_digests_lists_every_blob(blobs: BlobStore) -> None:
    expected = {stored(blobs, str(i).encode()) for i in range(50)}
    big = digest_of(b"big", "sha512")
    blobs.put(big, b"big")
    assert set(blobs.digests()) == expected | {big}


def test_upload_with_an_unknown_algorithm_is_refused(blobs: BlobStore) -> None:
    with pytest.raises(Unsupported):
        blobs.start_upload("u", {ALGORITHM_LABEL: "md5"})
    with pytest.raises(BlobUploadUnknown):
        blobs.open_upload("u")
