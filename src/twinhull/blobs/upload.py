"""An upload in a directory of its own: bytes that arrive, their hash on the way, and their move into place."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, Self

import msgspec

from twinhull.blobs.disk import HashState, hash_file, remove_directory, start_writeback, translated, write_at
from twinhull.blobs.layout import Layout
from twinhull.blobs.store import Chunk, algorithms_wanted
from twinhull.kit.digest import Digest, algorithm_of, hex_of, new_hash
from twinhull.kit.errors import BlobUploadUnknown, Conflict, DigestInvalid, RangeInvalid, SizeInvalid

Hashes = dict[str, HashState]

# So many new bytes are handed to the disk at a time, so that the fsync at the end finds little left to do.
_WRITEBACK_BYTES: Final = 16 << 20
# An upload that is gone on with elsewhere is hashed from its start at once if it is shorter than this, else once at its
# commit: many chunks that land in many processes must not each cost a reading of all that came before.
_REHASH_AT_ONCE_BYTES: Final = 8 << 20


class Notes(msgspec.Struct, frozen=True, kw_only=True):
    """What is written beside the bytes: the labels, and the digests of the first `offset` bytes.

    The digests count only in the boot they were written in and for the file they were written for: a power failure or a
    restored backup may leave other bytes than those that were hashed.
    """

    version: int = 1
    labels: dict[str, str]
    offset: int = 0
    digests: dict[str, str] = {}
    boot: str = ""
    inode: int = 0


def read_notes(path: Path) -> Notes | None:
    """Return the notes, or None if there are none that can be read."""
    try:
        notes = msgspec.json.decode(path.read_bytes(), type=Notes)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return notes if notes.version == 1 else None


class HashCache:
    """Hashes of uploads between two requests of the same process, so that chunk after chunk is hashed only once."""

    def __init__(self, entries_max: int = 512) -> None:
        """Take how many uploads to remember; the longest untouched are forgotten first."""
        self._entries_max = entries_max
        self._entries: OrderedDict[str, Hashes] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, upload_id: str, hashes: Hashes) -> None:
        """Remember how far the upload is hashed."""
        with self._lock:
            self._entries[upload_id] = hashes
            self._entries.move_to_end(upload_id)
            if len(self._entries) > self._entries_max:
                self._entries.popitem(last=False)

    def take(self, upload_id: str) -> Hashes | None:
        """Return the hashes that were kept last, whatever became of the upload since; and forget them."""
        with self._lock:
            return self._entries.pop(upload_id, None)


class Shelf(Protocol):
    """Where verified bytes get their name."""

    def stat(self, digest: Digest) -> int | None:
        """Return the size of the blob that is there already, or None."""
        ...

    def publish(self, fd: int, source: Path, digest: Digest, *, synced: bool) -> None:
        """Move the file to the blob's place, durably (`synced`: its bytes are); leave it alone if the blob is there already."""
        ...


