"""What is wrong with a peer, a clock or the writes is told by name, and nothing else is."""

from __future__ import annotations

import pytest

from twinhull.replication.alarms import (
    ALARMS,
    CHANGES_HELD,
    CLOCK_AHEAD,
    PEER_DOWN,
    PEER_ONE_WAY,
    PEER_SUSPECT,
    WRITES_DEGRADED,
    alarm_of_clock,
    alarm_of_writes,
    alarms_of_member,
)
from twinhull.replication.rates import Rates


@pytest.mark.parametrize("state", ["self", "in sync", "behind", "paused"])
def test_peer_that_is_well_or_left_alone_gives_no_alarm(state: str) -> None:
    assert alarms_of_member({"name": "b", "state": state, "last_error": "old", "held": {}, "held_there": {}}) == []


@pytest.mark.parametrize(("state", "alarm"), [("down", PEER_DOWN), ("one-way", PEER_ONE_WAY), ("suspect", PEER_SUSPECT)])
def test_peer_that_is_not_well_gives_one_that_names_it(state: str, alarm: str) -> None:
    [found] = alarms_of_member({"name": "b", "state": state, "last_error": "refused"})
    assert (found.name, found.peer) == (alarm, "b")
    assert ("refused" in found.message) == (state != "suspect")
    assert alarm in ALARMS


def test_changes_that_are_held_back_on_either_side_are_told_with_their_reason() -> None:
    held = alarms_of_member({"name": "b", "state": "in sync", "held": {"n3": "clock"}, "held_there": {"n1": "unknown kind"}})
    assert [alarm.name for alarm in held] == [CHANGES_HELD, CHANGES_HELD]
    assert held[0].message == "changes of n3 are held back here: clock"
    assert held[1].message == "changes of n1 are held back by b: unknown kind"


def test_stamp_from_the_future_gives_an_alarm() -> None:
    assert alarm_of_clock(1_000_000, 995_000) == []
    [found] = alarm_of_clock(1_060_000, 1_000_000)
    assert found.name == CLOCK_AHEAD
    assert "60 s ahead" in found.message


def test_degraded_writes_give_an_alarm_for_a_minute() -> None:
    assert alarm_of_writes(None, 0) == []
    assert [alarm.name for alarm in alarm_of_writes(5.0, 3)] == [WRITES_DEGRADED]
    assert alarm_of_writes(61.0, 3) == []


def test_throughput_is_that_of_the_last_ten_seconds() -> None:
    rates = Rates()
    assert rates.of("b") == (0, 0)
    for second in range(31):
        # 100 bytes a second came, for the first 20 seconds; what goes out began only now.
        rates.note(float(second), {"b": 100 * min(second, 20)}, {"b": 500 if second == 30 else 0})
        if second == 15:
            assert rates.of("b") == (100, 0)
    assert rates.of("b") == (0, 50)
    assert rates.of("c") == (0, 0)
