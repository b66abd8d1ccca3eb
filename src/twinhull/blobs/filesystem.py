"""Blobs as files of a local or shared file system."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from io import BufferedIOBase
from pathlib import Path
from typing import Final

import msgspec

from twinhull.blobs.disk import boot_id, locked_directory, remove_directory, sync_directory, translated, write_at
from twinhull.blobs.layout import Layout, is_upload_id
from twinhull.blobs.store import Chunk, UploadState, algorithms_wanted
from twinhull.blobs.trash import Trash
from twinhull.blobs.upload import FilesystemUpload, HashCache, Notes, read_notes
from twinhull.kit.digest import ALGORITHMS, Digest, algorithm_of, digest_of, parse_digest
from twinhull.kit.errors import (
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    Conflict,
    DigestInvalid,
    RangeInvalid,
    TwinhullError,
)
from twinhull.kit.fail_points import fail_point

_NS_PER_MS: Final = 1_000_000


class FilesystemBlobs:
    """A store in one directory; any number of processes may use the same directory at once."""

    def __init__(self, root: Path, *, boot: str | None = None) -> None:
        """Take the data directory, and make in it what is missing; `boot` names the time since the machine started."""
        self._layout = Layout(root)
        self._trash = Trash(self._layout)
        self._cache = HashCache()
        self._boot = boot_id() if boot is None else boot
        self._shards: set[Path] = set()
        with translated(f"make the blob directories in {root}"):
            self._layout.make()

    # -- blobs -------------------------------------------------------------------------------------------------------------

    def stat(self, digest: Digest) -> int | None:
        """Return the blob's size in bytes, or None if it is not here."""
        with translated(f"look at blob {digest}"):
            return _size(self._layout.blob(digest))

    def touch(self, digest: Digest) -> int | None:
        """Return what stat does, and make the blob young again, so that a running collection leaves it alone."""
        path = self._layout.blob(digest)
        with translated(f"touch blob {digest}"), contextlib.suppress(FileNotFoundError), locked_directory(path.parent):
            os.utime(path)
            return path.stat().st_size
        return None

    def path_of(self, digest: Digest) -> Path | None:
        """Return the file that holds the blob, or None if it is not here."""
        path = self._layout.blob(digest)
        with translated(f"look at blob {digest}"):
            return None if _size(path) is None else path

    def open(self, digest: Digest) -> BufferedIOBase:
        """Return the blob's bytes as a seekable file, or raise BlobUnknown."""
        with translated(f"open blob {digest}"):
            try:
                return self._layout.blob(digest).open("rb")
            except FileNotFoundError:
                raise BlobUnknown(f"blob {digest} is not here") from None

    def read(self, digest: Digest, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`, fewer at the end; or raise BlobUnknown, or RangeInvalid beyond the end."""
        with self.open(digest) as file, translated(f"read blob {digest}"):
            size = os.fstat(file.fileno()).st_size
            if start < 0 or length < 0 or start > size:
                raise RangeInvalid(f"blob {digest} has {size} bytes", size_bytes=size)
            parts = []
            while length > 0 and (part := os.pread(file.fileno(), length, start)):
                parts.append(part)
                start += len(part)
                length -= len(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)

    def put(self, digest: Digest, content: Chunk) -> None:
        """Store a small blob durably in one go, or raise DigestInvalid."""
        found = digest_of(content, algorithm_of(parse_digest(digest)))
        if found != digest:
            raise DigestInvalid(f"content has digest {found}, not {digest}")
        with translated(f"store blob {digest}"):
            fd, name = tempfile.mkstemp(prefix=".put-", dir=self._layout.uploads)
            try:
                write_at(fd, [content], 0)
                os.fsync(fd)
                self.publish(fd, Path(name), digest, synced=True)
            finally:
                os.close(fd)
                Path(name).unlink(missing_ok=True)

    def delete(self, digest: Digest, *, untouched_since_ms: int | None = None) -> bool:
        """Remove the blob, unless it was committed again or touched since then; and tell whether it was removed."""
        path = self._layout.blob(digest)
        with (
            translated(f"delete blob {digest}"),
            contextlib.suppress(FileNotFoundError),
            locked_directory(path.parent) as shard,
        ):
            if untouched_since_ms is not None and path.stat().st_mtime_ns >= untouched_since_ms * _NS_PER_MS:
                return False
            path.unlink()
            os.fsync(shard)
            return True
        return False

    def discard(self, digests: Sequence[Digest], *, untouched_since_ms: int) -> dict[Digest, int]:
        """Move blobs to the trash, save those committed again or touched since then, and return their sizes."""
        return self._trash.throw(digests, untouched_since_ms)

    def empty_trash(self) -> int:
        """Remove what is in the trash, and return its size."""
        return self._trash.empty()

    def held(self) -> AbstractContextManager[None]:
        """See to it that nothing is discarded within the block."""
        return self._trash.held()

    def quarantine(self, digest: Digest) -> bool:
        """Put a rotten blob aside, where no reader finds it; tell whether it was here."""
        path = self._layout.blob(digest)
        with (
            translated(f"set blob {digest} aside"),
            contextlib.suppress(FileNotFoundError),
            locked_directory(path.parent) as shard,
        ):
            path.replace(self._layout.quarantine(digest))
            sync_directory(self._layout.quarantined)
            os.fsync(shard)
            return True
        return False

    def digests(self) -> Iterator[Digest]:
        """Yield the digests of all blobs here, in order."""
        for algorithm in ALGORITHMS:
            for shard in _names(self._layout.algorithm(algorithm)):
                for name in _names(self._layout.algorithm(algorithm) / shard):
                    # Whatever an operator left lying about is not a blob.
                    with contextlib.suppress(TwinhullError):
                        digest = parse_digest(f"{algorithm}:{name}")
                        if name.startswith(shard):
                            yield digest

    def free_bytes(self) -> int:
        """Return how much space the file system has left for this user."""
        with translated(f"look at the free space of {self._layout.root}"):
            space = os.statvfs(self._layout.root)
        return space.f_bavail * space.f_frsize

    def publish(self, fd: int, source: Path, digest: Digest, *, synced: bool) -> None:
        """Make verified bytes durable and move them into place; the source stays where it is if the blob is here already."""
        target = self._layout.blob(digest)
        self._make_shard(target.parent)
        # The lock is for delete: it must not look at the old blob's age and then remove the one that took its place.
        with locked_directory(target.parent) as shard:
            if _size(target) == os.fstat(fd).st_size:
                os.utime(target)
            else:
                if not synced:
                    os.fsync(fd)
                os.utime(fd)
                fail_point("blob-verified")
                source.replace(target)
                fail_point("blob-in-place")
            os.fsync(shard)

    # -- uploads -----------------------------------------------------------------------------------------------------------

    def start_upload(self, upload_id: str, labels: Mapping[str, str]) -> FilesystemUpload:
        """Return a new, empty upload; raises BlobUploadInvalid for an id that can't be one, Conflict for one in use."""
        if not is_upload_id(upload_id):
            raise BlobUploadInvalid(f"{upload_id[:200]!r} cannot be the id of an upload")
        algorithms_wanted(labels)
        with translated(f"start upload {upload_id}"):
            directory = self._layout.new_upload()
            try:
                (directory / "data").touch(exist_ok=False)
                (directory / "state.json").write_bytes(msgspec.json.encode(Notes(labels=dict(labels))))
                directory.rename(self._layout.upload(upload_id))
            except OSError as error:
                remove_directory(directory)
                if self._layout.upload(upload_id).exists():
                    raise Conflict(f"blob upload {upload_id} is under way already") from error
                raise
        return self._upload(upload_id)

    def open_upload(self, upload_id: str) -> FilesystemUpload:
        """Return an upload to go on with, whoever wrote its bytes so far; or raise BlobUploadUnknown."""
        if not is_upload_id(upload_id):
            raise BlobUploadUnknown(f"blob upload {upload_id[:200]!r} is unknown")
        return self._upload(upload_id)

    def uploads(self) -> Iterator[UploadState]:
        """Yield the unfinished uploads, in the order of their ids."""
        for upload_id in filter(is_upload_id, _names(self._layout.uploads)):
            with translated(f"look at upload {upload_id}"), contextlib.suppress(FileNotFoundError):
                notes = read_notes(self._layout.state(upload_id))
                data = self._layout.data(upload_id).stat()
                if notes is not None:
                    yield UploadState(
                        upload_id=upload_id,
                        labels=notes.labels,
                        size_bytes=data.st_size,
                        modified_ms=data.st_mtime_ns // _NS_PER_MS,
                    )

    def recover(self, older_than_ms: int) -> list[str]:
        """Drop uploads and leftovers of dead processes untouched since then, and return the uploads' ids."""
        dropped = []
        self._trash.empty()
        with translated(f"tidy {self._layout.uploads}"):
            for name in _names(self._layout.uploads):
                path = self._layout.uploads / name
                data = self._layout.data(name) if is_upload_id(name) else path
                if _is_young(path, older_than_ms) or _is_young(data, older_than_ms):
                    continue
                if not is_upload_id(name):
                    _remove(path)
                elif self._drop(name):
                    dropped.append(name)
        return dropped

    def _upload(self, upload_id: str) -> FilesystemUpload:
        return FilesystemUpload(layout=self._layout, upload_id=upload_id, shelf=self, cache=self._cache, boot=self._boot)

    def _drop(self, upload_id: str) -> bool:
        try:
            self._upload(upload_id).abort()
        except Conflict:
            return False
        except BlobUploadUnknown:
            # Not whole, as only a power failure or a stranger's hand leaves it.
            _remove(self._layout.upload(upload_id))
        return True

    def _make_shard(self, shard: Path) -> None:
        """Make the directory, and its name durable: once a process, since another may have made it and not come so far."""
        if shard not in self._shards:
            shard.mkdir(exist_ok=True)
            sync_directory(shard.parent)
            self._shards.add(shard)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _names(directory: Path) -> list[str]:
    with translated(f"list {directory}"):
        try:
            return sorted(path.name for path in directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []


def _is_young(path: Path, older_than_ms: int) -> bool:
    """Tell whether anything happened to the file since then; a rename counts, as it changes the ctime."""
    try:
        seen = path.stat()
    except FileNotFoundError:
        return False
    return max(seen.st_mtime_ns, seen.st_ctime_ns) >= older_than_ms * _NS_PER_MS


def _remove(path: Path) -> None:
    if path.is_dir():
        remove_directory(path)
    else:
        path.unlink(missing_ok=True)
