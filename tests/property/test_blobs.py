"""However the bytes are cut and whoever writes them, the same blob comes out."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.memory_blobs import MemoryBlobs
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.blobs.store import ALGORITHM_LABEL, BlobStore
from twinhull.kit.digest import digest_of

STEPS = st.lists(
    st.one_of(
        st.lists(st.binary(max_size=300), max_size=4),
        st.sampled_from(["checkpoint", "close", "reopen", "elsewhere", "catch up", "read"]),
    ),
    max_size=25,
)


def write(stores: tuple[BlobStore, BlobStore], steps: list[list[bytes] | str], labels: dict[str, str]) -> bytes:
    """Carry out the steps on one upload, in turn through either store, and return the bytes that went in."""
    written = b""
    at = 0
    upload = stores[at].start_upload("u", labels)
    for step in steps:
        match step:
            case "checkpoint":
                upload.checkpoint()
            case "close":
                upload.close()
            case "reopen":
                upload.checkpoint()
                upload = stores[at].open_upload("u")
            case "elsewhere":
                upload.checkpoint()
                at = 1 - at
                upload = stores[at].open_upload("u")
            case "catch up":
                upload.catch_up()
            case "read":
                assert upload.read(0, 1 << 20) == written
            case list():
                upload.append(step)
                written += b"".join(step)
        assert upload.offset == len(written)
    upload.commit(digest_of(written, "sha512" if len(written) % 2 else "sha256"), expected_size=len(written))
    return written


@given(
    steps=STEPS,
    labels=st.sampled_from([{}, {ALGORITHM_LABEL: "sha512"}, {ALGORITHM_LABEL: "sha256,sha512"}]),
    boots=st.sampled_from([("a", "a"), ("a", "b"), ("", "")]),
)
@settings(max_examples=150)
def test_any_split_over_appends_and_processes_gives_the_same_blob(
    steps: list[list[bytes] | str], labels: dict[str, str], boots: tuple[str, str]
) -> None:
    memory = MemoryBlobs()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        one, other = (FilesystemBlobs(root, boot=boot) for boot in boots)
        written = write((one, other), steps, labels)
        assert write((memory, memory), steps, labels) == written
        (digest,) = list(one.digests())
        assert one.read(digest, 0, 1 << 20) == memory.read(digest, 0, 1 << 20) == written
        assert list(one.uploads()) == list(memory.uploads()) == []
        assert list((root / "uploads").iterdir()) == []


@given(content=st.binary(max_size=2000), start=st.integers(0, 2000), length=st.integers(0, 3000))
def test_any_range_is_that_slice(content: bytes, start: int, length: int) -> None:
    digest = digest_of(content)
    start = min(start, len(content))
    with tempfile.TemporaryDirectory() as directory:
        for blobs in (FilesystemBlobs(Path(directory)), MemoryBlobs()):
            blobs.put(digest, content)
            assert blobs.read(digest, start, length) == content[start : start + length]
