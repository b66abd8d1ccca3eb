"""Where blobs go that nothing names any more: out of every reader's sight at once, off the disk a moment later."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from typing import Final

from twinhull.blobs.disk import locked_directory, translated
from twinhull.blobs.layout import Layout
from twinhull.kit.digest import Digest
from twinhull.kit.errors import Conflict

_NS_PER_MS: Final = 1_000_000


class Trash:
    """The trash of one data directory; any number of processes may use it at once."""

    def __init__(self, layout: Layout) -> None:
        """Take where everything lies."""
        self._layout = layout

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """See to it that no blob is thrown away meanwhile; ends with the process, however that ends."""
        with translated(f"hold {self._layout.trash}"):
            fd = os.open(self._layout.trash, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with translated(f"hold {self._layout.trash}"):
                fcntl.flock(fd, fcntl.LOCK_SH)
            yield
        finally:
            os.close(fd)

    def throw(self, digests: Sequence[Digest], untouched_since_ms: int) -> dict[Digest, int]:
        """Move the blobs here, save those committed or touched since then, and return the sizes of the moved ones.

        Raises Conflict while somebody holds. Not durable: after a power failure one of them may be in its place again, whole.
        """
        moved: dict[Digest, int] = {}
        with self._alone(), translated("throw blobs away"):
            for digest in digests:
                path = self._layout.blob(digest)
                with contextlib.suppress(FileNotFoundError), locked_directory(path.parent):
                    seen = path.stat()
                    if seen.st_mtime_ns < untouched_since_ms * _NS_PER_MS:
                        path.rename(self._layout.thrown(digest))
                        moved[digest] = seen.st_size
        return moved

    def empty(self) -> int:
        """Remove all that is here, and return how many bytes that gave back; what is being read stays readable."""
        freed = 0
        with translated(f"empty {self._layout.trash}"):
            for path in self._layout.trash.iterdir():
                # Two processes may be at it at the same time.
                with contextlib.suppress(FileNotFoundError):
                    size = path.stat().st_size
                    path.unlink()
                    freed += size
        return freed

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with translated(f"lock {self._layout.trash}"):
            fd = os.open(self._layout.trash, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict("no blob can be removed now", hint="a backup is being made; try again after it") from None
            yield
        finally:
            os.close(fd)
