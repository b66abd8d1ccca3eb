"""A page of memory that the agent writes and the HTTP workers read: until when this node is sure to have seen everything."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Final

from twinhull.kit.clock import Clock

_UNTIL: Final = struct.Struct("<Q")
FOREVER_MS: Final = 2**63


class SyncPage:
    """Until when (monotonic milliseconds, the same clock for all processes of a machine) no peer knows more than this node."""

    def __init__(self, path: Path) -> None:
        """Open or make the page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < mmap.PAGESIZE:
                os.ftruncate(fd, mmap.PAGESIZE)
            self._page = mmap.mmap(fd, mmap.PAGESIZE)
        finally:
            os.close(fd)

    def set_until(self, until_ms: int) -> None:
        """Say until when; the agent alone calls this."""
        _UNTIL.pack_into(self._page, 0, until_ms)

    def is_sure(self, clock: Clock) -> bool:
        """Tell whether this node has seen everything that a reachable peer has acknowledged to anyone."""
        until: int = _UNTIL.unpack_from(self._page, 0)[0]
        return clock.monotonic_s() * 1000 <= until
