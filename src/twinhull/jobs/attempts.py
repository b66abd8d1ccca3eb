"""One try of a task or a plan, from its record to what came of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple, TypeVar

import structlog
from sqlalchemy import Connection

from twinhull.jobs import executions
from twinhull.jobs.access import Access
from twinhull.jobs.job import Job, TaskLog
from twinhull.jobs.queue import Item
from twinhull.kit.errors import Futile, TwinhullError
from twinhull.metadata import executions as queries
from twinhull.metadata.executions import ERROR, RUNNING, SCHEDULED, SUCCESS, Execution, Task
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import EXECUTION, TASK
from twinhull.records.merge import Value
from twinhull.replication.threads import to_its_end

log = structlog.get_logger(__name__)

# What came of a try could not be written down: that is tried again, so late.
_UNWRITTEN_S: Final = 5.0
_FAULT_S: Final = 300.0
# How old what is shown of a running task's log may be.
LOG_EVERY_S: Final = 5.0
_REASON_LENGTH_MAX: Final = 1000
_FAULT: Final = "an error of the program, see this node's log"

_T = TypeVar("_T")
# Told of each try: the vendor type, and success, retry or error.
OnTry = Callable[[str, str], None]


def _tell_nobody(_vendor_type: str, _outcome: str) -> None:
    """Count nothing."""


class _Outcome(NamedTuple):
    """How to write down what came of a try, and when the next one is due; None: it has ended."""

    action: Callable[[Transaction], object]
    due_ms: int | None


def _end(
    job: Job, execution: Execution, task: Task, status: str, fields: Mapping[str, Value]
) -> Callable[[Transaction], object]:
    def end(inside: Transaction) -> None:
        if executions.end_task(inside, task.id, status, fields):
            job.task_ended(inside, execution, task, status)

    return end


async def _done(job: Job, step: Awaitable[_T]) -> _T:
    """Return what the step does; a fault of ours is seen in the log, and is a failure like any other to whoever waits."""
    try:
        return await step
    except TwinhullError:
        raise
    except Exception as fault:
        log.exception("a task failed for a reason that should not be", vendor_type=job.vendor_type)
        raise TwinhullError(_FAULT) from fault


class Attempts:
    """Carries out tries, and writes down what came of them."""

    def __init__(
        self, access: Access, jitter: random.Random, *, log_every_s: float = LOG_EVERY_S, on_try: OnTry = _tell_nobody
    ) -> None:
        """Take where tasks are written down, what spreads the pauses between tries, and who counts them."""
        self._on_try = on_try
        # What came of tries and could not be written down, on a full disk say: nothing of it is done again for that.
        self._unwritten: dict[Item, _Outcome] = {}
        self._log_every_s = log_every_s
        self._access = access
        self._jitter = jitter

    async def carry_out(self, job: Job, item: Item) -> int | None:
        """Try it once, and return when it has to be tried again; None: it has ended."""
        try:
            outcome = self._unwritten.get(item) or await (self._try_task if item.task else self._try_plan)(job, item)
            if outcome is None:
                return None
            self._unwritten[item] = outcome
            await self._write(outcome.action)
            del self._unwritten[item]
            return outcome.due_ms
        except TwinhullError as error:
            log.warning("what came of a task could not be written down yet", task=item.task, reason=str(error))
            return self._access.clock.unix_ms() + int(_UNWRITTEN_S * 1000)
        except Exception:  # a fault of ours must not hold up the lane for ever
            log.exception("what came of a task could not be written down, for a reason that should not be", task=item.task)
            return self._access.clock.unix_ms() + int(_FAULT_S * 1000)

    async def _try_task(self, job: Job, item: Item) -> _Outcome | None:
        found = await self._found(item)
        if found is None:
            return None
        execution, task = found
        tries = int(task.fields.get("run_count", 0)) + 1
        book = TaskLog(self._access.clock, str(task.fields.get("log", "")))
        if job.is_long:
            begun = {"status": RUNNING, "run_count": tries, "started_ms": self._access.clock.unix_ms(), "due_ms": None}
            await self._write(lambda inside: executions.tell_of(inside, TASK, item.task, begun))
        try:
            async with self._log_kept(job, task, book):
                outcome = await _done(job, job.run(execution, task, book))
        except TwinhullError as error:
            reason, due_ms = self._failed(job, execution, error, tries=tries, created_ms=task.created_ms)
            book.write(reason)
            fields = {"run_count": tries, "status_message": reason, "log": book.text}
            self._on_try(job.vendor_type, "error" if due_ms is None else "retry")
            if due_ms is None:
                return _Outcome(_end(job, execution, task, ERROR, fields), None)
            fields |= {"status": SCHEDULED, "due_ms": due_ms}
            return _Outcome(lambda inside: executions.tell_of(inside, TASK, item.task, fields), due_ms)
        self._on_try(job.vendor_type, "success")
        told = {**outcome, "run_count": tries, "status_message": "", "log": book.text}
        return _Outcome(_end(job, execution, task, SUCCESS, told), None)

    @asynccontextmanager
    async def _log_kept(self, job: Job, task: Task, book: TaskLog) -> AsyncIterator[None]:
        """Write down, now and then, what a long task has to say while it runs."""
        keeping = asyncio.create_task(self._keep_log(task.id, book, book.text)) if job.is_long else None
        try:
            yield
        finally:
            if keeping is not None:
                keeping.cancel()
                await asyncio.wait([keeping])

    async def _keep_log(self, number: int, book: TaskLog, kept: str) -> None:
        while True:
            await asyncio.sleep(self._log_every_s)
            if book.text != kept:
                kept = book.text
                # What can't be written now is written with the next lines, or at the end.
                with suppress(TwinhullError):
                    await self._write(lambda inside: executions.tell_of(inside, TASK, number, {"log": book.text}))

    async def _try_plan(self, job: Job, item: Item) -> _Outcome | None:
        node = self._access.node
        found = await self._access.read(lambda inside: queries.executions_of(inside, node, [item.execution]))
        if not found or found[0].has_ended or not found[0].fields.get(executions.PLANNING):
            return None
        execution = found[0]
        tries = int(execution.fields.get("plan_count", 0)) + 1
        book = TaskLog(self._access.clock, str(execution.fields.get("log", "")))
        try:
            tasks = await _done(job, job.plan(execution, book))
        except TwinhullError as error:
            reason, due_ms = self._failed(job, execution, error, tries=tries, created_ms=execution.created_ms)
            book.write(reason)
            fields: dict[str, Any] = {"plan_count": tries, "status_message": reason, "log": book.text, "due_ms": due_ms}
            if due_ms is None:
                return _Outcome(lambda inside: executions.end_execution(inside, item.execution, ERROR, fields), None)
            return _Outcome(lambda inside: executions.tell_of(inside, EXECUTION, item.execution, fields), due_ms)
        told = {"status_message": "", "log": book.text or None, "due_ms": None, "plan_count": tries}
        return _Outcome(lambda inside: executions.plan_made(inside, item.execution, tasks, told), None)

    async def _found(self, item: Item) -> tuple[Execution, Task] | None:
        node = self._access.node

        def read(connection: Connection) -> tuple[Execution, Task] | None:
            tasks = queries.tasks_of(connection, node, [item.task])
            begun = queries.executions_of(connection, node, [item.execution])
            return (begun[0], tasks[0]) if tasks and begun and not tasks[0].has_ended else None

        return await self._access.read(read)

    async def _write(self, action: Callable[[Transaction], object]) -> None:
        # Whoever is cancelled meanwhile must not leave what he has done unwritten, and do it again.
        await to_its_end(self._access.write(action))

    def _failed(
        self, job: Job, execution: Execution, error: TwinhullError, *, tries: int, created_ms: int
    ) -> tuple[str, int | None]:
        """Return what to say of a failure, and when to try again; None: never."""
        reason = str(error)[:_REASON_LENGTH_MAX]
        if isinstance(error, Futile):
            return reason, None
        retry, now_ms = job.retry_of(execution), self._access.clock.unix_ms()
        return reason, retry.due_ms(tries, created_ms=created_ms, now_ms=now_ms, jitter=self._jitter)
