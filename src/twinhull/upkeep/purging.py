"""The job that takes old audit records away, on all nodes: they are deleted like anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from twinhull.catalog.purges import PARAMETERS, VENDOR, is_purged
from twinhull.catalog.schedules import PURGE_AUDIT, find_schedule
from twinhull.jobs.access import Access
from twinhull.jobs.job import Job, NewTask, Retry, TaskLog
from twinhull.kit.errors import Futile
from twinhull.metadata.audit import records_before
from twinhull.metadata.executions import Execution, Task
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import AUDIT, owned_key
from twinhull.records.merge import Value

_HOUR_MS: Final = 3600 * 1000
_PAGE: Final = 500
# Other writers get their turn in between.
_BETWEEN_PAGES_S: Final = 0.05


class Purging(Job):
    """The job. It begins again from the oldest record after a restart."""

    vendor_type = VENDOR
    retry = Retry(first_s=10.0, for_s=3600.0)
    is_taken_over = True

    def __init__(self, access: Access) -> None:
        """Take where the records are."""
        self._access = access

    async def plan(self, execution: Execution, log: TaskLog) -> Sequence[NewTask]:
        """Return the one task, which is told what the execution was, or what the schedule says."""
        del log
        parameters = execution.fields.get(PARAMETERS)
        if parameters is None:
            schedule = await self._access.read(lambda connection: find_schedule(connection, PURGE_AUDIT))
            if schedule is None:
                raise Futile("the schedule was taken away")
            parameters = dict(schedule.parameters)
        return [NewTask(fields={PARAMETERS: parameters})]

    async def run(self, execution: Execution, task: Task, log: TaskLog) -> Mapping[str, Value]:
        """Take the records away, page by page; with `dry_run` count them only."""
        parameters: Mapping[str, Any] = task.fields[PARAMETERS]
        hours = int(parameters["audit_retention_hour"])
        is_dry = bool(parameters.get("dry_run"))
        # As old as they were when the purge began: what is written meanwhile is none of its business.
        before_ms = execution.created_ms - hours * _HOUR_MS
        count, after = 0, (-1, -1, "")
        while page := await self._access.read(partial(records_before, at_ms=before_ms, after=after, limit=_PAGE)):
            keys = [owned_key(one.node, one.id) for one in page if is_purged(parameters, one.operation, one.resource_type)]
            if keys and not is_dry:
                await self._access.write(partial(_delete, keys))
            count += len(keys)
            after = page[-1].place
            await asyncio.sleep(_BETWEEN_PAGES_S)
        log.write(f"{count} audit records older than {hours} hours {'would be' if is_dry else 'are'} purged")
        return {"extra_attrs": {"purged": count, "dry_run": is_dry}}


def _delete(keys: Sequence[str], inside: Transaction) -> None:
    for key in keys:
        inside.delete(AUDIT, key)
