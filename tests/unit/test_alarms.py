"""What is wrong with a peer, a clock or the writes is told by name, and nothing else is."""

from __future__ import annotations

import pytest

from twinhull.metadata.members import Node
from twinhull.replication.alarms import (
    ALARMS,
    CHANGES_HELD,
    CLOCK_AHEAD,
    NODES_ALIKE,
    PEER_DOWN,
    PEER_ONE_WAY,
    PEER_SUSPECT,
    WRITES_DEGRADED,
    alarm_of_clock,
    alarm_of_writes,
    alarms_of_member,
    alarms_of_nodes,
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


def member(node: str, name: str, slot: int, joined_ms: int) -> Node:
    return Node(id=node, name=name, slot=slot, address="h:1", url="", token_keys=[], joined_ms=joined_ms)


def test_members_that_were_given_the_same_name_or_slot_give_an_alarm_that_names_the_younger() -> None:
    one, other, third = member("aa", "a", 0, 1), member("bb", "b", 1, 2), member("cc", "c", 2, 3)
    assert alarms_of_nodes([one, other, third]) == []
    [named] = alarms_of_nodes([member("dd", "c", 3, 9), one, third])
    assert (named.name, named.peer) == (NODES_ALIKE, "c")
    assert "both have name c: `twinhull cluster remove dd`" in named.message
    assert "slot" not in named.message
    [slotted] = alarms_of_nodes([third, member("ee", "e", 2, 2)])
    assert "both have slot 2, so that ids" in slotted.message
    assert "remove cc" in slotted.message
    [both] = alarms_of_nodes([third, member("ff", "c", 2, 4)])
    assert "both have name c and slot 2" in both.message


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
