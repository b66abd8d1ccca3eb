"""The judge of recorded histories: it finds each kind of broken promise, and holds nothing against what is allowed."""

from __future__ import annotations

from tests.support.promises import Disturbance, History, Kind, Operation, Outcome, Reading, Verdict, pairs_of

TAG = "p/app:v1"


def op(
    kind: Kind,
    began_s: float,
    ended_s: float,
    node: str = "a",
    *,
    key: str = TAG,
    outcome: Outcome = "done",
    value: str = "",
    strength: int = 0,
) -> Operation:
    return Operation(
        kind=kind,
        node=node,
        key=key,
        outcome=outcome,
        began_s=began_s,
        ended_s=ended_s,
        value=value,
        strength=strength,
    )


def shows(tag: str = "", *images: str, **strengths: int) -> Reading:
    found = {f"p/app@{image}" for image in images or (tag,)}
    return Reading(tags={TAG: tag} if tag else {}, images=found, strengths=strengths)


def judge(*operations: Operation, end: Reading, apart: tuple[float, float] | None = None, clocks_agree: bool = True) -> Verdict:
    disturbances = [Disturbance(pairs=pairs_of("ab"), began_s=apart[0], ended_s=apart[1])] if apart else []
    return History(operations, disturbances, clocks_agree=clocks_agree).judge({"a": end, "b": end})


def test_push_that_is_there_is_counted_and_kept() -> None:
    verdict = judge(op("push", 1, 2, value="x"), op("read", 3, 4, node="b", value="x"), end=shows("x"))
    assert verdict.kept
    assert (verdict.acknowledged_pushes, verdict.reads, verdict.operations) == (1, 1, 2)


def test_acknowledged_push_that_is_gone_is_lost_and_one_without_an_answer_is_not() -> None:
    assert len(judge(op("push", 1, 2, value="x"), end=shows()).lost) == 4, "image and tag, at both nodes"
    assert judge(op("push", 1, 2, value="x", outcome="unknown"), end=shows()).kept
    assert judge(op("push", 1, 2, value="x", outcome="unknown"), end=shows("x")).kept


def test_push_is_lost_when_its_tag_stands_but_its_bytes_do_not() -> None:
    assert judge(op("push", 1, 2, value="x"), end=Reading(tags={TAG: "x"}, images=set(), strengths={})).lost


def test_earlier_push_may_not_be_what_the_tag_names_in_the_end() -> None:
    first, second = op("push", 1, 2, value="x"), op("push", 3, 4, node="b", value="y")
    assert judge(first, second, end=shows("y", "x", "y")).kept
    assert judge(first, second, end=shows("x", "x", "y")).lost
    assert judge(first, second, end=shows("x", "x", "y"), apart=(0, 9)).lost, "the later push wins, seen or not"
    assert judge(first, second, end=shows("x", "x", "y"), apart=(0, 9), clocks_agree=False).kept


def test_either_of_two_pushes_at_the_same_time_may_win() -> None:
    both = op("push", 1, 3, value="x"), op("push", 2, 4, node="b", value="y")
    assert judge(*both, end=shows("x", "x", "y")).kept
    assert judge(*both, end=shows("y", "x", "y")).kept
    assert judge(*both, end=shows("", "x", "y")).lost


def test_push_without_an_answer_may_win_over_a_later_one() -> None:
    late = op("push", 1, 2, value="x", outcome="unknown")
    assert judge(late, op("push", 3, 4, value="y"), end=shows("x", "x", "y")).kept


def test_delete_takes_what_it_has_seen_and_no_more() -> None:
    push, delete = op("push", 1, 2, value="x"), op("untag", 3, 4, node="b")
    assert judge(push, delete, end=shows("", "x")).kept
    assert judge(push, delete, end=shows("x")).lost
    assert judge(push, delete, end=shows("x"), apart=(0, 9)).kept


