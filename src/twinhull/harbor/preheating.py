"""A project's preheat policies and their executions at Harbor's paths: /projects/{project}/preheat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.documents import Documents, change_document, create_document, rename_document
from twinhull.catalog.preheat import Policy, require_policy
from twinhull.harbor.access import Access, path_id
from twinhull.harbor.executions import ExecutionTasks, execution_of, execution_view, list_of_policy
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import answer, listed, located, nothing, on, read_body
from twinhull.jobs.executions import note_not_run
from twinhull.kit.clock import rfc3339
from twinhull.kit.errors import Conflict, Invalid, NotFound
from twinhull.metadata.accounts import Project, Snapshot
from twinhull.metadata.documents import Document, find, find_by_id, find_by_ids, list_documents
from twinhull.metadata.executions import Execution
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import PREHEAT_INSTANCE, PREHEAT_POLICY, document_key
from twinhull.records.merge import Value

VENDOR: Final = "P2P_PREHEAT"
# Said of each execution: nothing is pretended to have been sent.
NOT_RUN: Final = "this release keeps preheat policies and does not carry them out"
_RESOURCE: Final = "preheat-policy"
_FIELDS: Final = ("description", "filters", "trigger", "enabled", "scope", "extra_attrs")


class _OperateBody(msgspec.Struct):
    status: str = ""


class PreheatingApi:
    """Handlers for policies."""

    def __init__(self, *, access: Access, documents: Documents) -> None:
        """Take what every handler needs, and what writes policies."""
        self._access = access
        self._documents = documents

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        root = "/projects/{project_name_or_id}/preheat"
        policy = root + "/policies/{preheat_policy_name}"
        execution = policy + "/executions/{execution_id}"
        return [
            on(root + "/providers", get=self.providers),
            on(root + "/policies", get=self.list, post=self.create),
            on(policy, get=self.get, post=self.start, put=self.change, delete=self.delete),
            on(policy + "/executions", get=self.executions),
            on(execution, get=self.execution, patch=self.stop),
            on(execution + "/tasks", get=self.tasks),
            on(execution + "/tasks/{task_id}/logs", get=self.task_log),
        ]

    async def providers(self, request: Request) -> Response:
        """Return the instances that a project's policies can use."""
        await self._access.project(request, _RESOURCE, "read")
        found, _ = await self._access.read(lambda connection: list_documents(connection, PREHEAT_INSTANCE, project=""))
        shown = [
            {
                "id": one.id,
                "provider": f"{one.fields.get('vendor', '')} {one.name}-{one.fields.get('endpoint', '')}",
                "enabled": bool(one.fields.get("enabled")),
                "default": bool(one.fields.get("default")),
            }
            for one in found
        ]
        return answer(shown)

    async def list(self, request: Request) -> Response:
        """Return a project's policies, by name."""
        _, project = await self._access.project(request, _RESOURCE, "list")
        query = read_query(request)

        def read(connection: Snapshot) -> tuple[Sequence[dict[str, Any]], int]:
            found, total = list_documents(
                connection, PREHEAT_POLICY, project=project.name, wanted=query.wanted, part=query.part
            )
            return _views(connection, project, found), total

        shown, total = await self._access.read(read)
        return listed(request, shown, total=total, paging=query.paging)

    async def create(self, request: Request) -> Response:
        """Make a policy."""
        _, project = await self._access.project(request, _RESOURCE, "create")
        body = await read_body(request, Policy)
        require_policy(body)

        def create(transaction: Transaction) -> int:
            try:
                fields = _fields(transaction, body)
                return create_document(transaction, PREHEAT_POLICY, fields, project=project.name, name=body.name)
            except Conflict:
                raise Conflict(f"preheat policy {body.name} already exists") from None

        made = await self._documents.write(create)
        return nothing(201, {**located(request, body.name), **await self._access.settled(request, made.seq)})

    async def get(self, request: Request) -> Response:
        """Return a policy."""
        project, policy = await self._policy(request, "read")
        return answer((await self._access.read(lambda connection: _views(connection, project, [policy])))[0])

    async def change(self, request: Request) -> Response:
        """Change a policy."""
        _, policy = await self._policy(request, "update")
        body = await read_body(request, Policy)
        require_policy(body)

        def change(transaction: Transaction) -> int:
            rename_document(transaction, PREHEAT_POLICY, policy.id, body.name)
            return change_document(transaction, PREHEAT_POLICY, policy.id, _fields(transaction, body))

        changed = await self._documents.write(change)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def delete(self, request: Request) -> Response:
        """Delete a policy."""
        _, policy = await self._policy(request, "delete")
        deleted = await self._documents.delete(PREHEAT_POLICY, policy.id)
        return nothing(headers=await self._access.settled(request, deleted.seq))

    # -- executions ------------------------------------------------------------------------------------------------

    async def start(self, request: Request) -> Response:
        """Write down that an execution was asked for, and that it was not carried out."""
        _, policy = await self._policy(request, "update")

        made = await self._documents.write(
            lambda inside: note_not_run(inside, vendor_type=VENDOR, vendor_id=policy.id, reason=NOT_RUN)
        )
        location = located(request, "executions")["Location"]
        headers = {"Location": f"{location}/{made.id}", **await self._access.settled(request, made.seq)}
        return nothing(201, headers)

    async def executions(self, request: Request) -> Response:
        """Return a policy's executions, the newest first."""
        _, policy = await self._policy(request, "read")
        return await list_of_policy(self._access, request, vendor=VENDOR, vendor_id=policy.id)

    async def execution(self, request: Request) -> Response:
        """Return an execution."""
        return answer(execution_view(await self._execution(request, "read")))

    async def stop(self, request: Request) -> Response:
        """Stop an execution; each has ended already."""
        body = await read_body(request, _OperateBody)
        if body.status != "Stopped":
            raise Invalid(f"param status invalid: {body.status[:64]!r}")
        await self._execution(request, "update")
        return nothing()

    async def tasks(self, request: Request) -> Response:
        """Return an execution's tasks."""
        return await ExecutionTasks(self._access, await self._execution(request, "read")).list(request)

    async def task_log(self, request: Request) -> Response:
        """Return what a task wrote, as text."""
        execution = await self._execution(request, "read")
        return await ExecutionTasks(self._access, execution).log(path_id(request, "task_id"))

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _policy(self, request: Request, action: str) -> tuple[Project, Document]:
        _, project = await self._access.project(request, _RESOURCE, action)
        name = request.path_params["preheat_policy_name"]
        key = document_key(project.name, name)
        found = await self._access.read(lambda connection: find(connection, PREHEAT_POLICY, key))
        if found is None:
            raise NotFound(f"preheat policy {name[:200]} not found")
        return project, found

    async def _execution(self, request: Request, action: str) -> Execution:
        _, policy = await self._policy(request, action)
        number = path_id(request, "execution_id")
        return await execution_of(self._access, number, vendors=(VENDOR,), vendor_id=policy.id)


