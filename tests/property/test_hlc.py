"""Stamps only grow, however clocks jump and whatever is seen of others."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from twinhull.kit.clock import ManualClock
from twinhull.kit.hlc import ZERO, Stamp, next_stamp

STAMPS = st.builds(Stamp, st.integers(0, 20), st.integers(0, 3), st.sampled_from(["a", "b", "c"]))


@given(last=STAMPS, now_ms=st.integers(0, 20), origin=st.sampled_from(["a", "b", "c"]))
def test_next_stamp_is_later_than_the_last_and_not_before_the_clock(last: Stamp, now_ms: int, origin: str) -> None:
    following = next_stamp(last, now_ms, origin)
    assert following > last
    assert following.ms >= now_ms
    assert following.origin == origin


@given(st.lists(st.one_of(st.integers(-10_000, 10_000), STAMPS)))
def test_stamps_grow_through_clock_jumps_and_whatever_is_seen(events: list[int | Stamp]) -> None:
    clock = ManualClock(10)
    last, made = ZERO, []
    for event in events:
        if isinstance(event, Stamp):
            last = max(last, event)
            made.append(last)
            continue
        clock.jump(event)
        last = next_stamp(last, clock.unix_ms(), "a")
        made.append(last)
        assert last > max(made[:-1], default=ZERO)
    assert all(earlier <= later for earlier, later in pairwise(made))
