"""How fast bytes of blobs move between this node and each peer, from totals that only grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

# The rate is that of so long a time.
_WINDOW_S: Final = 10.0


class _Moment(NamedTuple):
    at_s: float
    received: Mapping[str, int]
    sent: Mapping[str, int]


class Rates:
    """Throughput in both directions. Used on one event loop."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._moments: deque[_Moment] = deque()

    def note(self, at_s: float, received: Mapping[str, int], sent: Mapping[str, int]) -> None:
        """Take the totals of this moment, by peer."""
        self._moments.append(_Moment(at_s, dict(received), dict(sent)))
        while len(self._moments) > 2 and self._moments[1].at_s <= at_s - _WINDOW_S:
            self._moments.popleft()

    def of(self, node: str) -> tuple[int, int]:
        """Return how many bytes a second came from the peer, and went to it, lately."""
        if len(self._moments) < 2:
            return 0, 0
        first, last = self._moments[0], self._moments[-1]
        span_s = max(last.at_s - first.at_s, 0.001)
        came, went = (
            (totals[1].get(node, 0) - totals[0].get(node, 0)) / span_s
            for totals in ((first.received, last.received), (first.sent, last.sent))
        )
        return max(0, round(came)), max(0, round(went))