def test_earlier_push_stands_when_a_later_one_is_deleted_by_who_has_not_seen_the_earlier() -> None:
    history = op("push", 1, 2, value="x"), op("push", 3, 4, node="b", value="y"), op("untag", 5, 6, node="b")
    assert judge(*history, end=shows("x", "x", "y"), apart=(0, 9)).kept
    assert judge(*history, end=shows("x", "x", "y")).lost


def test_erased_image_may_not_come_back() -> None:
    erase = op("erase", 3, 4, key="p/app@x")
    pushed = op("push", 1, 2, value="x"), op("untag", 3, 4)
    assert judge(*pushed, erase, end=Reading(tags={}, images=set(), strengths={})).kept
    assert judge(*pushed, erase, end=shows("", "x")).stale


def test_read_of_an_older_value_is_stale_where_the_nodes_heard_each_other() -> None:
    history = op("push", 1, 2, value="x"), op("push", 3, 4, value="y"), op("read", 5, 6, node="b", value="x")
    assert judge(*history, end=shows("y", "x", "y")).stale
    assert judge(*history, end=shows("y", "x", "y"), apart=(0, 9)).kept
    assert judge(*history, end=shows("y", "x", "y"), apart=(7, 9)).stale
    assert judge(*history[:2], op("read", 5, 6, value="x"), end=shows("y", "x", "y"), apart=(0, 9)).stale, "its own write"


def test_missing_tag_is_stale_after_its_push_was_acknowledged() -> None:
    assert judge(op("push", 1, 2, value="x"), op("read", 3, 4, node="b"), end=shows("x")).stale
    assert judge(op("push", 1, 3, value="x"), op("read", 2, 4, node="b"), end=shows("x")).kept


def test_reads_do_not_go_back() -> None:
    pushes = op("push", 1, 2, value="x"), op("push", 3, 9, value="y", outcome="unknown")
    reads = op("read", 4, 5, value="y"), op("read", 6, 7, node="b", value="x")
    assert judge(*pushes, *reads, end=shows("y", "x", "y")).stale
    assert judge(*pushes, *reads, end=shows("y", "x", "y"), apart=(4, 9)).kept
    assert judge(*pushes, *reversed(reads), end=shows("y", "x", "y")).stale, "the order is that of time"


def test_no_tag_before_the_first_push_is_no_newer_than_that_push() -> None:
    history = op("push", 3, 4, value="x"), op("untag", 7, 8), op("read", 1, 2), op("read", 5, 6, value="x")
    assert judge(*history, end=shows("", "x")).kept


def test_revocation_in_force_is_counted_and_one_that_is_undone_is_found() -> None:
    revoked = op("revoke", 1, 2, key="mara", strength=1)
    assert judge(revoked, end=shows(mara=1)).kept
    assert judge(revoked, end=shows(mara=2)).undone
    assert judge(revoked, op("revoke", 3, 4, node="b", key="mara"), end=shows(mara=1)).undone
    assert judge(revoked, end=shows(mara=2)).revocations == 1


def test_revocation_without_an_answer_may_have_happened_or_not() -> None:
    unknown = op("revoke", 1, 2, key="mara", outcome="unknown")
    assert judge(unknown, end=shows(mara=0)).kept
    assert judge(unknown, end=shows(mara=2)).kept


def test_right_that_nobody_took_away_is_lost_when_it_is_gone() -> None:
    assert judge(op("probe", 1, 2, key="mara", strength=2), end=shows(mara=0)).lost
    assert judge(op("revoke", 1, 2, key="mara", strength=0, outcome="refused"), end=shows(mara=1)).lost


def test_probe_after_a_revocation_finds_no_more_than_was_left() -> None:
    history = op("revoke", 1, 2, key="mara"), op("probe", 3, 4, node="b", key="mara", strength=1)
    assert judge(*history, end=shows(mara=0)).undone
    assert judge(*history, end=shows(mara=0), apart=(0, 9)).kept
    same = op("probe", 3, 4, key="mara", strength=1)
    assert judge(history[0], same, end=shows(mara=0), apart=(0, 9)).undone
