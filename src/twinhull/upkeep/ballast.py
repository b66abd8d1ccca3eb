"""Space that is kept back, so that a disk which is full can still be written to by what makes room on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from twinhull.blobs.disk import translated

SIZE_BYTES: Final = 8 << 20


class Ballast:
    """A file of no use but to be removed. Synchronous."""

    def __init__(self, path: Path, size_bytes: int = SIZE_BYTES) -> None:
        """Take where it lies; nothing is written before `take`."""
        self._path = path
        self._size_bytes = size_bytes

    def take(self) -> None:
        """Take up the space, unless it is taken; raises StorageFull."""
        with translated("keep back some space"), self._path.open("ab") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
            except OSError:
                # Half of it would only be in the way.
                self._path.unlink(missing_ok=True)
                raise

    def drop(self) -> bool:
        """Give the space back, and tell whether there was any."""
        with translated("give back the space kept"):
            taken = self._path.exists() and self._path.stat().st_size > 0
            self._path.unlink(missing_ok=True)
        return taken
