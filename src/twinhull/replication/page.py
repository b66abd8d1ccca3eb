"""A page of memory that the agent writes and the workers read: until when this node is sure of itself, and its peers are."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Final

from twinhull.kit.clock import Clock

_UNTIL: Final = struct.Struct("<Q")
_PROMISED_AT: Final = 8
FOREVER_MS: Final = 2**63
# A promise that is said to hold for longer was made before the machine was started anew, by another monotonic clock.
_PROMISE_MAX_S: Final = 3600.0


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

    def set_promised(self, until_s: float) -> None:
        """Say until when some peer may answer alone; outlives the agent, whose successor has to keep the promise."""
        _UNTIL.pack_into(self._page, _PROMISED_AT, max(0, int(until_s * 1000) + 1))

    def promised_s(self, clock: Clock) -> float:
        """Return for how many seconds from now on no write that a peer lacks may be acknowledged; 0 when there is none."""
        until: int = _UNTIL.unpack_from(self._page, _PROMISED_AT)[0]
        left_s = until / 1000 - clock.monotonic_s()
        return left_s if 0 < left_s <= _PROMISE_MAX_S else 0.0
