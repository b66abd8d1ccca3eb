"""Blobs and uploads in memory: proves that a backend without files fits the protocol, and is quick in tests."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from twinhull.blobs.layout import is_upload_id
from twinhull.blobs.store import Chunk, UploadState, algorithms_wanted
from twinhull.kit.clock import Clock, ManualClock
from twinhull.kit.digest import Digest, algorithm_of, digest_of, parse_digest
from twinhull.kit.errors import (
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    Conflict,
    DigestInvalid,
    RangeInvalid,
    SizeInvalid,
    StorageFull,
)


@dataclass(slots=True)
class Held:
    """A blob or an upload as it is kept."""

    touched_ms: int
    labels: Mapping[str, str] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)
    claimed_by: object = None


class MemoryUpload:
    """One upload as one object sees it."""

    path = None

    def __init__(self, store: MemoryBlobs, upload_id: str, held: Held) -> None:
        self._store = store
        self._held = held
        self._offset = len(held.content)
        self.upload_id = upload_id
        self.labels = held.labels

    @property
    def offset(self) -> int:
        """Return the bytes at opening, plus those appended."""
        return self._offset

    def append(self, chunks: Sequence[Chunk]) -> None:
        """Add the chunks."""
        self._claim()
        joined = b"".join(chunks)
        if len(joined) > self._store.free_bytes():
            raise StorageFull
        self._held.content += joined
        self._held.touched_ms = self._store.clock.unix_ms()
        self._offset += len(joined)

    def read(self, start: int, length: int) -> bytes:
        """Return a part of what is there; the bytes outlive the upload as an open file would."""
        return bytes(self._held.content[start : start + length])

    def read_into(self, start: int, buffer: memoryview) -> int:
        """Put the same into the buffer."""
        piece = self.read(start, len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def catch_up(self) -> None:
        """Claim; there is nothing to hash."""
        self._claim()

    def checkpoint(self) -> None:
        """Let go."""
        self.close()

    def commit(self, digest: Digest, *, expected_size: int | None = None) -> int:
        """Make it a blob."""
        self._claim()
        size = len(self._held.content)
        if expected_size is not None and size != expected_size:
            self.close()
            raise SizeInvalid
        del self._store.pending[self.upload_id]
        self.close()
        self._store.put(digest, self._held.content)
        return size

    def abort(self) -> None:
        """Drop it."""
        if self._store.pending.get(self.upload_id) is self._held:
            self._claim(at_offset=False)
            del self._store.pending[self.upload_id]
        self.close()

    def close(self) -> None:
        """Let go."""
        if self._held.claimed_by is self:
            self._held.claimed_by = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _claim(self, *, at_offset: bool = True) -> None:
        if self._held.claimed_by not in {None, self}:
            raise Conflict
        if self._store.pending.get(self.upload_id) is not self._held:
            raise BlobUploadUnknown
        if at_offset and len(self._held.content) != self._offset:
            raise RangeInvalid(size_bytes=len(self._held.content))
        self._held.claimed_by = self


class MemoryBlobs:
    """A store that forgets all when it goes."""

    def __init__(self, *, clock: Clock | None = None, capacity_bytes: int = 1 << 30) -> None:
        self.clock = clock or ManualClock()
        self.pending: dict[str, Held] = {}
        self.quarantined: dict[Digest, bytes] = {}
        self.trash: dict[Digest, Held] = {}
        self.holders = 0
        self._blobs: dict[Digest, Held] = {}
        self._capacity_bytes = capacity_bytes

    def stat(self, digest: Digest) -> int | None:
        """Return the size."""
        held = self._blobs.get(parse_digest(digest))
        return None if held is None else len(held.content)

    def touch(self, digest: Digest) -> int | None:
        """Return the size, and note the time."""
        if digest in self._blobs:
            self._blobs[digest].touched_ms = self.clock.unix_ms()
        return self.stat(digest)

    def path_of(self, digest: Digest) -> None:
        """Return None: there are no files."""
        self.stat(digest)

    def open(self, digest: Digest) -> io.BufferedIOBase:
        """Return the bytes as a file."""
        if self.stat(digest) is None:
            raise BlobUnknown
        return io.BytesIO(self._blobs[digest].content)

    def read(self, digest: Digest, start: int, length: int) -> bytes:
        """Return a part."""
        with self.open(digest) as file:
            size = self._size(digest)
            if start < 0 or length < 0 or start > size:
                raise RangeInvalid(size_bytes=size)
            file.seek(start)
            return file.read(length)

    def put(self, digest: Digest, content: Chunk) -> None:
        """Store it."""
        if digest_of(content, algorithm_of(parse_digest(digest))) != digest:
            raise DigestInvalid
        if digest not in self._blobs:
            self._blobs[digest] = Held(0, content=bytearray(content))
        self.touch(digest)

    def start_upload(self, upload_id: str, labels: Mapping[str, str]) -> MemoryUpload:
        """Return a new upload."""
        if not is_upload_id(upload_id):
            raise BlobUploadInvalid
        if upload_id in self.pending:
            raise Conflict
        algorithms_wanted(labels)
        self.pending[upload_id] = Held(self.clock.unix_ms(), labels=dict(labels))
        return self.open_upload(upload_id)

    def open_upload(self, upload_id: str) -> MemoryUpload:
        """Return an upload that was started."""
        if upload_id not in self.pending:
            raise BlobUploadUnknown
        return MemoryUpload(self, upload_id, self.pending[upload_id])

    def uploads(self) -> Iterator[UploadState]:
        """Yield the unfinished."""
        for upload_id, held in sorted(self.pending.items()):
            yield UploadState(
                upload_id=upload_id, labels=held.labels, size_bytes=len(held.content), modified_ms=held.touched_ms
            )

    def recover(self, older_than_ms: int) -> list[str]:
        """Drop what is old and unclaimed."""
        self.empty_trash()
        old = [name for name, held in self.pending.items() if held.claimed_by is None and held.touched_ms < older_than_ms]
        for upload_id in old:
            del self.pending[upload_id]
        return sorted(old)

    def delete(self, digest: Digest, *, untouched_since_ms: int | None = None) -> bool:
        """Remove it unless it is young."""
        held = self._blobs.get(digest)
        if held is None or (untouched_since_ms is not None and held.touched_ms >= untouched_since_ms):
            return False
        del self._blobs[digest]
        return True

    def discard(self, digests: Sequence[Digest], *, untouched_since_ms: int) -> dict[Digest, int]:
        """Move them to the trash unless they are young."""
        if self.holders:
            raise Conflict
        old = [name for name in digests if name in self._blobs and self._blobs[name].touched_ms < untouched_since_ms]
        for digest in old:
            self.trash[digest] = self._blobs.pop(digest)
        return {digest: len(self.trash[digest].content) for digest in old}

    def empty_trash(self) -> int:
        """Forget what is in the trash."""
        freed = sum(len(held.content) for held in self.trash.values())
        self.trash.clear()
        return freed

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Discard nothing meanwhile."""
        self.holders += 1
        try:
            yield
        finally:
            self.holders -= 1

    def quarantine(self, digest: Digest) -> bool:
        """Put it aside."""
        if digest not in self._blobs:
            return False
        self.quarantined[digest] = bytes(self._blobs.pop(digest).content)
        return True

    def digests(self) -> Iterator[Digest]:
        """Yield all."""
        yield from sorted(self._blobs)

    def free_bytes(self) -> int:
        """Return what the capacity leaves."""
        held = [*self._blobs.values(), *self.pending.values(), *self.trash.values()]
        return self._capacity_bytes - sum(len(each.content) for each in held)

    def _size(self, digest: Digest) -> int:
        return len(self._blobs[digest].content)
