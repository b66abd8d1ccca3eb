"""Executions and tasks as Harbor's newer operations show them, the same for whatever was executed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from twinhull.harbor.access import Access
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import listed
from twinhull.harbor.views import time_of
from twinhull.kit.errors import NotFound
from twinhull.metadata.accounts import Snapshot
from twinhull.metadata.executions import Execution, Task, find_execution, find_task, list_executions, list_tasks

_COUNTED: Final = ("success", "error", "pending", "running", "scheduled", "stopped")


async def execution_of(
    access: Access, number: int, *, vendors: Sequence[str], vendor_id: int | None = None, missing: str = ""
) -> Execution:
    """Return an execution of one of these vendors, and of that policy if one is given, or raise NotFound."""

    def read(connection: Snapshot) -> Execution:
        found = find_execution(connection, number)
        if found is None or found.vendor_type not in vendors or vendor_id not in (None, found.vendor_id):
            raise NotFound(missing or f"execution {number} not found")
        return found

    return await access.read(read)


class ExecutionTasks:
    """The tasks of one execution."""

    def __init__(self, access: Access, execution: Execution) -> None:
        """Take what reads, and the execution, which the caller may see."""
        self._access = access
        self._execution = execution

    async def list(self, request: Request) -> Response:
        """Return its tasks, the newest first."""
        query = read_query(request)
        found, total = await self._access.read(
            lambda connection: list_tasks(connection, execution=self._execution.id, wanted=query.wanted, part=query.part)
        )
        return listed(request, [task_view(one) for one in found], total=total, paging=query.paging)

    async def log(self, number: int, *, missing: str = "") -> Response:
        """Return what a task wrote, as text; raises NotFound."""

        def read(connection: Snapshot) -> Task:
            found = find_task(connection, number)
            if found is None or found.execution_id != self._execution.id:
                raise NotFound(missing or f"task {number} not found in execution {self._execution.id}")
            return found

        return PlainTextResponse(str((await self._access.read(read)).fields.get("log", "")))


async def list_of_policy(access: Access, request: Request, *, vendor: str, vendor_id: int) -> Response:
    """Return a policy's executions, the newest first."""
    query = read_query(request)
    found, total = await access.read(
        lambda connection: list_executions(
            connection, vendor_type=vendor, vendor_id=vendor_id, wanted=query.wanted, part=query.part
        )
    )
    return listed(request, [execution_view(one) for one in found], total=total, paging=query.paging)


def job_id_of(one: Task) -> str:
    """Return the name by which the job service's dashboard knows a task."""
    return f"{one.node}-{one.id}"


def execution_view(one: Execution) -> dict[str, Any]:
    """Return an execution."""
    counted = one.fields.get("metrics") or {}
    return {
        "end_time": time_of(one.fields.get("ended_ms")),
        "extra_attrs": one.fields.get("extra_attrs") or {},
        "id": one.id,
        "metrics": {f"{name}_task_count": counted[name] for name in _COUNTED if counted.get(name)},
        "start_time": time_of(one.created_ms),
        "status": one.status,
        "status_message": one.fields.get("status_message", ""),
        "trigger": one.trigger,
        "vendor_id": one.vendor_id,
        "vendor_type": one.vendor_type,
    }


def task_view(one: Task) -> dict[str, Any]:
    """Return a task."""
    return {
        "creation_time": time_of(one.created_ms),
        "end_time": time_of(one.fields.get("ended_ms")),
        "execution_id": one.execution_id,
        "extra_attrs": one.fields.get("extra_attrs") or {},
        "id": one.id,
        "run_count": one.fields.get("run_count", 0),
        "start_time": time_of(one.created_ms),
        "status": one.status,
        "status_message": one.fields.get("status_message", ""),
        "update_time": time_of(one.updated_ms),
    }
