"""How fast bytes may go to which peer, and when."""

from __future__ import annotations

import datetime as dt

import pytest

from twinhull.config.bandwidth import Limit, parse_limits
from twinhull.config.settings import TransferSettings
from twinhull.kit.clock import ManualClock
from twinhull.kit.errors import SettingsInvalid
from twinhull.replication.pace import Pace

PIECE = 100_000


def at(hour: int, minute: int = 0) -> ManualClock:
    """Return a clock that shows this time of day on this machine."""
    moment = dt.datetime(2026, 5, 4, hour, minute).astimezone()
    return ManualClock(int(moment.timestamp() * 1000))


def pace(text: str, clock: ManualClock) -> Pace:
    """Return a pace by these limits, for nodes that are called like their ids."""
    return Pace(parse_limits(text), lambda node: node.upper(), clock)


def test_limits_are_read() -> None:
    assert parse_limits(" far=1.5@08:00-18:30 , *=50 ") == (Limit("far", 1_500_000, 480, 1110), Limit("*", 50_000_000))
    assert parse_limits("") == ()


@pytest.mark.parametrize(
    "text", ["far", "far=", "far=fast", "=5", "far=5@8-9", "far=5@25:00-26:00", "far=5@08:61-09:00", "far=0"]
)
def test_limit_that_is_none_is_refused_by_the_settings(text: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        TransferSettings(limits=text)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("hour", "named", "others"),
    [(7, None, 2e6), (8, 1e6, 2e6), (17, 1e6, 2e6), (18, None, 2e6)],
)
def test_limit_holds_at_its_hours_and_for_its_peer(hour: int, named: float | None, others: float) -> None:
    found = pace("FAR=1@08:00-18:00, *=2", at(hour))
    assert found.limit_of("far") == named
    assert found.limit_of("near") == others
    assert pace("", at(hour)).limit_of("far") is None


@pytest.mark.parametrize(("hour", "holds"), [(21, False), (22, True), (0, True), (5, True), (6, False)])
def test_hours_may_go_over_midnight(hour: int, holds: bool) -> None:
    assert (pace("*=1@22:00-06:00", at(hour)).limit_of("x") is not None) == holds


def test_all_streams_to_a_peer_share_its_limit_and_others_are_not_held_up() -> None:
    clock = at(12)
    found = pace("FAR=1", clock)
    assert found.due_in_s("far", PIECE) == 0
    assert found.due_in_s("far", PIECE) == pytest.approx(0.1)
    assert found.due_in_s("far", PIECE) == pytest.approx(0.2)
    assert found.due_in_s("near", PIECE) == 0
    clock.advance(1000)
    # What was not used is not saved up.
    assert found.due_in_s("far", PIECE) == 0
    assert found.due_in_s("far", PIECE) == pytest.approx(0.1)


def test_stop_lets_everybody_go_on_at_once() -> None:
    found = pace("*=0.05", at(12))
    found.wait("far", 500_000_000)
    found.stop()
    found.wait("far", 1)
