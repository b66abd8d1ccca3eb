"""Executions of replication policies at Harbor's paths: /replication/executions, in the words of the older operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.documents import Documents
from twinhull.catalog.replication import VENDOR, begin_replication
from twinhull.harbor.access import Access, path_id
from twinhull.harbor.executions import ExecutionTasks, execution_of, job_id_of
from twinhull.harbor.queries import read_query
from twinhull.harbor.replication import policy_of
from twinhull.harbor.requests import answer, listed, located, nothing, on, query_int, read_body
from twinhull.harbor.views import time_of
from twinhull.jobs.executions import MANUAL, ask_to_stop
from twinhull.metadata.executions import UNFINISHED, Execution, Task, list_executions, list_tasks
from twinhull.metadata.filtering import AnyOf, Condition, Exact, plain
from twinhull.metadata.transaction import Transaction

_STATUSES: Final = {"Success": "Succeed", "Error": "Failed", "Stopped": "Stopped"}
_IN_PROGRESS: Final = "InProgress"
_TRIGGERS: Final = {"MANUAL": "manual", "SCHEDULE": "scheduled", "EVENT": "event_based"}


class _StartBody(msgspec.Struct):
    policy_id: int = 0


class ReplicatingApi:
    """Handlers for executions."""

    def __init__(self, *, access: Access, documents: Documents) -> None:
        """Take what every handler needs, and what writes executions."""
        self._access = access
        self._documents = documents

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        root = "/replication/executions"
        return [
            on(root, get=self.list, post=self.start),
            on(root + "/{id}", get=self.get, put=self.stop),
            on(root + "/{id}/tasks", get=self.tasks),
            on(root + "/{id}/tasks/{task_id}/log", get=self.task_log),
        ]

    async def list(self, request: Request) -> Response:
        """Return the executions, of one policy or of all, the newest first."""
        await self._access.admin(request)
        query = read_query(request)
        policy = query_int(request, "policy_id", 0)
        conditions = _conditions(request, {"status": _STATUSES, "trigger": _TRIGGERS})
        wanted = replace(query.wanted, conditions={**query.wanted.conditions, **conditions})
        found, total = await self._access.read(
            lambda connection: list_executions(
                connection, vendor_type=VENDOR, vendor_id=policy or None, wanted=wanted, part=query.part
            )
        )
        return listed(request, [_view(one) for one in found], total=total, paging=query.paging)

    async def start(self, request: Request) -> Response:
        """Begin to carry a policy out, on this node."""
        await self._access.admin(request)
        body = await read_body(request, _StartBody)

        def start(transaction: Transaction) -> int:
            policy = policy_of(transaction.connection, body.policy_id, "the replication policy {} not found")
            return begin_replication(transaction, policy, MANUAL)

        made = await self._documents.write(start)
        return nothing(201, {**located(request, made.id), **await self._access.settled(request, made.seq)})

    async def get(self, request: Request) -> Response:
        """Return an execution."""
        return answer(_view(await self._execution(request, "replication execution {} not found")))

    async def stop(self, request: Request) -> Response:
        """Ask the node that an execution belongs to to stop it; one that has ended stays as it is."""
        execution = await self._execution(request, "execution {} not found")

        def stop(transaction: Transaction) -> int:
            ask_to_stop(transaction, execution.node, execution.id)
            return execution.id

        asked = await self._documents.write(stop)
        return nothing(headers=await self._access.settled(request, asked.seq))

    async def tasks(self, request: Request) -> Response:
        """Return an execution's tasks; of one that is unknown there are none, as in Harbor."""
        await self._access.admin(request)
        number = path_id(request, "id")
        query = read_query(request)
        wanted = replace(query.wanted, conditions=_conditions(request, {"status": _STATUSES}))
        found, total = await self._access.read(
            lambda connection: list_tasks(connection, execution=number, wanted=wanted, part=query.part)
        )
        kind = request.query_params.get("resource_type", "")
        shown = [_task_view(one) for one in found if one.vendor_type == VENDOR]
        if kind:
            shown = [one for one in shown if one["resource_type"] == kind]
            total = len(shown)
        return listed(request, shown, total=total, paging=query.paging)

    async def task_log(self, request: Request) -> Response:
        """Return what a task wrote, as text."""
        execution = await self._execution(request, "replication execution {} not found")
        number = path_id(request, "task_id")
        missing = f"replication task {number} not found"
        return await ExecutionTasks(self._access, execution).log(number, missing=missing)

    async def _execution(self, request: Request, missing: str) -> Execution:
        await self._access.admin(request)
        number = path_id(request, "id")
        return await execution_of(self._access, number, vendors=(VENDOR,), missing=missing.format(number))


def _conditions(request: Request, words: Mapping[str, Mapping[str, str]]) -> dict[str, Condition]:
    """Return what the query asks of status and trigger, in the words in which they are kept."""
    found: dict[str, Condition] = {}
    for key, kept in words.items():
        text = request.query_params.get(key, "")
        if text == _IN_PROGRESS and key == "status":
            found[plain(key)] = AnyOf(UNFINISHED)
        elif text:
            found[plain(key)] = Exact(next((ours for ours, theirs in kept.items() if theirs == text), text))
    return found


def _view(one: Execution) -> dict[str, Any]:
    counted = one.fields.get("metrics") or {}
    return {
        "end_time": time_of(one.fields.get("ended_ms")),
        "failed": counted.get("error", 0),
        "id": one.id,
        "in_progress": counted.get("running", 0),
        "policy_id": one.vendor_id,
        "start_time": time_of(one.created_ms),
        "status": _STATUSES.get(one.status, _IN_PROGRESS),
        "status_text": one.fields.get("status_message", ""),
        "stopped": counted.get("stopped", 0),
        "succeed": counted.get("success", 0),
        "total": sum(counted.values()),
        "trigger": _TRIGGERS.get(one.trigger, one.trigger.lower()),
    }


def _task_view(one: Task) -> dict[str, Any]:
    shown = {name: one.fields.get(name, "") for name in ("operation", "resource_type", "src_resource", "dst_resource")}
    return shown | {
        "id": one.id,
        "execution_id": one.execution_id,
        "status": _STATUSES.get(one.status, _IN_PROGRESS),
        "job_id": job_id_of(one),
        "start_time": time_of(one.created_ms),
        "end_time": time_of(one.fields.get("ended_ms")),
    }
