"""Hybrid logical clock: stamps that follow physical time and never contradict what was seen.

After Kulkarni, Demirbas et al., "Logical Physical Clocks" (2014): physical milliseconds, a counter for what falls into
the same millisecond, and here the origin, so that stamps are totally ordered.
"""

from __future__ import annotations

from typing import Final, NamedTuple

# A stamp further ahead of the local clock than this is held back and raised as an alarm, so that one broken clock
# cannot win every conflict.
MAX_AHEAD_MS: Final = 5 * 60 * 1000


class Stamp(NamedTuple):
    """When a write was made, and where; compares by time, then counter, then origin."""

    ms: int
    counter: int
    origin: str


ZERO: Final = Stamp(0, 0, "")


def next_stamp(last: Stamp, now_ms: int, origin: str) -> Stamp:
    """Return a stamp for a local write: never earlier than the clock, always later than `last`."""
    if now_ms > last.ms:
        return Stamp(now_ms, 0, origin)
    return Stamp(last.ms, last.counter + 1, origin)


def is_too_far_ahead(stamp: Stamp, now_ms: int) -> bool:
    """Tell whether a stamp lies so far in the future that its origin's clock must be broken."""
    return stamp.ms > now_ms + MAX_AHEAD_MS