class FilesystemUpload:
    """One upload as one object sees it; the claim is a lock on the data file, which the system lifts when a process dies."""

    def __init__(self, *, layout: Layout, upload_id: str, shelf: Shelf, cache: HashCache, boot: str) -> None:
        """Look at the upload that is there, or raise BlobUploadUnknown."""
        self._layout = layout
        self._upload_id = upload_id
        self._path = layout.data(upload_id)
        self._shelf = shelf
        self._cache = cache
        self._boot = boot
        self._file: FileIO | None = None
        self._claimed = False
        self._hashes: Hashes | None = None
        with translated(f"open upload {upload_id}"):
            notes = read_notes(layout.state(upload_id))
            try:
                self._offset = self._path.stat().st_size
            except FileNotFoundError:
                notes = None
        if notes is None:
            raise BlobUploadUnknown(f"blob upload {upload_id} is unknown")
        self._notes = notes
        self._written_back = self._offset

    @property
    def upload_id(self) -> str:
        """Return the id that it was started under."""
        return self._upload_id

    @property
    def labels(self) -> Mapping[str, str]:
        """Return what was noted about it at its start."""
        return MappingProxyType(self._notes.labels)

    @property
    def offset(self) -> int:
        """Return the number of bytes there were when it was opened, plus what this object appended."""
        return self._offset

    @property
    def path(self) -> Path:
        """Return the growing file."""
        return self._path

    def fileno(self) -> int:
        """Return the descriptor of the growing file, valid until it is closed; or raise BlobUploadUnknown."""
        return self._opened().fileno()

    def append(self, chunks: Sequence[Chunk]) -> None:
        """Write all chunks in order, or none of them when this raises."""
        file = self._claim()
        if self._hashes is None:
            self._hashes = self._recall(file)
        with translated(f"write upload {self._upload_id}"):
            try:
                written = write_at(file.fileno(), chunks, self._offset)
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(self._offset)
                raise
        for state in (self._hashes or {}).values():
            for chunk in chunks:
                state.update(chunk)
        self._offset += written
        if self._offset - self._written_back >= _WRITEBACK_BYTES:
            start_writeback(file.fileno(), self._written_back, self._offset - self._written_back)
            self._written_back = self._offset

    def read(self, start: int, length: int) -> bytes:
        """Return at most `length` of the bytes that are there now, nothing at the present end."""
        file = self._opened()
        with translated(f"read upload {self._upload_id}"):
            return os.pread(file.fileno(), length, start)

    def read_into(self, start: int, buffer: memoryview) -> int:
        """Put into the buffer what `read` returns for its length, and return the number of bytes."""
        file = self._opened()
        with translated(f"read upload {self._upload_id}"):
            return os.preadv(file.fileno(), [buffer], start)

    def catch_up(self) -> None:
        """Hash what is there already, so that the commit has nothing to re-read."""
        file = self._claim()
        if not self._hashes:
            self._hashes = self._recall(file) or self._hash_all(file)

    def checkpoint(self) -> None:
        """Note how far it got and what the digest was there, and let go of the claim."""
        try:
            if not self._claimed or self._file is None:
                return
            with translated(f"note the state of upload {self._upload_id}"):
                self._note(self._file)
            if self._hashes:
                self._cache.keep(self._upload_id, self._hashes)
        finally:
            self.close()

    def commit(self, digest: Digest, *, expected_size: int | None = None) -> int:
        """Make the bytes visible under their digest, durably, and return their number."""
        file = self._claim()
        with translated(f"commit upload {self._upload_id}"):
            size = os.fstat(file.fileno()).st_size
        if size != self._offset:
            raise RangeInvalid(f"blob upload {self._upload_id} has {size} bytes, not {self._offset}", size_bytes=size)
        if expected_size is not None and size != expected_size:
            self.checkpoint()
            raise SizeInvalid(f"blob upload {self._upload_id} has {size} bytes, not {expected_size}")
        found = self._hex(algorithm_of(digest), file)
        if found != hex_of(digest):
            self.abort()
            raise DigestInvalid(f"content has digest {algorithm_of(digest)}:{found}, not {digest}")
        try:
            with translated(f"commit upload {self._upload_id}"):
                self._settle(file, digest)
        finally:
            self.close()
        return size

    def abort(self) -> None:
        """Forget the bytes; no harm if they are gone."""
        try:
            self._claim(at_offset=False)
            with translated(f"abort upload {self._upload_id}"):
                remove_directory(self._leave())
        except BlobUploadUnknown:
            return
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the claim and of the descriptor; the bytes stay."""
        file, self._file, self._claimed, self._hashes = self._file, None, False, None
        if file is not None:
            file.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close."""
        self.close()

    def _opened(self) -> FileIO:
        if self._file is None:
            with translated(f"open upload {self._upload_id}"):
                try:
                    self._file = FileIO(self._path, "r+")
                except FileNotFoundError:
                    raise BlobUploadUnknown(f"blob upload {self._upload_id} is unknown") from None
        return self._file

    def _claim(self, *, at_offset: bool = True) -> FileIO:
        """Lock the file and make sure that it still is the upload, and is as long as this object takes it to be."""
        file = self._opened()
        if self._claimed:
            return file
        with translated(f"lock upload {self._upload_id}"):
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(f"blob upload {self._upload_id} is being written by another request") from None
            here = os.fstat(file.fileno())
            try:
                named = self._path.stat()
            except FileNotFoundError:
                named = None
        if named is None or not os.path.samestat(here, named):
            self.close()
            raise BlobUploadUnknown(f"blob upload {self._upload_id} is unknown")
        if at_offset and here.st_size != self._offset:
            self.close()
            raise RangeInvalid(f"blob upload {self._upload_id} has gone on to {here.st_size} bytes", size_bytes=here.st_size)
        with translated(f"open upload {self._upload_id}"):
            self._notes = read_notes(self._layout.state(self._upload_id)) or self._notes
        self._claimed = True
        return file

    def _settle(self, file: FileIO, digest: Digest) -> None:
        """Move the verified bytes into place; whatever fails from here on, the upload is gone."""
        synced = self._shelf.stat(digest) != self._offset
        if synced:
            try:
                os.fsync(file.fileno())
            except OSError:
                # The bytes can't be trusted from here on, even if a second fsync succeeds.
                remove_directory(self._leave())
                raise
        # Out of the uploads before the file is moved, so that nobody who starts the same id anew meets half a directory.
        gone = self._leave()
        try:
            self._shelf.publish(file.fileno(), gone / "data", digest, synced=synced)
        finally:
            remove_directory(gone)

    def _leave(self) -> Path:
        """Take the claimed upload's directory out of the uploads, and return where it is now."""
        directory = self._layout.upload(self._upload_id)
        gone = self._layout.gone_upload(self._upload_id, directory.stat().st_ino)
        directory.rename(gone)
        return gone

    def _note(self, file: FileIO) -> None:
        """Write down how far it got, unless that is written already."""
        digests = {name: state.hexdigest() for name, state in (self._hashes or {}).items()}
        if self._notes.offset == self._offset and (not digests or digests == self._recorded(file)):
            return
        inode = os.fstat(file.fileno()).st_ino
        notes = Notes(labels=self._notes.labels, offset=self._offset, digests=digests, boot=self._boot, inode=inode)
        spare = self._path.with_name("state.new")
        spare.write_bytes(msgspec.json.encode(notes))
        spare.replace(self._layout.state(self._upload_id))
        self._notes = notes

    def _recorded(self, file: FileIO) -> Mapping[str, str]:
        """Return the digests that the notes hold of all bytes, as far as they can be trusted."""
        notes = self._notes
        inode = os.fstat(file.fileno()).st_ino
        trusted = bool(self._boot) and (notes.boot, notes.inode, notes.offset) == (self._boot, inode, self._offset)
        return notes.digests if trusted else {}

    def _recall(self, file: FileIO) -> Hashes | None:
        """Return hashes to go on from, if they are at hand or cheap to make; else None."""
        if not self._offset:
            return {name: new_hash(name) for name in algorithms_wanted(self._notes.labels)}
        kept = self._cache.take(self._upload_id)
        # It may have gone on elsewhere since, or the id was started anew: the notes tell whether these are its bytes.
        if kept and {name: state.hexdigest() for name, state in kept.items()} == self._recorded(file):
            return kept
        return self._hash_all(file) if self._offset <= _REHASH_AT_ONCE_BYTES else None

    def _hash_all(self, file: FileIO) -> Hashes:
        with translated(f"read upload {self._upload_id}"):
            return {name: hash_file(file.fileno(), name, self._offset) for name in algorithms_wanted(self._notes.labels)}

    def _hex(self, algorithm: str, file: FileIO) -> str:
        """Return the digest of all bytes: from memory, from the notes, or by reading them."""
        if self._hashes and algorithm in self._hashes:
            return self._hashes[algorithm].hexdigest()
        recorded = self._recorded(file).get(algorithm)
        if recorded is not None:
            return recorded
        with translated(f"read upload {self._upload_id}"):
            return hash_file(file.fileno(), algorithm, self._offset).hexdigest()
