"""What the filesystem store promises beyond the others: it survives kills, power failures and a full disk."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.blob_crashes import ACKNOWLEDGED, CONTENT, PIECE_BYTES, PUT, SHORT
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.blobs.store import transfer_upload_id
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import BlobUploadUnknown, Conflict, DigestInvalid, StorageFull, Unavailable

REPOSITORY: Final = Path(__file__).parents[2]
FAR_FUTURE_MS: Final = 1 << 50
MEBIBYTE: Final = 1 << 20
# Longer than what is hashed again at once when an upload is gone on with.
LONG: Final = random.Random(5).randbytes(12 * MEBIBYTE)


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.blob_crashes", *arguments]


def left_over(root: Path) -> list[str]:
    return [path.name for path in (root / "uploads").iterdir()]


def bytes_read() -> int:
    """Return how much this process has read so far, from the page cache included."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.fixture
def quick_disk() -> Iterator[Path]:
    """A directory where fsync costs nothing, if there is one: a kill of the process loses no page either way."""
    with tempfile.TemporaryDirectory(dir=next(filter(os.path.isdir, ["/dev/shm"]), None)) as directory:
        yield Path(directory)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid():
        pytest.skip("only root mounts file systems")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_files_lie_where_the_layout_says(tmp_path: Path) -> None:
    blobs = FilesystemBlobs(tmp_path)
    digest = digest_of(PUT)
    upload = blobs.start_upload("n1.ff", {})
    upload.append([PUT])
    assert upload.path == tmp_path / "uploads/n1.ff/data"
    assert upload.path.read_bytes() == PUT
    upload.commit(digest)
    name = digest.removeprefix("sha256:")
    assert blobs.path_of(digest) == tmp_path / "blobs/sha256" / name[:2] / name
    blobs.quarantine(digest)
    assert (tmp_path / f"quarantine/sha256-{name}").read_bytes() == PUT
    assert left_over(tmp_path) == []


def test_strangers_files_are_no_blobs(tmp_path: Path) -> None:
    blobs = FilesystemBlobs(tmp_path)
    blobs.put(digest_of(PUT), PUT)
    (tmp_path / "blobs/sha256/lost+found").mkdir()
    (tmp_path / "blobs/sha256/README").write_text("x")
    (tmp_path / "blobs/sha256/ab").mkdir(exist_ok=True)
    (tmp_path / "blobs/sha256/ab" / ("0" * 64)).write_text("in the wrong place")
    assert list(blobs.digests()) == [digest_of(PUT)]


def test_killed_writer_leaves_a_prefix_that_another_goes_on_with(tmp_path: Path) -> None:
    for kills, lines in enumerate((1, 7, 23)):
        root = tmp_path / str(kills)
        with subprocess.Popen(program("append", str(root)), stdout=subprocess.PIPE, cwd=REPOSITORY) as writer:
            assert writer.stdout is not None
            acknowledged = [int(writer.stdout.readline()) for _ in range(lines)][-1]
            with pytest.raises(Conflict):
                FilesystemBlobs(root).open_upload("u").abort()
            writer.kill()
        blobs = FilesystemBlobs(root)
        upload = blobs.open_upload("u")
        assert acknowledged == lines * PIECE_BYTES
        assert acknowledged <= upload.offset <= len(CONTENT)
        assert upload.read(0, len(CONTENT)) == CONTENT[: upload.offset]
        upload.append([CONTENT[upload.offset :]])
        assert upload.commit(digest_of(CONTENT)) == len(CONTENT)
        assert blobs.read(digest_of(CONTENT), 0, len(CONTENT)) == CONTENT


def test_kill_at_any_line_leaves_whole_blobs_or_none(quick_disk: Path) -> None:
    ran = subprocess.run(program("every-line", str(quick_disk)), check=True, capture_output=True, text=True, cwd=REPOSITORY)
    kills = int(ran.stdout)
    assert kills > 150
    seen = set()
    for root in sorted(quick_disk.iterdir()):
        acknowledged = (root / ACKNOWLEDGED).exists()
        blobs = FilesystemBlobs(root)
        there = set(blobs.digests())
        assert there <= {digest_of(PUT), digest_of(SHORT)}
        for digest in there:
            assert digest_of(blobs.read(digest, 0, len(SHORT))) == digest
        assert digest_of(SHORT) in there or not acknowledged
        seen.add((len(there), finish(blobs)))
        assert blobs.read(digest_of(SHORT), 0, len(SHORT)) == SHORT
        blobs.recover(FAR_FUTURE_MS)
        assert left_over(root) == []
    # All stages were met: before and after each of the two blobs, with and without an upload to go on with.
    assert seen == {(0, False), (1, False), (1, True), (2, False)}


