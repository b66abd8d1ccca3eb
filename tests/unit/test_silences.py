"""A receiver that does not answer is tried by one task once in a while, and by all as soon as it has answered."""

from __future__ import annotations

from twinhull.hooks.delivery import Silences
from twinhull.kit.clock import ManualClock


def test_target_that_answers_is_always_tried() -> None:
    silences = Silences(ManualClock())
    assert [silences.may_try("a") for _ in range(3)] == [True] * 3
    silences.answered("a")
    assert silences.may_try("a")


def test_silent_target_is_left_alone_and_then_tried_by_one() -> None:
    clock = ManualClock()
    silences = Silences(clock)
    assert silences.may_try("a")
    silences.silent("a")
    assert not silences.may_try("a")
    assert silences.may_try("b")
    clock.advance(2000)
    assert [silences.may_try("a") for _ in range(3)] == [True, False, False]
    silences.answered("a")
    assert [silences.may_try("a") for _ in range(3)] == [True] * 3


def test_pauses_grow_to_a_minute() -> None:
    clock = ManualClock()
    silences = Silences(clock)
    pauses = []
    for _ in range(8):
        silences.silent("a")
        waited_s = 0
        while not silences.may_try("a"):
            clock.advance(1000)
            waited_s += 1
        pauses.append(waited_s)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]


def test_who_was_to_try_and_never_said_keeps_nobody_from_it_for_ever() -> None:
    clock = ManualClock()
    silences = Silences(clock)
    silences.silent("a")
    clock.advance(2000)
    assert silences.may_try("a")
    clock.advance(15_000)
    assert silences.may_try("a")
