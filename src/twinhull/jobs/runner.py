"""Does this node's tasks: what the log brings is queued, what is due is done, and what came of it is written down."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import structlog
from sqlalchemy import Connection

from twinhull.jobs import executions
from twinhull.jobs.access import Access
from twinhull.jobs.attempts import LOG_EVERY_S, Attempts
from twinhull.jobs.job import Job
from twinhull.jobs.queue import Item, Queue
from twinhull.metadata import executions as queries
from twinhull.metadata.executions import STOP_ASKED, STOPPED, Execution, Task
from twinhull.metadata.readers import end_of_log, keys_between
from twinhull.metadata.transaction import Transaction
from twinhull.observe import families
from twinhull.observe.metrics import Metrics
from twinhull.records.kinds import EXECUTION, TASK, split_owned_key

log = structlog.get_logger(__name__)

_KINDS: Final = (EXECUTION.name, TASK.name)
_IDLE_S: Final = 60.0
_PAGE: Final = 1000
# Other writers wait no longer than for so many executions to be written down as stopped.
_STOPPED_AT_ONCE: Final = 50
# A node that was removed and leaves is a cluster of its own again.
_REMOVED_S: Final = 1.0


class _Hands:
    """What one job has to do, and is doing."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.queue = Queue()
        self.running: dict[Item, asyncio.Task[None]] = {}


