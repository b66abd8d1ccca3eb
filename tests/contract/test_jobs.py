"""Tasks are done at least once and in order, tried again, stopped, taken over and forgotten, by what the records say."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.jobs import IMPATIENT, Node
from tests.support.metadata import exchange
from twinhull.catalog.documents import create_document, delete_document
from twinhull.jobs import executions
from twinhull.jobs.access import Access
from twinhull.jobs.job import NewTask
from twinhull.jobs.keeping import KEPT, Keeping
from twinhull.jobs.runner import JobRunner
from twinhull.jobs.scheduler import Due, Scheduler, begin_due
from twinhull.kit.clock import ManualClock
from twinhull.kit.errors import Futile, Unavailable
from twinhull.metadata.executions import list_executions, list_tasks
from twinhull.metadata.store import Store
from twinhull.records.kinds import EXECUTION, NODE, REPLICATION_POLICY, owned_key

SECOND_MS = 1000


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture
async def node(store: Store, executor: ThreadPoolExecutor) -> Node:
    """A node with a runner that has seen its log."""
    made = Node(store, executor)
    await made.settle()
    return made


async def test_execution_ends_with_its_last_task(node: Node, clock: ManualClock) -> None:
    number = node.begin("one", "two", "three")
    assert node.execution(number).fields["metrics"] == {"running": 3}
    clock.advance(SECOND_MS)
    await node.settle()
    assert sorted(node.job.did) == ["one", "three", "two"]
    execution = node.execution(number)
    assert (execution.status, execution.fields["metrics"]) == ("Success", {"running": 0, "success": 3})
    assert execution.fields["ended_ms"] == clock.unix_ms()
    task = node.tasks(number)[0]
    assert (task.status, task.fields["run_count"], task.fields["extra_attrs"]) == ("Success", 1, {"copied": "one"})
    assert task.fields["log"].endswith("copying one\n")
    assert {status for _, status in node.job.ended} == {"Success"}


async def test_no_more_tasks_run_at_a_time_than_the_job_allows(node: Node) -> None:
    node.job.may_go_on.clear()
    number = node.begin("one", "two", "three")
    await node.settle()
    assert node.statuses(number) == ["Running", "Running", "Pending"]
    node.job.may_go_on.set()
    await node.settle()
    assert node.statuses(number) == ["Success"] * 3


async def test_log_of_a_running_task_is_shown_before_it_ends(node: Node) -> None:
    node.runner = JobRunner([node.job], node.access, jitter=random.Random(1), log_every_s=0.01)
    node.job.may_go_on.clear()
    number = node.begin("one")
    await node.settle()
    assert node.statuses(number) == ["Running"]
    assert node.tasks(number)[0].fields["log"].endswith("copying one\n")
    node.job.may_go_on.set()
    await node.settle()
    assert node.tasks(number)[0].fields["log"].count("copying one") == 1


async def test_failed_task_is_tried_again_and_its_lane_waits(node: Node, clock: ManualClock) -> None:
    node.job.failing["one"] = Unavailable("receiver does not answer")
    number = node.begin("one", "two", lane="to-there")
    other = node.begin("three")
    await node.settle()
    # Both are done at the same time.
    assert sorted(node.job.did) == ["one", "three"]
    assert node.statuses(number) == ["Scheduled", "Pending"]
    assert node.execution(number).status == "Running"
    assert node.execution(other).status == "Success"
    assert node.tasks(number)[0].fields["status_message"] == "receiver does not answer"
    node.job.failing.clear()
    clock.advance(4 * SECOND_MS)
    await node.settle()
    assert sorted(node.job.did) == ["one", "three"]
    # Pauses begin with ten seconds, less what chance takes off.
    clock.advance(6 * SECOND_MS)
    await node.settle()
    assert node.job.did[2:] == ["one", "two"]
    assert node.statuses(number) == ["Success", "Success"]
    assert node.tasks(number)[0].fields["run_count"] == 2
    assert node.tasks(number)[0].fields["log"].count("copying one") == 2
    assert node.tasks(number)[0].fields["status_message"] == ""


async def test_task_that_fails_for_too_long_is_an_error_and_the_next_has_its_try(node: Node, clock: ManualClock) -> None:
    node.job.failing["one"] = Unavailable("down")
    number = node.begin("one", "two", lane="to-there")
    for _ in range(12):
        await node.settle()
        clock.advance(10 * SECOND_MS)
    assert node.statuses(number) == ["Error", "Success"]
    execution = node.execution(number)
    assert (execution.status, execution.fields["metrics"]) == ("Error", {"running": 0, "error": 1, "success": 1})


async def test_futile_task_is_an_error_at_once(node: Node) -> None:
    node.job.failing["one"] = Futile("no such target")
    number = node.begin("one")
    await node.settle()
    assert node.job.did == ["one"]
    assert node.statuses(number) == ["Error"]
    assert node.tasks(number)[0].fields["status_message"] == "no such target"


async def test_execution_is_tried_as_often_as_its_job_says_of_it(node: Node) -> None:
    node.job.failing["one"] = Unavailable("receiver does not answer")
    patient, impatient = node.begin("one"), node.begin("one", vendor_id=IMPATIENT)
    await node.settle()
    assert (node.execution(patient).status, node.execution(impatient).status) == ("Running", "Error")


async def test_error_of_the_program_is_tried_again_and_not_told(node: Node) -> None:
    node.job.failing["one"] = ValueError("internal secret")
    number = node.begin("one")
    await node.settle()
    assert node.statuses(number) == ["Scheduled"]
    assert "secret" not in str(node.tasks(number)[0].fields)


async def test_what_was_under_way_is_done_again_after_a_restart(node: Node) -> None:
    node.job.may_go_on.clear()
    number = node.begin("one", "two", "three", lane="l")
    await node.settle()
    assert node.statuses(number) == ["Running", "Pending", "Pending"]
    await node.runner.close()
    node.job.may_go_on.set()
    node.restarted()
    await node.settle()
    assert node.job.did == ["one", "one", "two", "three"]
    assert node.execution(number).status == "Success"


async def test_pause_before_the_next_try_outlasts_a_restart(node: Node, clock: ManualClock) -> None:
    node.job.failing["one"] = Unavailable("down")
    number = node.begin("one")
    await node.settle()
    node.restarted()
    node.job.failing.clear()
    await node.settle()
    assert node.job.did == ["one"]
    clock.advance(10 * SECOND_MS)
    await node.settle()
    assert node.statuses(number) == ["Success"]


async def test_planned_tasks_are_done_once_they_are_all_written(node: Node, clock: ManualClock) -> None:
    node.job.plans = [Unavailable("source is down"), [NewTask(fields={"name": "one"}), NewTask(fields={"name": "two"})]]
    number = node.begin_unplanned()
    await node.settle()
    assert node.execution(number).status == "Running"
    assert node.execution(number).fields["status_message"] == "source is down"
    clock.advance(10 * SECOND_MS)
    await node.settle()
    assert sorted(node.job.did) == ["one", "two"]
    execution = node.execution(number)
    assert (execution.status, execution.fields["metrics"]) == ("Success", {"running": 0, "success": 2})


async def test_plan_without_tasks_is_a_success_and_a_futile_one_an_error(node: Node) -> None:
    node.job.plans = [[], Futile("no such registry")]
    first = node.begin_unplanned()
    await node.settle()
    second = node.begin_unplanned()
    await node.settle()
    assert node.execution(first).status == "Success"
    assert (node.execution(second).status, node.execution(second).fields["status_message"]) == ("Error", "no such registry")


async def test_stop_that_another_node_asked_for_ends_what_runs_and_waits(node: Node, peer: Store) -> None:
    node.job.may_go_on.clear()
    number = node.begin("one", "two", "three")
    await node.settle()
    exchange(node.store, peer)
    with peer.write() as transaction:
        assert executions.ask_to_stop(transaction, "n1", number)
    exchange(node.store, peer)
    await node.settle()
    assert node.statuses(number) == ["Stopped"] * 3
    execution = node.execution(number)
    assert (execution.status, execution.fields["metrics"]) == ("Stopped", {"running": 0, "stopped": 3})
    assert node.job.ended == [(task.id, "Stopped") for task in node.tasks(number)]
    node.job.may_go_on.set()
    await node.settle()
    assert len(node.job.did) == 2
    with node.store.write() as transaction:
        assert not executions.ask_to_stop(transaction, "n1", number)


async def test_what_was_done_on_a_full_disk_is_written_down_later_and_not_done_again(node: Node, clock: ManualClock) -> None:
    node.job.is_long = False
    number = node.begin("one")
    node.access.is_full = True
    await node.settle()
    assert (node.job.did, node.statuses(number)) == (["one"], ["Pending"])
    node.access.is_full = False
    clock.advance(5 * SECOND_MS)
    await node.settle()
    assert (node.job.did, node.statuses(number)) == (["one"], ["Success"])


async def test_removed_node_begins_nothing(node: Node) -> None:
    members = [True, False]
    node.runner = JobRunner([node.job], node.access, jitter=random.Random(1), is_member=lambda: members[-1])
    number = node.begin("one")
    await node.settle()
    assert node.statuses(number) == ["Pending"]
    members.pop()
    await node.settle()
    assert node.statuses(number) == ["Success"]


async def test_very_many_executions_are_stopped_at_once(node: Node) -> None:
    node.job.may_go_on.clear()
    numbers = [node.begin("one", lane="l") for _ in range(120)]
    await node.settle()
    with node.store.write() as transaction:
        for number in numbers:
            assert executions.ask_to_stop(transaction, "n1", number)
    await node.settle()
    assert {node.execution(number).status for number in numbers} == {"Stopped"}
    assert node.job.did == ["one"]
    assert node.runner.status()["queued"] == {"COPY": 0}


async def test_stop_asked_for_while_the_agent_was_down_is_seen_after_it(node: Node) -> None:
    number = node.begin("one")
    with node.store.write() as transaction:
        assert executions.ask_to_stop(transaction, "n1", number)
    node.restarted()
    await node.settle()
    assert node.job.did == []
    assert node.statuses(number) == ["Stopped"]


async def test_other_nodes_tasks_are_left_alone(node: Node, peer: Store) -> None:
    tasks = [NewTask(fields={"name": "theirs"})]
    with peer.write() as transaction:
        executions.begin(transaction, vendor_type="COPY", vendor_id=7, trigger="MANUAL", tasks=tasks)
    exchange(node.store, peer)
    await node.settle()
    node.restarted()
    await node.settle()
    assert node.job.did == []


def removed(store: Store, name: str) -> None:
    with store.write() as transaction:
        transaction.create(NODE, store.node, {"slot": 0})
        transaction.create(NODE, name, {"slot": 1})
        transaction.delete(NODE, name)


async def test_what_a_removed_node_left_is_done_by_the_heir_under_a_new_execution(node: Node, peer: Store) -> None:
    with peer.write() as transaction:
        tasks = [NewTask(fields={"name": "done"}), NewTask(fields={"name": "left"}, lane="l")]
        given: dict[str, Any] = {"vendor_type": "COPY", "vendor_id": 7, "trigger": "EVENT"}
        number = executions.begin(transaction, **given, tasks=tasks, fields={"event_id": "e-1"})
        executions.end_task(transaction, list_tasks(transaction.connection)[0][-1].id, "Success", {})
    exchange(node.store, peer)
    keeping = Keeping([node.job], node.access, is_heir=lambda: True)
    await keeping.work()
    # It may only be that this node has not heard of it yet.
    assert node.execution(number).status == "Running"
    removed(node.store, "n2")
    await Keeping([node.job], node.access, is_heir=lambda: False).work()
    assert node.execution(number).status == "Running"
    await keeping.work()
    await node.settle()
    assert node.execution(number).status == "Error"
    assert "its node n2 was removed" in node.execution(number).fields["status_message"]
    assert node.job.did == ["left"]
    with node.store.read() as connection:
        taken_over = list_executions(connection, vendor_type="COPY")[0]
    own = next(one for one in taken_over if one.node == "n1")
    assert (own.status, own.vendor_id, own.fields["event_id"]) == ("Success", 7, "e-1")
    assert own.fields["metrics"] == {"running": 0, "success": 1}


async def test_what_can_not_be_taken_over_ends_with_its_node(node: Node, peer: Store) -> None:
    with peer.write() as transaction:
        given: dict[str, Any] = {"vendor_type": "OTHER", "vendor_id": 7, "trigger": "MANUAL"}
        number = executions.begin(transaction, **given, tasks=[NewTask(), NewTask()])
    exchange(node.store, peer)
    removed(node.store, "n2")
    await Keeping([node.job], node.access, is_heir=lambda: True).work()
    assert node.execution(number).status == "Error"
    assert node.statuses(number) == ["Error", "Error"]
    with node.store.read() as connection:
        assert list_executions(connection)[1] == 1


async def test_only_the_newest_ended_executions_of_a_policy_are_kept(node: Node, clock: ManualClock) -> None:
    for number in range(KEPT + 8):
        node.begin(f"{number}")
        clock.advance(1)
    await node.settle()
    node.job.may_go_on.clear()
    last = node.begin("still running")
    other = node.begin("of another policy", vendor_id=8)
    keeping = Keeping([node.job], node.access, is_heir=lambda: False)
    while await keeping.work() is not None:
        pass
    with node.store.read() as connection:
        left, total = list_executions(connection, vendor_type="COPY", vendor_id=7)
        tasks = list_tasks(connection)[1]
    assert total == KEPT + 1
    assert last in [one.id for one in left]
    assert tasks == KEPT + 2
    assert node.execution(other).status == "Running"
    assert keeping.dropped == 8


async def test_executions_go_with_their_policy(node: Node) -> None:
    with node.store.write() as transaction:
        kept = create_document(transaction, REPLICATION_POLICY, {}, name="kept")
        gone = create_document(transaction, REPLICATION_POLICY, {}, name="gone")
    executions_of = [node.begin("one", vendor_id=number) for number in (kept, gone)]
    await node.settle()
    node.job.policy_kind = REPLICATION_POLICY  # type: ignore[misc]
    keeping = Keeping([node.job], node.access, is_heir=lambda: False)
    assert await keeping.work() is None
    with node.store.write() as transaction:
        delete_document(transaction, REPLICATION_POLICY, gone)
    while await keeping.work() is not None:
        pass
    with node.store.read() as connection:
        assert [one.id for one in list_executions(connection, vendor_type="COPY")[0]] == executions_of[:1]
        assert list_tasks(connection)[1] == 1


async def test_more_than_a_page_of_what_was_left_is_done_after_a_restart(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinhull.jobs.runner._PAGE", 3)
    numbers = [node.begin(*[f"{number}-{task}" for task in range(2)]) for number in range(5)]
    node.restarted()
    await node.settle()
    assert {node.execution(number).status for number in numbers} == {"Success"}
    assert len(node.job.did) == 10


async def test_due_execution_is_begun_once_by_whichever_node_comes_first(
    store: Store, peer: Store, executor: ThreadPoolExecutor, clock: ManualClock
) -> None:
    due = Due(vendor_type="COPY", vendor_id=7, cron="0 0 * * * *", since_ms=clock.unix_ms())
    first = Scheduler([lambda _: [due]], Access(store, executor, lambda _: None), is_first=lambda: True)
    second = Scheduler([lambda _: [due]], Access(peer, executor, lambda _: None), is_first=lambda: True)
    idle = Scheduler([lambda _: [due]], Access(peer, executor, lambda _: None), is_first=lambda: False)
    await first.work()
    assert first.begun == 0
    clock.advance(3 * 3600 * SECOND_MS)
    await idle.work()
    await first.work()
    await first.work()
    exchange(store, peer)
    await second.work()
    assert (first.begun, second.begun, idle.begun) == (1, 0, 0)
    with store.read() as connection:
        found, total = list_executions(connection, vendor_type="COPY")
    assert total == 1
    assert (found[0].trigger, found[0].fields["planning"]) == ("SCHEDULE", True)
    with peer.write() as transaction:
        assert begin_due(transaction, due, found[0].fields["scheduled_ms"]) == 0


async def test_ended_task_does_not_end_again(node: Node) -> None:
    number = node.begin("one", "two")
    task = node.tasks(number)[0]
    with node.store.write() as transaction:
        assert executions.end_task(transaction, task.id, "Success", {})
        assert not executions.end_task(transaction, task.id, "Error", {})
        assert not executions.end_task(transaction, 77, "Error", {})
    assert node.execution(number).fields["metrics"] == {"running": 1, "success": 1}
    with node.store.write() as transaction:
        assert executions.end_execution(transaction, number, "Stopped", {})
        assert not executions.end_execution(transaction, number, "Error", {})
        assert transaction.values(EXECUTION, owned_key("n1", number)) is not None
    assert node.execution(number).fields["metrics"] == {"running": 0, "success": 1, "stopped": 1}
