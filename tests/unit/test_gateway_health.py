"""When a node goes out and when it comes back."""

from __future__ import annotations

import pytest

from twinhull.gateway.health import Answer, HealthBook
from twinhull.gateway.settings import Backend
from twinhull.kit.clock import ManualClock

A, B = Backend.parse("a:1"), Backend.parse("b:1")


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still."""
    return ManualClock()


@pytest.fixture
def book(clock: ManualClock) -> HealthBook:
    """Two nodes that were ready when first asked."""
    book = HealthBook([A, B], fall=3, rise=2, clock=clock)
    for backend in (A, B):
        assert not book.note(backend, Answer.READY)
    return book


@pytest.mark.parametrize("answer", [Answer.REFUSED, Answer.NOT_READY, Answer.UNRESOLVED])
def test_clear_answer_takes_a_node_out_at_once(book: HealthBook, answer: Answer) -> None:
    assert book.note(A, answer)
    assert book.out() == {A}


def test_silence_takes_a_node_out_only_when_it_lasts(book: HealthBook) -> None:
    for answer in (Answer.SILENT, Answer.SILENT, Answer.READY, Answer.SILENT, Answer.SILENT):
        assert not book.note(A, answer)
    assert book.out() == frozenset()
    assert book.note(A, Answer.SILENT)
    assert book.out() == {A}


def test_node_comes_back_after_good_checks_in_a_row(book: HealthBook) -> None:
    book.note(A, Answer.NOT_READY)
    assert [book.note(A, each) for each in (Answer.READY, Answer.SILENT, Answer.READY)] == [False] * 3
    assert book.out() == {A}
    assert book.note(A, Answer.READY)
    assert book.out() == frozenset()


def test_nobody_is_out_when_all_fail(book: HealthBook) -> None:
    book.note(A, Answer.REFUSED)
    book.note(B, Answer.REFUSED)
    assert book.out() == frozenset()
    assert not book.standing(A).well
    book.note(B, Answer.READY)
    assert book.note(B, Answer.READY)
    assert book.out() == {A}


def test_first_check_needs_no_repetition(clock: ManualClock) -> None:
    book = HealthBook([A, B], fall=3, rise=2, clock=clock)
    assert book.out() == frozenset()
    assert book.note(A, Answer.SILENT)
    assert book.out() == {A}


def test_standing_tells_since_when(book: HealthBook, clock: ManualClock) -> None:
    clock.advance(5_000)
    book.note(A, Answer.REFUSED)
    clock.advance(1_000)
    book.note(A, Answer.SILENT)
    assert book.standing(A).since_s == 5.0
    assert book.standing(A).last is Answer.SILENT