class JobRunner:
    """The worker of that name. It sees in the log what any process of this node has begun, and what others ask it to stop."""

    name = "jobs"

    def __init__(
        self,
        jobs: Sequence[Job],
        access: Access,
        *,
        jitter: random.Random,
        log_every_s: float = LOG_EVERY_S,
        metrics: Metrics | None = None,
        is_member: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take what can be done, where it is written down, how often the logs of long tasks are, and where to tell of it.

        A node that is no member of its cluster any more begins nothing: others have taken over what it had left.
        """
        self._is_member = is_member
        self._metrics = metrics
        self._all = {job.vendor_type: _Hands(job) for job in jobs}
        self._access = access
        self._attempts = Attempts(access, jitter, log_every_s=log_every_s, on_try=self._count)
        self._bell = access.bell()
        # The log's position up to which it was looked through; None: not yet.
        self._seen: int | None = None
        self.ended = 0

    # -- worker ----------------------------------------------------------------------------------------------------

    async def wait_for_work(self) -> None:
        """Return when the log has moved or a task is due."""
        if not self._is_member():
            await asyncio.sleep(_REMOVED_S)
            return
        dues = [due for hands in self._all.values() if (due := self._next_due_ms(hands)) is not None]
        wait_s = (min(dues) - self._access.clock.unix_ms()) / 1000 if dues else _IDLE_S
        if self._seen is not None and wait_s > 0:
            await self._bell.wait(min(wait_s, _IDLE_S))

    async def work(self) -> float | None:
        """Queue what is new, stop what is not wanted any more, begin what is due."""
        if not self._is_member():
            return None
        await self._look()
        for hands in self._all.values():
            while len(hands.running) < hands.job.concurrency:
                item = hands.queue.take(self._access.clock.unix_ms())
                if item is None:
                    break
                hands.running[item] = asyncio.create_task(self._do(hands, item), name=hands.job.vendor_type)
            if self._metrics is not None:
                self._metrics.set(families.TASKS_QUEUED, hands.job.vendor_type, to=len(hands.queue))
        return None

    def status(self) -> Mapping[str, object]:
        """Return how much is waiting or under way, and how much has ended since this node's agent started."""
        queued = {name: len(hands.queue) for name, hands in self._all.items()}
        return {
            "queued": queued,
            "running": {name: len(hands.running) for name, hands in self._all.items()},
            "ended": self.ended,
        }

    async def close(self) -> None:
        """Leave what is under way; it is done again after the next start."""
        tasks = [task for hands in self._all.values() for task in hands.running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what is new -----------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        node, seen = self._access.node, self._seen
        news = await self._access.read(lambda connection: _news(connection, node, seen))
        if seen is None:
            await self._take_in_unfinished()
        await self._take_in_executions(news.executions)
        for task in news.tasks:
            self._take_in_task(task)
        self._seen = news.upto

    async def _take_in_unfinished(self) -> None:
        """Queue what an earlier life of the agent has left, page by page: there may be very many."""
        node, last = self._access.node, 0
        while begun := await self._access.read(partial(queries.unfinished_executions, node=node, after=last, limit=_PAGE)):
            await self._take_in_executions(begun)
            last = begun[-1].id
        last = 0
        while tasks := await self._access.read(partial(queries.unfinished_tasks, node=node, after=last, limit=_PAGE)):
            for task in tasks:
                self._take_in_task(task)
            last = tasks[-1].id

    async def _take_in_executions(self, begun: Sequence[Execution]) -> None:
        to_stop = []
        for execution in begun:
            hands = self._all.get(execution.vendor_type)
            # What is none of these jobs has a worker of its own.
            if hands is None or execution.has_ended:
                continue
            if execution.fields.get(STOP_ASKED):
                to_stop.append(execution)
            elif execution.fields.get(executions.PLANNING):
                hands.queue.add(Item(execution.id, 0), int(execution.fields.get("due_ms", 0)))
        for start in range(0, len(to_stop), _STOPPED_AT_ONCE):
            await self._stop(to_stop[start : start + _STOPPED_AT_ONCE])

    def _take_in_task(self, task: Task) -> None:
        hands = self._all.get(task.vendor_type)
        if hands is not None and not task.has_ended:
            # Tasks of a lane share its name.
            item = Item(task.execution_id, task.id, sys.intern(str(task.fields.get("lane", ""))))
            hands.queue.add(item, int(task.fields.get("due_ms") or 0))

    async def _stop(self, to_stop: Sequence[Execution]) -> None:
        """Cancel what runs of these executions, forget what waits, and write down that they have stopped."""
        found = [
            (hands, item)
            for execution in to_stop
            for hands in (self._all[execution.vendor_type],)
            for item in hands.queue.of_execution(execution.id)
        ]
        running = [hands.running[item] for hands, item in found if item in hands.running]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for hands, item in found:
            hands.queue.done(item)

        def stop(inside: Transaction) -> None:
            for execution in to_stop:
                left = queries.unfinished_tasks(inside.connection, inside.node, execution.id)
                if executions.end_execution(inside, execution.id, STOPPED, {}):
                    for task in left:
                        self._all[execution.vendor_type].job.task_ended(inside, execution, task, STOPPED)

        await self._access.write(stop)
        log.info("executions stopped", count=len(to_stop), first=to_stop[0].id)

    def _count(self, vendor_type: str, outcome: str) -> None:
        if self._metrics is not None:
            self._metrics.count(families.TASKS, vendor_type, outcome)

    # -- what is due -----------------------------------------------------------------------------------------------

    def _next_due_ms(self, hands: _Hands) -> int | None:
        return hands.queue.next_due_ms() if len(hands.running) < hands.job.concurrency else None

    async def _do(self, hands: _Hands, item: Item) -> None:
        try:
            due_ms = await self._attempts.carry_out(hands.job, item)
        finally:
            hands.running.pop(item, None)
            self._bell.ring()
        if due_ms is None:
            hands.queue.done(item)
            self.ended += 1
        else:
            hands.queue.again(item, due_ms)


class _News(NamedTuple):
    """What was begun or changed of a node's own, up to a position of the log."""

    upto: int
    executions: Sequence[Execution] = ()
    tasks: Sequence[Task] = ()


def _news(connection: Connection, node: str, seen: int | None) -> _News:
    upto = end_of_log(connection)
    if seen is None or upto == seen:
        return _News(upto)
    changed = keys_between(connection, seen, upto, kinds=_KINDS)
    own: dict[str, list[int]] = {kind: [] for kind in _KINDS}
    for kind, key in changed:
        owner, number = split_owned_key(key)
        if owner == node:
            own[kind].append(number)
    begun, tasks = own[EXECUTION.name], own[TASK.name]
    return _News(
        upto,
        queries.executions_of(connection, node, begun) if begun else (),
        queries.tasks_of(connection, node, tasks) if tasks else (),
    )
