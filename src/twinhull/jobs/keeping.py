"""Keeps executions in order: old ones go, and what a removed node has left undone is ended or taken over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog
from sqlalchemy import Connection

from twinhull.jobs.access import Access
from twinhull.jobs.executions import begin, end_execution
from twinhull.jobs.job import Job, NewTask
from twinhull.metadata import executions as queries
from twinhull.metadata.executions import ERROR, Execution
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import EXECUTION, TASK, owned_key

log = structlog.get_logger(__name__)

KEPT: Final = 100
_EVERY_S: Final = 3.0
_BETWEEN_PAGES_S: Final = 0.1
_PAGE: Final = 50
_TASKS_PAGE: Final = 500
# A node that this one has never heard of may be new, and the record that says so on its way.
_UNKNOWN_FOR_MS: Final = 3600 * 1000
# What the new owner writes itself.
_OWN_FIELDS: Final = frozenset(
    {"metrics", "stop_asked", "status_message", "log", "run_count", "due_ms", "started_ms", "lane"} | {"planning", "plan_count"}
)


class Keeping:
    """The worker that does this: for its own node's executions, and where it is the heir, for those of removed nodes."""

    name = "executions"

    def __init__(self, jobs: Sequence[Job], access: Access, *, is_heir: Callable[[], bool]) -> None:
        """Take what can be taken over, and what tells whether it is this node that does so."""
        self._policies = {job.vendor_type: job.policy_kind for job in jobs if job.policy_kind is not None}
        self._taken_over = frozenset(job.vendor_type for job in jobs if job.is_taken_over)
        self._access = access
        self._is_heir = is_heir
        self.dropped = 0

    async def wait_for_work(self) -> None:
        """Return after a while."""
        await asyncio.sleep(_EVERY_S)

    async def work(self) -> float | None:
        """Do the next few."""
        if self._is_heir() and await self._end_abandoned():
            return _BETWEEN_PAGES_S
        node = self._access.node

        def find(connection: Connection) -> list[int]:
            return queries.executions_beyond(connection, node, keep=KEPT, limit=_PAGE, policies=self._policies)

        old = await self._access.read(find)
        if not old:
            return None
        self.dropped += await self._access.write(lambda inside: drop_executions(inside, old))
        return _BETWEEN_PAGES_S

    def status(self) -> Mapping[str, object]:
        """Return how many executions have gone since this node's agent started."""
        return {"dropped": self.dropped}

    async def _end_abandoned(self) -> bool:
        before_ms = self._access.clock.unix_ms() - _UNKNOWN_FOR_MS

        def find(connection: Connection) -> list[Execution]:
            return queries.abandoned_executions(connection, before_ms=before_ms, limit=_PAGE)

        abandoned = await self._access.read(find)
        if abandoned:
            await self._access.write(lambda inside: self._end_all(inside, abandoned))
            log.warning("executions of removed nodes ended", count=len(abandoned))
        return bool(abandoned)

    def _end_all(self, inside: Transaction, abandoned: Sequence[Execution]) -> None:
        for one in abandoned:
            self._end(inside, one)

    def _end(self, inside: Transaction, execution: Execution) -> None:
        reason = f"its node {execution.node} was removed from the cluster"
        if execution.vendor_type in self._taken_over:
            reason += f"; execution {take_over(inside, execution)} goes on with it"
        end_execution(inside, execution.id, ERROR, {"status_message": reason}, node=execution.node)


def take_over(transaction: Transaction, execution: Execution) -> int:
    """Begin an execution that does what is left of another node's, and return its id."""
    left = queries.unfinished_tasks(transaction.connection, execution.node, execution.id)
    tasks = [NewTask(fields=_inherited(task.fields), lane=str(task.fields.get("lane", ""))) for task in left]
    return begin(
        transaction,
        vendor_type=execution.vendor_type,
        vendor_id=execution.vendor_id,
        trigger=execution.trigger,
        tasks=None if execution.fields.get("planning") else tasks,
        fields=_inherited(execution.fields),
    )


def drop_executions(transaction: Transaction, numbers: Sequence[int]) -> int:
    """Delete these executions of this node with their tasks, and return how many; very many tasks take several calls."""
    count = 0
    for number in numbers:
        tasks = queries.task_numbers(transaction.connection, transaction.node, number, _TASKS_PAGE)
        for task in tasks:
            transaction.delete(TASK, owned_key(transaction.node, task))
        if len(tasks) == _TASKS_PAGE:
            break
        count += transaction.delete(EXECUTION, owned_key(transaction.node, number))
    return count


def _inherited(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name not in _OWN_FIELDS}
