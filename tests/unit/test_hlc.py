"""Stamps follow the clock, count on where it does not, and those of a broken clock are told apart."""

from __future__ import annotations

from itertools import pairwise

import pytest

from twinhull.kit.hlc import MAX_AHEAD_MS, ZERO, Stamp, is_too_far_ahead, next_stamp


def test_stamp_is_the_clocks_time_when_that_is_later() -> None:
    assert next_stamp(ZERO, 1000, "a") == Stamp(1000, 0, "a")
    assert next_stamp(Stamp(999, 7, "b"), 1000, "a") == Stamp(1000, 0, "a")


@pytest.mark.parametrize("now_ms", [1000, 999, 0])
def test_stamp_counts_on_when_the_clock_stands_still_or_falls_back(now_ms: int) -> None:
    assert next_stamp(Stamp(1000, 2, "b"), now_ms, "a") == Stamp(1000, 3, "a")


def test_stamps_are_ordered_by_time_then_counter_then_origin() -> None:
    in_order = [Stamp(1, 0, "b"), Stamp(1, 1, "a"), Stamp(1, 1, "b"), Stamp(2, 0, "a")]
    assert all(earlier < later for earlier, later in pairwise(in_order))


def test_five_minutes_ahead_is_the_limit() -> None:
    assert MAX_AHEAD_MS == 300_000
    assert not is_too_far_ahead(Stamp(1_300_000, 99, "b"), 1_000_000)
    assert is_too_far_ahead(Stamp(1_300_001, 0, "b"), 1_000_000)
    assert not is_too_far_ahead(Stamp(0, 0, "b"), 1_000_000)
