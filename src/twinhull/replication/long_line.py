"""One big blob over a long line: several ranges at a time, since one connection can't fill it; handed on in order."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, NamedTuple

_MIB: Final = 1024 * 1024
# linux/tcp.h, struct tcp_info: tcpi_rtt, in microseconds.
_TCP_INFO: Final = 11
_RTT: Final = struct.Struct("=68xI")


class LongLine(NamedTuple):
    """When a line counts as long and a blob as big, and what is done then."""

    round_trip_min_s: float = 0.02
    blob_min_bytes: int = 64 * _MIB
    # So much of memory is used at most: one range for each stream, and one that is being handed on.
    range_bytes: int = 8 * _MIB
    streams: int = 4

    def is_worth_it(self, round_trip_s: float, size_bytes: int) -> bool:
        """Tell whether so much over such a line is better fetched in ranges."""
        return round_trip_s >= self.round_trip_min_s and size_bytes >= self.blob_min_bytes


DEFAULT_LINE: Final = LongLine()


def round_trip_s(connection: socket.socket) -> float:
    """Return how long the system has found the line of this connection to be, in seconds; 0 where it does not tell."""
    with contextlib.suppress(OSError, struct.error):
        (microseconds,) = _RTT.unpack(connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _RTT.size))
        return float(microseconds) / 1e6
    return 0.0


def fetch_in_order(
    read: Callable[[int, int], bytearray], start: int, end: int, sink: Callable[[memoryview], None], line: LongLine
) -> None:
    """Read from `start` up to `end` in several threads, and hand the bytes to the sink in order, in this one.

    `read` returns the bytes from one offset up to another. Whatever it or the sink raises passes through; what was handed on
    until then has no gaps.
    """
    offsets = deque(range(start, end, line.range_bytes))
    pending: deque[Future[bytearray]] = deque()
    threads = ThreadPoolExecutor(line.streams, thread_name_prefix="range")
    try:
        while offsets or pending:
            while offsets and len(pending) < line.streams:
                offset = offsets.popleft()
                pending.append(threads.submit(read, offset, min(end, offset + line.range_bytes)))
            sink(memoryview(pending.popleft().result()))
    finally:
        threads.shutdown(cancel_futures=True)