def _fields(transaction: Transaction, policy: Policy) -> dict[str, Value]:
    instance = find_by_id(transaction.connection, PREHEAT_INSTANCE, policy.provider_id)
    if instance is None:
        raise NotFound(f"instance {policy.provider_id} not found")
    return {**{name: getattr(policy, name) for name in _FIELDS}, "provider_id": instance.id}


def _views(connection: Snapshot, project: Project, policies: Sequence[Document]) -> Sequence[dict[str, Any]]:
    instances = find_by_ids(connection, PREHEAT_INSTANCE, {int(one.fields.get("provider_id", 0)) for one in policies})
    return [_view(one, project, instances.get(int(one.fields.get("provider_id", 0)))) for one in policies]


def _view(policy: Document, project: Project, instance: Document | None) -> dict[str, Any]:
    fields = policy.fields
    return {
        "id": policy.id,
        "name": policy.name,
        "project_id": project.id,
        "provider_id": fields.get("provider_id", 0),
        "provider_name": instance.name if instance is not None else "",
        **{name: fields.get(name, "") for name in ("description", "filters", "trigger", "scope", "extra_attrs")},
        "enabled": bool(fields.get("enabled")),
        "creation_time": rfc3339(policy.created_ms),
        "update_time": rfc3339(policy.updated_ms),
    }
