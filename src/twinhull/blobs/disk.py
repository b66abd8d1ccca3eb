"""The operating system's calls that the filesystem backend is made of; their failures leave here as ours."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from twinhull.blobs.store import Chunk
from twinhull.kit.digest import new_hash
from twinhull.kit.errors import StorageFull, Unavailable

# EFBIG: the limit of the process or of the filesystem on one file; for the client it is the same as no space.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BUFFERS_MAX: Final = 1024
_PIECE_BYTES: Final = 1 << 20
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_SYNC_FILE_RANGE_WRITE: Final = 2


class HashState(Protocol):
    """What a hash of hashlib does, which has no public type."""

    def update(self, data: Chunk, /) -> None:
        """Take more bytes."""
        ...

    def hexdigest(self) -> str:
        """Return the digest of the bytes so far."""
        ...


@contextlib.contextmanager
def translated(action: str) -> Iterator[None]:
    """Turn the system's errors into StorageFull or Unavailable, saying what could not be done."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.errno in _FULL:
            raise StorageFull(f"cannot {action}: {reason}", hint="free space in the data directory's file system") from error
        raise Unavailable(f"cannot {action}: {reason}", hint="check the data directory's file system and its rights") from error


def write_at(fd: int, chunks: Sequence[Chunk], offset: int) -> int:
    """Write all chunks in order from the offset, and return the number of bytes; raises OSError when cut short."""
    views = [memoryview(chunk).cast("B") for chunk in chunks if len(chunk)]
    position = offset
    first = 0
    while first < len(views):
        written = os.pwritev(fd, views[first : first + _BUFFERS_MAX], position)
        position += written
        while first < len(views) and written >= len(views[first]):
            written -= len(views[first])
            first += 1
        if written:
            views[first] = views[first][written:]
    return position - offset


def hash_file(fd: int, algorithm: str, length: int) -> HashState:
    """Return the hash of the file's first `length` bytes; whoever relies on it compares the file's size too."""
    state = new_hash(algorithm)
    piece = memoryview(bytearray(min(_PIECE_BYTES, max(length, 1))))
    position = 0
    while position < length:
        count = os.preadv(fd, [piece[: length - position]], position)
        if not count:
            break
        state.update(piece[:count])
        position += count
    return state


def remove_directory(directory: Path) -> None:
    """Remove a directory that holds only files, as far as that goes; what stays is for a later tidying."""
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            path.unlink(missing_ok=True)
        directory.rmdir()


def sync_directory(directory: Path) -> None:
    """Make the names in the directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked_directory(directory: Path) -> Iterator[int]:
    """Keep other processes and threads out of the same block on the same directory; gives its descriptor."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def boot_id() -> str:
    """Return a name for the time since this machine started, or "" where the system has none.

    What was written since then is in the page cache or on disk even if the process that wrote it was killed; what was
    written before may have been lost with the power.
    """
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def _find_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is None:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    function.restype = ctypes.c_int
    found: Callable[[int, int, int, int], int] = function
    return found


_sync_file_range: Final = _find_sync_file_range()


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Let the system begin to write this part to disk, without waiting; a hint, which can't fail.

    With 900 MB the final fsync took 2 to 16 ms with it and 270 to 470 ms without, asked every 8 to 64 MB. fdatasync in a
    thread did as much (11 to 22 ms) but needs the thread. What it does to CPU use was lost in the machine's other load.
    """
    if _sync_file_range is not None:
        _sync_file_range(fd, offset, length, _SYNC_FILE_RANGE_WRITE)
