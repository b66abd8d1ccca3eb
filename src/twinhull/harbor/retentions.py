"""Retention policies, their executions and tasks at Harbor's paths: /retentions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.documents import Documents, change_document, create_document, delete_document
from twinhull.catalog.projects import RETENTION_KEY, set_shown
from twinhull.catalog.retention import TEMPLATES, Policy, require_policy
from twinhull.harbor.access import Access, path_id
from twinhull.harbor.executions import ExecutionTasks, execution_of, job_id_of
from twinhull.harbor.requests import answer, listed, located, nothing, on, read_body, read_paging
from twinhull.harbor.views import time_of
from twinhull.jobs.executions import note_not_run
from twinhull.kit.errors import Invalid, NotFound
from twinhull.metadata.accounts import Project, Snapshot, find_project, find_project_by_id
from twinhull.metadata.documents import Document, find, find_by_id
from twinhull.metadata.executions import Execution, Task, list_executions, list_tasks
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import RETENTION, document_key
from twinhull.records.merge import Value

VENDOR: Final = "RETENTION"
# Said of each execution: nothing is pretended to have been looked at.
NOT_RUN: Final = "this release keeps retention policies and does not carry them out"
_RESOURCE: Final = "tag-retention"
_SELECTORS: Final = {
    "scope_selectors": [{"display_text": "Repositories", "kind": "doublestar", "decorations": ["repoMatches", "repoExcludes"]}],
    "tag_selectors": [{"display_text": "Tags", "kind": "doublestar", "decorations": ["matches", "excludes"]}],
}


class _StartBody(msgspec.Struct):
    dry_run: bool = False


class _ActionBody(msgspec.Struct):
    action: str = ""


class RetentionsApi:
    """Handlers for retention."""

    def __init__(self, *, access: Access, documents: Documents) -> None:
        """Take what every handler needs, and what writes policies."""
        self._access = access
        self._documents = documents

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        executions = "/retentions/{id}/executions"
        return [
            on("/retentions/metadatas", get=self.metadatas),
            on("/retentions", post=self.create),
            on("/retentions/{id}", get=self.get, put=self.change, delete=self.delete),
            on(executions, get=self.executions, post=self.start),
            on(executions + "/{eid}", patch=self.operate),
            on(executions + "/{eid}/tasks", get=self.tasks),
            on(executions + "/{eid}/tasks/{tid}", get=self.task_log),
        ]

    async def metadatas(self, request: Request) -> Response:
        """Return what a policy can be made of."""
        await self._access.logged_in(request)
        templates = [
            {
                "rule_template": name,
                "display_text": text,
                "action": "retain",
                "params": [{"type": "int", "unit": unit, "required": True}] if unit is not None else [],
            }
            for name, (text, unit) in TEMPLATES.items()
        ]
        return answer({"templates": templates, **_SELECTORS})

    async def create(self, request: Request) -> Response:
        """Make a project's policy; there is one at most."""
        await self._access.logged_in(request)
        policy = await read_body(request, Policy)
        project = await self._project_for(request, policy, "create")

        def create(transaction: Transaction) -> int:
            held = find(transaction.connection, RETENTION, document_key(project.name, ""))
            if held is not None:
                raise Invalid(f"bad request: project {project.id} already has retention policy {held.id}")
            number = create_document(transaction, RETENTION, _fields(policy), project=project.name)
            set_shown(transaction, project.name, RETENTION_KEY, str(number))
            return number

        made = await self._documents.write(create)
        return nothing(201, {**located(request, made.id), **await self._access.settled(request, made.seq)})

    async def get(self, request: Request) -> Response:
        """Return a policy."""
        policy, project = await self._policy(request, "read")
        fields = policy.fields
        scope = {"level": "project", "ref": project.id}
        shown = {name: fields.get(name) for name in ("algorithm", "rules", "trigger")}
        return answer({"id": policy.id, "scope": scope, **shown})

    async def change(self, request: Request) -> Response:
        """Change a policy."""
        policy, project = await self._policy(request, "update")
        body = await read_body(request, Policy)
        if (await self._project_for(request, body, "update")).name != project.name:
            raise NotFound(f"the retention policy id {policy.id} does not match")
        fields = _fields(body)
        changed = await self._documents.write(lambda transaction: change_document(transaction, RETENTION, policy.id, fields))
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def delete(self, request: Request) -> Response:
        """Delete a policy."""
        policy, project = await self._policy(request, "delete")

        def delete(transaction: Transaction) -> int:
            set_shown(transaction, project.name, RETENTION_KEY, None)
            return delete_document(transaction, RETENTION, policy.id)

        deleted = await self._documents.write(delete)
        return nothing(headers=await self._access.settled(request, deleted.seq))

    # -- executions ------------------------------------------------------------------------------------------------

    async def start(self, request: Request) -> Response:
        """Write down that an execution was asked for, and that it was not carried out."""
        policy, _ = await self._policy(request, "update", unknown=Invalid)
        body = await read_body(request, _StartBody)

        def start(transaction: Transaction) -> int:
            fields = {"dry_run": body.dry_run}
            return note_not_run(transaction, vendor_type=VENDOR, vendor_id=policy.id, reason=NOT_RUN, fields=fields)

        made = await self._documents.write(start)
        return nothing(201, {**located(request, made.id), **await self._access.settled(request, made.seq)})

    async def executions(self, request: Request) -> Response:
        """Return a policy's executions, the newest first."""
        paging = read_paging(request)
        policy, _ = await self._policy(request, "list", unknown=Invalid)
        found, total = await self._access.read(
            lambda connection: list_executions(connection, vendor_type=VENDOR, vendor_id=policy.id, part=paging.part)
        )
        return listed(request, [_execution_view(one) for one in found], total=total, paging=paging)

    async def operate(self, request: Request) -> Response:
        """Stop an execution; each has ended already."""
        body = await read_body(request, _ActionBody)
        if body.action != "stop":
            raise Invalid("bad request: action should be 'stop'")
        await self._execution(request, "update")
        return nothing()

    async def tasks(self, request: Request) -> Response:
        """Return an execution's tasks: one for each repository; none of one that is not there, as in Harbor."""
        paging = read_paging(request)
        try:
            execution = await self._execution(request, "list")
        except NotFound:
            return listed(request, [], total=0, paging=paging)
        found, total = await self._access.read(
            lambda connection: list_tasks(connection, execution=execution.id, part=paging.part)
        )
        return listed(request, [_task_view(one) for one in found], total=total, paging=paging)

    async def task_log(self, request: Request) -> Response:
        """Return what a task wrote, as text."""
        execution = await self._execution(request, "read")
        return await ExecutionTasks(self._access, execution).log(path_id(request, "tid"))

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _policy(
        self, request: Request, action: str, *, unknown: type[Invalid] | type[NotFound] = NotFound
    ) -> tuple[Document, Project]:
        caller = await self._access.logged_in(request)
        number = path_id(request, "id")

        def read(connection: Snapshot) -> tuple[Document, Project]:
            policy = find_by_id(connection, RETENTION, number)
            project = find_project(connection, policy.project) if policy is not None else None
            if policy is None or project is None:
                raise unknown(f"bad request: no such Retention policy with id {number}")
            return policy, project

        policy, project = await self._access.read(read)
        await self._access.require(caller, project, _RESOURCE, action)
        return policy, project

    async def _project_for(self, request: Request, policy: Policy, action: str) -> Project:
        scope = require_policy(policy)
        caller = await self._access.caller(request)
        project = await self._access.read(lambda connection: find_project_by_id(connection, scope.ref))
        if project is None:
            raise Invalid(f"bad request: invalid Project id {scope.ref}")
        await self._access.require(caller, project, _RESOURCE, action)
        return project

    async def _execution(self, request: Request, action: str) -> Execution:
        policy, project = await self._policy(request, action, unknown=Invalid)
        number = path_id(request, "eid")
        missing = f"project: {project.id}, execution id {number} not found"
        return await execution_of(self._access, number, vendors=(VENDOR,), vendor_id=policy.id, missing=missing)


def _fields(policy: Policy) -> Mapping[str, Value]:
    fields: dict[str, Value] = {
        "algorithm": policy.algorithm or "or",
        "rules": msgspec.to_builtins(policy.rules),
        "trigger": msgspec.to_builtins(policy.trigger),
    }
    return fields


def _execution_view(one: Execution) -> dict[str, Any]:
    return {
        "dry_run": bool(one.fields.get("dry_run")),
        "end_time": time_of(one.fields.get("ended_ms")),
        "id": one.id,
        "policy_id": one.vendor_id,
        "start_time": time_of(one.created_ms),
        "status": one.status,
        "trigger": one.trigger,
    }


def _task_view(one: Task) -> dict[str, Any]:
    return {
        "id": one.id,
        "execution_id": one.execution_id,
        "repository": one.fields.get("repository", ""),
        "job_id": job_id_of(one),
        "status": one.status,
        "status_code": one.fields.get("status_code", 0),
        "start_time": time_of(one.created_ms),
        "end_time": time_of(one.fields.get("ended_ms")),
        "total": one.fields.get("total", 0),
        "retained": one.fields.get("retained", 0),
    }
