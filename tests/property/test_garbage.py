"""The rules of garbage, whatever the case: what is named or young stays, and waiting longer never brings anything back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twinhull.upkeep.judging import Verdict, judge_bytes, judge_in_repository

times = st.integers(0, 2**53)


@given(linked_ms=st.none() | times, due_ms=times)
def test_named_blob_is_no_candidate(linked_ms: int | None, due_ms: int) -> None:
    assert judge_in_repository(named=True, linked_ms=linked_ms, due_ms=due_ms) is Verdict.FORGET


@given(named=st.booleans(), linked_ms=times, due_ms=times)
def test_link_goes_only_when_it_is_old_and_unnamed(*, named: bool, linked_ms: int, due_ms: int) -> None:
    verdict = judge_in_repository(named=named, linked_ms=linked_ms, due_ms=due_ms)
    assert (verdict is Verdict.UNLINK) == (not named and linked_ms <= due_ms)


@given(linked_ms=st.none() | times, due_ms=times, later_ms=times)
def test_link_that_may_go_may_go_later_too(linked_ms: int | None, due_ms: int, later_ms: int) -> None:
    if judge_in_repository(named=False, linked_ms=linked_ms, due_ms=due_ms) is Verdict.UNLINK:
        assert judge_in_repository(named=False, linked_ms=linked_ms, due_ms=due_ms + later_ms) is Verdict.UNLINK


@given(named=st.booleans(), lately=st.booleans(), released=st.booleans())
def test_bytes_go_only_when_nobody_needs_them_or_did_lately(*, named: bool, lately: bool, released: bool) -> None:
    verdict = judge_bytes(named=named, lately=lately, released=released)
    assert (verdict is Verdict.REMOVE) == (released and not named and not lately)
    assert (verdict is Verdict.FORGET) == named
