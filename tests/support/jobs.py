"""A node whose tasks are done step by step, and a job that notes what it was asked to do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from twinhull.jobs import executions
from twinhull.jobs.access import Access
from twinhull.jobs.job import ONCE, Job, NewTask, Retry, TaskLog
from twinhull.jobs.runner import JobRunner
from twinhull.kit.errors import StorageFull
from twinhull.metadata.executions import Execution, Task, find_execution, list_tasks
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.merge import Value

# A policy whose executions are not tried twice.
IMPATIENT = 8

T = TypeVar("T")


class Copying(Job):
    """Does what its tasks say, and notes what it was asked to do."""

    vendor_type = "COPY"
    concurrency = 2
    retry = Retry(first_s=10.0, max_s=60.0, for_s=100.0)
    is_taken_over = True

    def __init__(self) -> None:
        self.did: list[str] = []
        self.ended: list[tuple[int, str]] = []
        self.failing: dict[str, Exception] = {}
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.plans: list[Sequence[NewTask] | Exception] = []

    def retry_of(self, execution: Execution) -> Retry:
        return ONCE if execution.vendor_id == IMPATIENT else self.retry

    async def run(self, execution: Execution, task: Task, log: TaskLog) -> Mapping[str, Value]:
        name = str(task.fields["name"])
        self.did.append(name)
        log.write(f"copying {name}")
        await self.may_go_on.wait()
        if name in self.failing:
            raise self.failing[name]
        return {"extra_attrs": {"copied": name}}

    async def plan(self, execution: Execution, log: TaskLog) -> Sequence[NewTask]:
        planned = self.plans.pop(0)
        if isinstance(planned, Exception):
            raise planned
        return planned

    def task_ended(self, transaction: Transaction, execution: Execution, task: Task, status: str) -> None:
        self.ended.append((task.id, status))


async def settled(store: Store, runner: JobRunner, job: str, *, limit_s: float = 5.0) -> None:
    """Let a runner do what can be done without time passing; each task of the job may take so long."""
    quiet = 0
    while quiet < 3:
        before = store.position(), runner.ended
        await runner.work()
        running = [task for task in asyncio.all_tasks() if task.get_name() == job]
        if running:
            await asyncio.wait(running, timeout=limit_s)
        quiet = quiet + 1 if before == (store.position(), runner.ended) else 0


class ForgetfulAccess(Access):
    """One that can be told to write nothing down, as on a full disk."""

    is_full = False

    async def write(self, action: Callable[[Transaction], T]) -> T:
        if self.is_full:
            raise StorageFull
        return await super().write(action)


class Node:
    """A store with a runner, and what tells it that the log has moved."""

    def __init__(self, store: Store, executor: ThreadPoolExecutor) -> None:
        self.store = store
        self.listeners: list[Callable[[], None]] = []
        self.access = ForgetfulAccess(store, executor, self.listeners.append)
        self.job = Copying()
        self.runner = self.restarted()

    def restarted(self) -> JobRunner:
        self.runner = JobRunner([self.job], self.access, jitter=random.Random(1))
        return self.runner

    def begin(self, *names: str, lane: str = "", vendor_id: int = 7) -> int:
        tasks = [NewTask(fields={"name": name}, lane=lane) for name in names]
        with self.store.write() as transaction:
            return executions.begin(transaction, vendor_type="COPY", vendor_id=vendor_id, trigger="MANUAL", tasks=tasks)

    def begin_unplanned(self) -> int:
        with self.store.write() as transaction:
            return executions.begin(transaction, vendor_type="COPY", vendor_id=7, trigger="MANUAL", tasks=None)

    async def settle(self) -> None:
        """Let the runner do what can be done without time passing."""
        # Those that are held up do not end.
        await settled(self.store, self.runner, "COPY", limit_s=5.0 if self.job.may_go_on.is_set() else 0.05)

    def execution(self, number: int) -> Execution:
        with self.store.read() as connection:
            found = find_execution(connection, number)
        assert found is not None
        return found

    def tasks(self, execution: int) -> list[Task]:
        with self.store.read() as connection:
            return sorted(list_tasks(connection, execution=execution)[0], key=lambda task: task.id)

    def statuses(self, execution: int) -> list[str]:
        return [task.status for task in self.tasks(execution)]
