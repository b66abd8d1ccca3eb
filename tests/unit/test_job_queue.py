"""Which task is next, when a failed one is due again, what schedules have missed: the pure parts of background work."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from twinhull.jobs.cron import last_ms, next_ms
from twinhull.jobs.job import LOG_LENGTH_MAX, ONCE, Retry, TaskLog
from twinhull.jobs.queue import Item, Queue
from twinhull.jobs.scheduler import Due, due_now_ms
from twinhull.kit.clock import ManualClock

HOUR_MS = 3600 * 1000


def test_tasks_of_a_lane_are_done_one_after_the_other() -> None:
    queue = Queue()
    first, second, other = Item(1, 10, "a"), Item(2, 11, "a"), Item(3, 12, "b")
    for item in (first, second, other):
        queue.add(item)
    assert [queue.take(0), queue.take(0), queue.take(0)] == [first, other, None]
    queue.again(first, 500)
    assert queue.take(499) is None
    assert queue.next_due_ms() == 500
    assert queue.take(500) == first
    queue.done(first)
    assert queue.take(500) == second


def test_tasks_without_a_lane_wait_for_nobody() -> None:
    queue = Queue()
    queue.add(Item(1, 10))
    queue.add(Item(1, 11))
    assert queue.take(0) == Item(1, 10)
    assert queue.take(0) == Item(1, 11)


def test_task_is_queued_once() -> None:
    queue = Queue()
    for _ in range(2):
        queue.add(Item(1, 10, "a"), 77)
    assert queue.next_due_ms() == 77
    assert queue.take(77) == Item(1, 10, "a")
    queue.add(Item(1, 10, "a"))
    assert queue.take(100) is None
    queue.done(Item(1, 10, "a"))
    assert len(queue) == 0


def test_task_that_is_stopped_lets_its_lane_go_on() -> None:
    queue = Queue()
    items = [Item(1, 10, "a"), Item(1, 11, "a"), Item(2, 12, "a")]
    for item in items:
        queue.add(item, 0 if item.task != 10 else 900)
    assert queue.of_execution(1) == items[:2]
    for item in queue.of_execution(1):
        queue.done(item)
    queue.again(items[0], 5)
    assert queue.take(10) == items[2]


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "take", "again", "done", "drop"]), st.integers(1, 12), st.integers(0, 20)),
        max_size=60,
    )
)
def test_lanes_keep_their_order_whatever_is_done(steps: list[tuple[str, int, int]]) -> None:
    """Of one lane there is never more than one under way, and it is the oldest that is left."""
    queue, now = Queue(), 0
    waiting: list[Item] = []
    running: list[Item] = []
    made: set[Item] = set()
    for step, number, value in steps:
        item = Item(number, number, f"lane-{number % 3}")
        if step == "add" and item not in made:
            made.add(item)
            queue.add(item, now + value)
            waiting.append(item)
        elif step == "take":
            now += value
            taken = queue.take(now)
            if taken is not None:
                assert taken == next(one for one in waiting if one.lane == taken.lane)
                assert all(one.lane != taken.lane for one in running)
                running.append(taken)
        elif step == "again" and running:
            queue.again(running.pop(), now + value)
        elif step == "done" and running:
            ended = running.pop()
            queue.done(ended)
            waiting.remove(ended)
        elif step == "drop" and item in waiting and item not in running:
            queue.done(item)
            waiting.remove(item)
    for one in running:
        queue.done(one)
        waiting.remove(one)
    while waiting:
        taken = queue.take(now + 1000)
        assert taken is not None
        queue.done(taken)
        waiting.remove(taken)
    assert queue.take(now + 1000) is None
    assert len(queue) == 0


@given(st.integers(1, 200), st.integers(0, 30 * HOUR_MS))
def test_pauses_double_up_to_the_longest_and_end_after_the_time(tries: int, age_ms: int) -> None:
    retry = Retry(first_s=2.0, max_s=600.0, for_s=24 * 3600.0)
    due = retry.due_ms(tries, created_ms=1000, now_ms=1000 + age_ms, jitter=random.Random(tries))
    if age_ms >= 24 * HOUR_MS:
        assert due is None
        return
    assert due is not None
    pause_s = min(2.0 * 2 ** (tries - 1), 600.0)
    assert pause_s / 2 - 0.001 <= (due - 1000 - age_ms) / 1000 <= pause_s


def test_task_that_is_tried_once_is_never_due_again() -> None:
    assert ONCE.due_ms(1, created_ms=1000, now_ms=1000, jitter=random.Random(1)) is None


def test_log_keeps_its_newest_lines_and_the_time_of_each() -> None:
    log = TaskLog(ManualClock(), "")
    for number in range(2000):
        log.write(f"line {number}")
    lines = log.text.splitlines()
    assert len(log.text) <= LOG_LENGTH_MAX
    assert lines[0] == "(earlier lines are left out)"
    assert lines[-1] == "2023-11-14T22:13:20.000Z line 1999"
    assert [int(line.rsplit(" ", 1)[1]) for line in lines[1:]] == list(range(2001 - len(lines), 2000))


def test_log_of_one_line_that_is_too_long_keeps_its_end() -> None:
    log = TaskLog(ManualClock(), "")
    log.write("x" * 2 * LOG_LENGTH_MAX)
    assert len(log.text) <= LOG_LENGTH_MAX
    assert log.text.endswith("xxx\n")


@given(st.sampled_from(["0 0 * * * *", "*/7 3 1 * * *", "0 30 4 1 * *", "0 0 0 * * 1-5"]), st.integers(0, 2_000_000_000_000))
def test_last_time_is_the_one_that_has_no_other_behind_it(cron: str, now_ms: int) -> None:
    last = last_ms(cron, now_ms)
    assert last is not None
    assert last <= now_ms
    following = next_ms(cron, last)
    assert following is not None
    assert following > now_ms


def test_expression_that_is_never_due_was_never_due() -> None:
    assert last_ms("0 0 0 31 2 *", 2_000_000_000_000) is None
    assert last_ms("nonsense", 0) is None


def test_what_was_missed_is_made_up_for_once() -> None:
    due = Due(vendor_type="REPLICATION", vendor_id=1, cron="0 0 * * * *", since_ms=HOUR_MS // 2)
    assert due_now_ms(due, begun_ms=0, now_ms=HOUR_MS - 1) is None
    assert due_now_ms(due, begun_ms=0, now_ms=HOUR_MS) == HOUR_MS
    assert due_now_ms(due, begun_ms=HOUR_MS, now_ms=2 * HOUR_MS - 1) is None
    assert due_now_ms(due, begun_ms=HOUR_MS, now_ms=7 * HOUR_MS + 5) == 7 * HOUR_MS
    # What was due before there was a schedule is not made up for.
    assert due_now_ms(due, begun_ms=0, now_ms=HOUR_MS // 2) is None
