"""Time as a value handed in: nothing outside this folder asks the operating system what time it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the program may know of time."""

    def unix_ms(self) -> int:
        """Return milliseconds since 1970; may jump when the machine's clock is set."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that only ever grow; for durations and deadlines."""
        ...


class SystemClock:
    """The machine's own clock."""

    def unix_ms(self) -> int:
        """Return milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Return seconds since an arbitrary start."""
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to; for tests and simulation."""

    def __init__(self, unix_ms: int = 1_700_000_000_000) -> None:
        """Start at the given time."""
        self._unix_ms = unix_ms
        self._elapsed_ms = 0

    def unix_ms(self) -> int:
        """Return the time it was last set to."""
        return self._unix_ms

    def monotonic_s(self) -> float:
        """Return the seconds it was advanced by so far; jumps do not count."""
        return self._elapsed_ms / 1000

    def advance(self, ms: int) -> None:
        """Let that many milliseconds pass."""
        self._unix_ms += ms
        self._elapsed_ms += ms

    def jump(self, ms: int) -> None:
        """Set the wall clock off by that many milliseconds, as an administrator or a bad battery would."""
        self._unix_ms += ms


def rfc3339(unix_ms: int) -> str:
    """Return the time as Harbor and the OCI specs write it: 2022-03-29T08:00:00.000Z."""
    moment = datetime.fromtimestamp(unix_ms / 1000, tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{unix_ms % 1000:03d}Z"
