"""Keeps the bytes of blobs that go to a peer within its limit; records and acknowledgements are never held up."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Sequence

from twinhull.config.bandwidth import Limit
from twinhull.kit.clock import Clock


class Pace:
    """Called by the threads that send, before each piece. All streams to one peer share its limit."""

    def __init__(self, limits: Sequence[Limit], name_of: Callable[[str], str], clock: Clock) -> None:
        """Take the limits by peers' names, what tells a node's name, and the time; hours are those of this machine's zone."""
        self._limits = limits
        self._name_of = name_of
        self._clock = clock
        self._lock = threading.Lock()
        # By node, when the next byte may go (monotonic seconds).
        self._free_s: dict[str, float] = {}
        self._stopped = threading.Event()

    def limit_of(self, node: str) -> float | None:
        """Return how many bytes a second may go to the node now; None for as many as there is room for."""
        if not self._limits:
            return None
        moment = dt.datetime.fromtimestamp(self._clock.unix_ms() / 1000, tz=dt.UTC).astimezone()
        minute, name = moment.hour * 60 + moment.minute, self._name_of(node)
        own = [limit for limit in self._limits if limit.peer in (name, node)]
        # A peer that is named has its own hours; what is said of all others does not hold for it.
        for limit in own or [limit for limit in self._limits if limit.peer == "*"]:
            if limit.holds_at(minute):
                return limit.bytes_per_s
        return None

    def due_in_s(self, node: str, count: int) -> float:
        """Take note that so many bytes are to go, and return for how long they must wait."""
        limit = self.limit_of(node)
        if limit is None:
            return 0.0
        with self._lock:
            now_s = self._clock.monotonic_s()
            free_s = max(now_s, self._free_s.get(node, 0.0))
            self._free_s[node] = free_s + count / limit
        return free_s - now_s

    def wait(self, node: str, count: int) -> None:
        """Return when so many bytes may go to the node."""
        if (wait_s := self.due_in_s(node, count)) > 0:
            self._stopped.wait(wait_s)

    def stop(self) -> None:
        """Let everybody go on: nothing is sent any more."""
        self._stopped.set()