def finish(blobs: FilesystemBlobs) -> bool:
    """Go on with what the killed process left, or start again; tell whether there was something to go on with."""
    try:
        upload = blobs.open_upload("u")
        found = True
    except BlobUploadUnknown:
        upload = blobs.start_upload("u", {})
        found = False
    assert upload.read(0, len(SHORT)) == SHORT[: upload.offset]
    upload.append([SHORT[upload.offset :]])
    upload.commit(digest_of(SHORT))
    return found


def test_full_disk_refuses_the_append_and_takes_it_when_there_is_space(small_disk: Path) -> None:
    blobs = FilesystemBlobs(small_disk)
    upload = blobs.start_upload("u", {})
    upload.append([LONG[:MEBIBYTE]])
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2 * MEBIBYTE))
    with pytest.raises(StorageFull):
        upload.append([LONG[MEBIBYTE : 2 * MEBIBYTE], LONG[2 * MEBIBYTE : 3 * MEBIBYTE]])
    assert upload.offset == upload.path.stat().st_size == MEBIBYTE
    assert list(blobs.digests()) == []
    filler.unlink()
    upload.append([LONG[MEBIBYTE : 3 * MEBIBYTE]])
    assert upload.commit(digest_of(LONG[: 3 * MEBIBYTE])) == 3 * MEBIBYTE


def test_full_disk_refuses_what_is_new_and_leaves_nothing(small_disk: Path) -> None:
    blobs = FilesystemBlobs(small_disk)
    (small_disk / "filler").write_bytes(bytes(blobs.free_bytes()))
    with pytest.raises(StorageFull):
        blobs.put(digest_of(LONG), LONG)
    with pytest.raises(StorageFull):
        blobs.start_upload("u", {})
    assert left_over(small_disk) == []
    assert list(blobs.digests()) == []
    (small_disk / "filler").unlink()
    blobs.put(digest_of(PUT), PUT)


def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwritev

    def reluctant(fd: int, buffers: list[memoryview], offset: int) -> int:
        return write(fd, [buffers[0][:7], *([buffers[1][:3]] if len(buffers[0]) <= 7 and len(buffers) > 1 else [])], offset)

    monkeypatch.setattr(os, "pwritev", reluctant)
    pieces = [PUT, b"", CONTENT[:100], b"x", b"y" * 7, CONTENT[:50]]
    with FilesystemBlobs(tmp_path).start_upload("u", {}) as upload:
        upload.append(pieces)
        assert upload.read(0, 1000) == b"".join(pieces)


