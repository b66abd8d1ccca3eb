"""Writes a backup of one node while it serves: its metadata as of one moment, its keys, and the blobs that are named."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from twinhull.blobs.store import BlobStore
from twinhull.kit.digest import Digest, algorithm_of, hex_of, new_hash
from twinhull.kit.errors import BlobUnknown, Unavailable
from twinhull.metadata import dump
from twinhull.metadata.migrate import revision_of
from twinhull.metadata.store import Store
from twinhull.upkeep.archive import BLOBS, FORM, HEADER, KEYS, METADATA, ArchiveWriter, Header, Trailer

# The list of blobs stays in memory up to this size, and goes to a temporary file beyond it.
_LIST_BYTES: Final = 16 << 20

# Is told how many bytes of blobs are written, and of how many.
Track = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is backed up."""

    cluster: str
    node: str
    name: str
    keys: Path
    store: Store
    blobs: BlobStore


def back_up(subject: Subject, sink: BinaryIO, track: Track) -> Trailer:
    """Write the backup and return what is in it; raises OSError when the sink takes no more.

    No blob is removed as garbage meanwhile, so every blob that was here when the metadata were read is in it.
    """
    with (
        subject.blobs.held(),
        tempfile.SpooledTemporaryFile(_LIST_BYTES) as listed,
        ArchiveWriter(sink) as archive,
    ):
        total_bytes = 0
        with subject.store.read() as connection:
            revision = revision_of(connection)
            if revision is None:
                raise Unavailable(
                    "there is nothing to back up: the database has no tables", hint="is this the right --data-dir?"
                )
            archive.add(HEADER, msgspec.json.encode(_header(subject, revision)))
            for number, page in enumerate(dump.pages_of(connection)):
                archive.add(f"{METADATA}{number:08}.msgpack", msgspec.msgpack.encode(page))
            for digest, size in dump.named_blobs(connection):
                listed.write(f"{digest}\n".encode("ascii"))
                total_bytes += size
        for path in sorted(subject.keys.iterdir()):
            if path.is_file():
                archive.add(KEYS + path.name, path.read_bytes())
        listed.seek(0)
        digests = (Digest(line.decode("ascii").rstrip()) for line in listed)
        trailer = _add_blobs(subject, archive, digests, lambda done: track(done, total_bytes))
        archive.finish(trailer)
        return trailer


def _header(subject: Subject, revision: str) -> Header:
    return Header(
        form=FORM,
        cluster=subject.cluster,
        node=subject.node,
        name=subject.name,
        created_ms=subject.store.clock.unix_ms(),
        revision=revision,
    )


def _add_blobs(subject: Subject, archive: ArchiveWriter, digests: Iterator[Digest], track: Callable[[int], None]) -> Trailer:
    count = done_bytes = missing = 0
    rotten: list[str] = []
    for digest in digests:
        try:
            with _opened(subject.blobs, digest) as (size, source):
                reader = _HashingReader(source, algorithm_of(digest))
                archive.add_stream(f"{BLOBS}{algorithm_of(digest)}/{hex_of(digest)}", size, reader)  # type: ignore[arg-type]
        except BlobUnknown:
            missing += 1
            continue
        if reader.hexdigest() != hex_of(digest):
            rotten.append(digest)
        count, done_bytes = count + 1, done_bytes + size
        track(done_bytes)
    return Trailer(checksums=archive.checksums, blobs=count, blob_bytes=done_bytes, missing=missing, rotten=rotten)


@contextmanager
def _opened(blobs: BlobStore, digest: Digest) -> Iterator[tuple[int, BinaryIO]]:
    with blobs.open(digest) as file:
        size = file.seek(0, 2)
        file.seek(0)
        yield size, file  # type: ignore[misc]  # a buffered reader


class _HashingReader:
    """Reads, and hashes what was read."""

    def __init__(self, source: BinaryIO, algorithm: str) -> None:
        self._source = source
        self._hash = new_hash(algorithm)

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer at the end."""
        piece = self._source.read(size)
        self._hash.update(piece)
        return piece

    def hexdigest(self) -> str:
        """Return the hash of what was read."""
        return self._hash.hexdigest()
