"""Webhook policies at Harbor's paths: /projects/{project}/webhook. What is sent by them is told by their executions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.auth.sealing import Sealer
from twinhull.catalog.documents import Documents, change_document, rename_document
from twinhull.catalog.events import VENDOR, Entrance, event_data, last_told, payload_of, trial_event
from twinhull.catalog.payloads import payload_text
from twinhull.catalog.webhooks import EVENT_TYPES, HTTP, PAYLOAD_FORMATS, TARGET_TYPES, Courier, Policy, Target, require_policy
from twinhull.harbor.access import Access, is_id, legacy_id, path_id
from twinhull.harbor.executions import ExecutionTasks, execution_of, list_of_policy
from twinhull.harbor.queries import NEWEST_FIRST, read_query
from twinhull.harbor.requests import answer, listed, located, nothing, on, on_older, read_body
from twinhull.harbor.views import time_of
from twinhull.kit.clock import Clock, rfc3339
from twinhull.kit.errors import Conflict, Invalid, NotFound, Unavailable
from twinhull.metadata.accounts import Project, Snapshot
from twinhull.metadata.documents import Document, find_by_id, list_documents
from twinhull.metadata.executions import Execution, list_executions
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import WEBHOOK
from twinhull.records.merge import Value

_RESOURCE: Final = "notification-policy"
# The older operations' words for how a job is.
_OLD_STATUSES: Final = {"Success": "finished", "Error": "error", "Stopped": "stopped", "Running": "running"}


class WebhooksApi:
    """Handlers for webhook policies."""

    def __init__(
        self, *, access: Access, documents: Documents, sealer: Sealer, courier: Courier, entrance: Entrance, clock: Clock
    ) -> None:
        """Take what every handler needs, what writes policies, what keeps their headers from being read, and what sends.

        `entrance` is where receivers are told that things are.
        """
        self._courier = courier
        self._entrance = entrance
        self._clock = clock
        self._access = access
        self._documents = documents
        self._sealer = sealer

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        root = "/projects/{project_name_or_id}/webhook"
        policy = root + "/policies/{webhook_policy_id}"
        return [
            on_older(root + "/events", get=self.events),
            on_older(root + "/jobs", get=self.jobs),
            on_older(root + "/lasttrigger", get=self.last_triggers),
            on_older(root + "/policies", get=self.list, post=self.create),
            on(root + "/policies/test", post=self.test),
            on(policy, get=self.get, put=self.change, delete=self.delete),
            on(policy + "/executions", get=self.executions),
            on(policy + "/executions/{execution_id}/tasks", get=self.tasks),
            on(policy + "/executions/{execution_id}/tasks/{task_id}/log", get=self.task_log),
        ]

    async def events(self, request: Request) -> Response:
        """Return which events can be told, and how."""
        await self._access.project(request, _RESOURCE, "list")
        formats = [{"notify_type": HTTP, "formats": PAYLOAD_FORMATS}]
        return answer({"event_type": EVENT_TYPES, "notify_type": TARGET_TYPES, "payload_formats": formats})

    async def list(self, request: Request) -> Response:
        """Return a project's policies, the newest first; without headers for those who may list them only."""
        caller, project = await self._access.project(request, _RESOURCE, "list")
        opened = await self._access.may(caller, project.name, _RESOURCE, "read")
        query = read_query(request, order=NEWEST_FIRST)
        found, total = await self._access.read(
            lambda connection: list_documents(connection, WEBHOOK, project=project.name, wanted=query.wanted, part=query.part)
        )
        return listed(request, [self._view(one, project, opened=opened) for one in found], total=total, paging=query.paging)

    async def create(self, request: Request) -> Response:
        """Make a policy."""
        caller, project = await self._access.project(request, _RESOURCE, "create")
        body = await read_body(request, Policy, legacy=True)
        if body.id:
            raise Invalid(f"cannot accept policy creating request with ID: {body.id}")
        require_policy(body)
        fields = {**self._fields(body), "creator": caller.name}
        try:
            made = await self._documents.create(WEBHOOK, fields, project=project.name, name=body.name)
        except Conflict:
            raise Conflict(f"webhook policy {body.name} already exists in this project") from None
        return nothing(201, {**located(request, made.id), **await self._access.settled(request, made.seq)})

    async def get(self, request: Request) -> Response:
        """Return a policy, with its headers: whoever may read it may set them as well."""
        project, policy = await self._policy(request, "read")
        return answer(self._view(policy, project))

    async def change(self, request: Request) -> Response:
        """Change a policy."""
        _, policy = await self._policy(request, "update")
        body = await read_body(request, Policy, legacy=True)
        require_policy(body)
        fields = self._fields(body, policy)

        def change(transaction: Transaction) -> int:
            rename_document(transaction, WEBHOOK, policy.id, body.name)
            return change_document(transaction, WEBHOOK, policy.id, fields)

        changed = await self._documents.write(change)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def delete(self, request: Request) -> Response:
        """Delete a policy."""
        _, policy = await self._policy(request, "delete")
        deleted = await self._documents.delete(WEBHOOK, policy.id)
        return nothing(headers=await self._access.settled(request, deleted.seq))

    async def test(self, request: Request) -> Response:
        """Send an event that never happened to each target of a policy that need not be kept yet."""
        caller, project = await self._access.project(request, _RESOURCE, "create")
        policy = await read_body(request, Policy, legacy=True)
        require_policy(policy)
        event = trial_event(
            policy.event_types[0], project.name, self._entrance, operator=caller.name, now_ms=self._clock.unix_ms()
        )
        data = await self._access.read(lambda connection: event_data(connection, event, project))
        payload = payload_of(event, data)
        for target in policy.targets:
            body = payload_text(target, payload, source=f"/projects/{project.id}/webhook/policies/0")
            try:
                await self._courier.send(target, header=target.auth_header, body=body, event_id=payload.event_id)
            except Unavailable as error:
                raise Invalid(f"the webhook could not be sent: {error}") from error
        return nothing()

    # -- what was sent ---------------------------------------------------------------------------------------------

    async def last_triggers(self, request: Request) -> Response:
        """Return, for each policy and event, when it was sent last."""
        _, project = await self._access.project(request, _RESOURCE, "list")

        def read(connection: Snapshot) -> list[tuple[Document, dict[str, int]]]:
            found, _ = list_documents(connection, WEBHOOK, project=project.name)
            told = last_told(connection, [one.id for one in found])
            return [(one, told.get(one.id, {})) for one in found]

        shown = [
            {
                "policy_name": one.name,
                "event_type": event,
                "enabled": bool(one.fields.get("enabled")),
                "creation_time": rfc3339(one.created_ms),
                "last_trigger_time": time_of(told.get(event)),
            }
            for one, told in await self._access.read(read)
            for event in one.fields.get("event_types", [])
        ]
        return answer(shown)

    async def jobs(self, request: Request) -> Response:
        """Return what was sent by a policy, in the words of the older operation."""
        _, project = await self._access.project(request, _RESOURCE, "list")
        text = request.query_params.get("policy_id", "")
        if not is_id(text):
            raise Invalid(f"invalid policy_id: {text[:64]}")
        try:
            await self._access.read(lambda connection: _policy_of(connection, project, int(text)))
        except NotFound as error:
            raise Invalid(f"policy {text} not found") from error
        query = read_query(request)
        found, total = await self._access.read(
            lambda connection: list_executions(
                connection, vendor_type=VENDOR, vendor_id=int(text), wanted=query.wanted, part=query.part
            )
        )
        return listed(request, [_job_view(one) for one in found], total=total, paging=query.paging)

    async def executions(self, request: Request) -> Response:
        """Return what was sent by a policy, the newest first."""
        _, policy = await self._policy(request, "read")
        return await list_of_policy(self._access, request, vendor=VENDOR, vendor_id=policy.id)

    async def tasks(self, request: Request) -> Response:
        """Return the tasks of an execution."""
        return await ExecutionTasks(self._access, await self._execution(request)).list(request)

    async def task_log(self, request: Request) -> Response:
        """Return what a task wrote, as text."""
        execution = await self._execution(request)
        return await ExecutionTasks(self._access, execution).log(path_id(request, "task_id"))

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _policy(self, request: Request, action: str) -> tuple[Project, Document]:
        _, project = await self._access.project(request, _RESOURCE, action)
        number = legacy_id(request, "webhook_policy_id")
        return project, await self._access.read(lambda connection: _policy_of(connection, project, number))

    async def _execution(self, request: Request) -> Execution:
        _, policy = await self._policy(request, "read")
        number = path_id(request, "execution_id")
        missing = f"execution {number} not found in policy {policy.id}"
        return await execution_of(self._access, number, vendors=(VENDOR,), vendor_id=policy.id, missing=missing)

    def _fields(self, policy: Policy, held: Document | None = None) -> dict[str, Value]:
        # A header that is sealed anew looks changed: one that says the same stays as it was sealed.
        sealed = {self._sealer.unseal(one): one for one in _headers(held)}
        targets = []
        for target in policy.targets:
            header = target.auth_header
            kept = msgspec.to_builtins(target)
            if header:
                kept["auth_header"] = sealed.get(header) or self._sealer.seal(header)
            targets.append(kept)
        return {
            "description": policy.description,
            "targets": targets,
            "event_types": list(policy.event_types),
            "enabled": policy.enabled,
        }

    def _view(self, policy: Document, project: Project, *, opened: bool = True) -> dict[str, Any]:
        fields = policy.fields
        return {
            "id": policy.id,
            "name": policy.name,
            "description": fields.get("description", ""),
            "project_id": project.id,
            "targets": [self._target_view(one, opened=opened) for one in fields.get("targets", [])],
            "event_types": fields.get("event_types", []),
            "creator": fields.get("creator", ""),
            "creation_time": rfc3339(policy.created_ms),
            "update_time": rfc3339(policy.updated_ms),
            "enabled": bool(fields.get("enabled")),
        }

    def _target_view(self, kept: dict[str, Any], *, opened: bool) -> dict[str, Any]:
        target = msgspec.convert(kept, Target)
        header = self._sealer.unseal(target.auth_header) if target.auth_header and opened else ""
        return {
            "type": target.type,
            "address": target.address,
            "auth_header": header,
            "skip_cert_verify": target.skip_cert_verify,
            "payload_format": target.payload_format,
        }


def _headers(policy: Document | None) -> Sequence[str]:
    targets = policy.fields.get("targets", []) if policy is not None else []
    return [str(one["auth_header"]) for one in targets if one.get("auth_header")]


def _policy_of(connection: Snapshot, project: Project, number: int) -> Document:
    found = find_by_id(connection, WEBHOOK, number)
    if found is None:
        raise NotFound(f"notification policy {number} not found")
    if found.project != project.name:
        raise Invalid(f"notification policy {number} does not belong to project {project.id} in URL")
    return found


def _job_view(one: Execution) -> dict[str, Any]:
    told = one.fields.get("extra_attrs") or {}
    return {
        "id": one.id,
        "policy_id": one.vendor_id,
        "event_type": told.get("event_type", ""),
        "notify_type": one.fields.get("notify_type", HTTP),
        "status": _OLD_STATUSES.get(one.status, "pending"),
        "job_detail": told.get("payload", ""),
        "creation_time": time_of(one.created_ms),
        "update_time": time_of(one.updated_ms),
    }