def test_limit_on_file_size_is_met_like_a_full_disk(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from twinhull.blobs.filesystem import FilesystemBlobs\n"
        "from twinhull.kit.errors import StorageFull\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "upload = FilesystemBlobs(Path(sys.argv[1])).start_upload('u', {})\n"
        "upload.append([bytes(90_000)])\n"
        "try:\n upload.append([bytes(90_000)])\n"
        "except StorageFull:\n sys.exit(upload.path.stat().st_size != 90_000)\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 0
    assert FilesystemBlobs(tmp_path).open_upload("u").offset == 90_000


def test_last_request_need_not_read_what_another_process_hashed(tmp_path: Path) -> None:
    with FilesystemBlobs(tmp_path).start_upload("u", {}) as upload:
        upload.append([LONG])
        upload.checkpoint()
    last = FilesystemBlobs(tmp_path).open_upload("u")
    before = bytes_read()
    last.commit(digest_of(LONG))
    assert bytes_read() - before < MEBIBYTE


def test_chunks_in_one_process_are_hashed_once(tmp_path: Path) -> None:
    blobs = FilesystemBlobs(tmp_path)
    blobs.start_upload("u", {})
    before = bytes_read()
    for start in range(0, len(LONG), MEBIBYTE):
        with blobs.open_upload("u") as upload:
            upload.append([LONG[start : start + MEBIBYTE]])
            upload.checkpoint()
    blobs.open_upload("u").commit(digest_of(LONG))
    assert bytes_read() - before < MEBIBYTE


def test_chunks_in_many_processes_are_read_once_at_the_end(tmp_path: Path) -> None:
    FilesystemBlobs(tmp_path).start_upload("u", {})
    before = bytes_read()
    for start in range(0, len(LONG), 3 * MEBIBYTE):
        with FilesystemBlobs(tmp_path).open_upload("u") as upload:
            upload.append([LONG[start : start + 3 * MEBIBYTE]])
            upload.checkpoint()
    FilesystemBlobs(tmp_path).open_upload("u").commit(digest_of(LONG))
    assert bytes_read() - before < len(LONG) + 12 * MEBIBYTE


def test_transfer_that_caught_up_is_not_read_again_at_its_end(tmp_path: Path) -> None:
    upload_id = transfer_upload_id(digest_of(LONG))
    with FilesystemBlobs(tmp_path).start_upload(upload_id, {}) as upload:
        upload.append([LONG[: 10 * MEBIBYTE]])
    upload = FilesystemBlobs(tmp_path).open_upload(upload_id)
    upload.catch_up()
    before = bytes_read()
    upload.append([LONG[upload.offset :]])
    upload.commit(digest_of(LONG))
    assert bytes_read() - before < MEBIBYTE


@pytest.mark.parametrize(("boot", "next_boot"), [("one", "another"), ("one", ""), ("", "")])
def test_notes_of_an_earlier_boot_are_not_believed(tmp_path: Path, boot: str, next_boot: str) -> None:
    with FilesystemBlobs(tmp_path, boot=boot).start_upload("u", {}) as upload:
        upload.append([LONG])
        upload.checkpoint()
        # As a power failure may leave it: of the right length, with a page that was never written.
        with upload.path.open("r+b") as file:
            file.seek(5 * MEBIBYTE)
            file.write(bytes(4096))
    blobs = FilesystemBlobs(tmp_path, boot=next_boot)
    with pytest.raises(DigestInvalid):
        blobs.open_upload("u").commit(digest_of(LONG))
    assert blobs.stat(digest_of(LONG)) is None


def test_notes_copied_to_another_file_are_not_believed(tmp_path: Path) -> None:
    with FilesystemBlobs(tmp_path).start_upload("u", {}) as upload:
        upload.append([LONG])
        upload.checkpoint()
        restored = upload.path.with_name("restored")
        restored.write_bytes(bytes(len(LONG)))
        restored.replace(upload.path)
    with pytest.raises(DigestInvalid):
        FilesystemBlobs(tmp_path).open_upload("u").commit(digest_of(LONG))


def test_short_blob_in_place_of_a_whole_one_is_replaced(tmp_path: Path) -> None:
    blobs = FilesystemBlobs(tmp_path)
    blobs.put(digest_of(PUT), PUT)
    path = blobs.path_of(digest_of(PUT))
    assert path is not None
    path.write_bytes(PUT[:-1])
    blobs.put(digest_of(PUT), PUT)
    assert path.read_bytes() == PUT


def test_commit_makes_a_blob_young_again(tmp_path: Path) -> None:
    blobs = FilesystemBlobs(tmp_path)
    blobs.put(digest_of(PUT), PUT)
    path = blobs.path_of(digest_of(PUT))
    assert path is not None
    os.utime(path, (1000, 1000))
    with blobs.start_upload("u", {}) as upload:
        upload.append([PUT])
        os.utime(upload.path, (1000, 1000))
        upload.commit(digest_of(PUT))
    assert not blobs.delete(digest_of(PUT), untouched_since_ms=2_000_000)
    os.utime(path, (1000, 1000))
    assert blobs.delete(digest_of(PUT), untouched_since_ms=2_000_000)
    # And so it is when the blob was gone, and the last byte came long before the commit.
    with blobs.start_upload("v", {}) as upload:
        upload.append([PUT])
        os.utime(upload.path, (1000, 1000))
        upload.commit(digest_of(PUT))
    assert not blobs.delete(digest_of(PUT), untouched_since_ms=2_000_000)


def test_failing_disk_is_unavailable_and_says_what_to_check(tmp_path: Path) -> None:
    blobs = FilesystemBlobs(tmp_path)
    (tmp_path / "uploads").rmdir()
    (tmp_path / "uploads").write_text("a file where a directory should be")
    with pytest.raises(Unavailable, match="check the data directory"):
        blobs.start_upload("u", {})
    with pytest.raises(Unavailable, match="cannot store blob"):
        blobs.put(digest_of(PUT), PUT)


def test_damaged_notes_make_the_upload_unknown_until_recovered(tmp_path: Path) -> None:
    blobs = FilesystemBlobs(tmp_path)
    blobs.start_upload("u", {})
    (tmp_path / "uploads/u/state.json").write_text("{")
    with pytest.raises(BlobUploadUnknown):
        blobs.open_upload("u")
    assert list(blobs.uploads()) == []
    assert blobs.recover(FAR_FUTURE_MS) == ["u"]
    blobs.start_upload("u", {}).abort()
    assert left_over(tmp_path) == []
