"""Several ranges of one blob at a time: what arrives is in order and without gaps, also when one of them fails."""

from __future__ import annotations

import threading

import pytest

from twinhull.kit.errors import PeerUnavailable
from twinhull.replication.long_line import LongLine, fetch_in_order

LIMIT_S = 10
CONTENT = bytes(range(256)) * 40
LINE = LongLine(range_bytes=1000, streams=3)


def test_bytes_come_in_order_whichever_range_is_first() -> None:
    others = threading.Barrier(LINE.streams)
    received = bytearray()
    running = [0, 0]
    lock = threading.Lock()

    def read(start: int, end: int) -> bytearray:
        with lock:
            running[0] += 1
            running[1] = max(running)
        if start < LINE.streams * LINE.range_bytes:
            # The first ones end only when all of them are under way.
            others.wait(LIMIT_S)
        with lock:
            running[0] -= 1
        return bytearray(CONTENT[start:end])

    fetch_in_order(read, 0, len(CONTENT), received.extend, LINE)
    assert bytes(received) == CONTENT
    assert running[1] == LINE.streams, "no more are under way than memory is meant for"


@pytest.mark.parametrize("start", [0, 1, 999, 1000, len(CONTENT) - 1, len(CONTENT)])
def test_part_of_it_is_read_from_an_offset_on(start: int) -> None:
    received = bytearray()
    fetch_in_order(lambda first, last: bytearray(CONTENT[first:last]), start, len(CONTENT), received.extend, LINE)
    assert bytes(received) == CONTENT[start:]


def test_failure_of_one_range_leaves_what_came_before_it_and_no_gap() -> None:
    received = bytearray()

    def read(start: int, end: int) -> bytearray:
        if start >= 5000:
            raise PeerUnavailable("the line broke")
        return bytearray(CONTENT[start:end])

    with pytest.raises(PeerUnavailable):
        fetch_in_order(read, 0, len(CONTENT), received.extend, LINE)
    assert bytes(received) == CONTENT[:5000]


def test_short_line_or_small_blob_is_not_worth_it() -> None:
    line = LongLine()
    assert line.is_worth_it(0.15, 1 << 30)
    assert not line.is_worth_it(0.0001, 1 << 30)
    assert not line.is_worth_it(0.15, 1 << 20)
