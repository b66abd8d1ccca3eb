"""The audit log at Harbor's paths: /audit-logs as Harbor 2.2 has it, /auditlog-exts with what the newest one adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.auth.permissions import Grant
from twinhull.auth.subjects import visible_to
from twinhull.harbor.access import Access
from twinhull.harbor.queries import ListQuery, read_query
from twinhull.harbor.requests import answer, listed, on
from twinhull.kit.clock import rfc3339
from twinhull.metadata.accounts import ProjectFilter, list_projects
from twinhull.metadata.audit import AuditRecord, list_audit_records
from twinhull.metadata.filtering import AnyOf, plain
from twinhull.web.identity import Caller

# What the older log has of it.
CONTENT: Final = ("artifact", "project", "repository", "tag")
EVENT_TYPES: Final = (
    *("create_artifact", "delete_artifact", "pull_artifact", "create_project", "delete_project", "delete_repository"),
    *("create_user", "delete_user", "update_user", "create_robot", "delete_robot", "update_configuration"),
    *("create_member", "delete_member", "update_member", "update_project", "create_tag", "delete_tag"),
)

_SEES_LOG: Final = frozenset({Grant("log", "list")})
_View = Callable[[AuditRecord], Mapping[str, Any]]


class AuditLogsApi:
    """Handlers for audit records."""

    def __init__(self, *, access: Access) -> None:
        """Take what every handler needs."""
        self._access = access

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/audit-logs", get=self.list),
            on("/auditlog-exts", get=self.list_extended),
            on("/auditlog-exts/events", get=self.events),
            on("/projects/{project_name_or_id}/logs", get=self.of_project),
            on("/projects/{project_name_or_id}/auditlog-exts", get=self.of_project_extended),
        ]

    async def list(self, request: Request) -> Response:
        """Return what was done to content, in all projects whose log the caller may see."""
        query = _of_content(read_query(request))
        return await self._page(request, query, await self._seen_by(request), _view)

    async def list_extended(self, request: Request) -> Response:
        """Return all that was done, in all projects whose log the caller may see; to administrators also outside of them."""
        query = read_query(request)
        return await self._page(request, query, await self._seen_by(request), _extended_view)

    async def events(self, request: Request) -> Response:
        """Return what is recorded."""
        await self._access.admin(request)
        return answer([{"event_type": name} for name in EVENT_TYPES])

    async def of_project(self, request: Request) -> Response:
        """Return what was done to a project's content."""
        _, project = await self._access.project(request, "log", "list")
        return await self._page(request, _of_content(read_query(request)), [project.name], _view)

    async def of_project_extended(self, request: Request) -> Response:
        """Return all that was done in a project."""
        _, project = await self._access.project(request, "log", "list")
        return await self._page(request, read_query(request), [project.name], _extended_view)

    async def _page(self, request: Request, query: ListQuery, projects: Sequence[str] | None, view: _View) -> Response:
        found, total = await self._access.read(
            lambda connection: list_audit_records(connection, projects=projects, wanted=query.wanted, part=query.part)
        )
        return listed(request, [view(one) for one in found], total=total, paging=query.paging)

    async def _seen_by(self, request: Request) -> Sequence[str] | None:
        """Return the projects whose log the caller may see; None for everything."""
        caller = await self._access.logged_in(request)
        if caller.is_admin:
            return None
        found = await self._access.read(lambda connection: list_projects(connection, _those_of(caller))[0])
        return [one.name for one in found if await self._access.may(caller, one.name, "log", "list")]


def _those_of(caller: Caller) -> ProjectFilter:
    # Nobody sees a project's log because the project is public.
    return replace(visible_to(caller.subject if caller.token is None else None, _SEES_LOG), with_public=False)


def _of_content(query: ListQuery) -> ListQuery:
    conditions = {plain("resource_type"): AnyOf(CONTENT), **query.wanted.conditions}
    return replace(query, wanted=replace(query.wanted, conditions=conditions))


def _view(record: AuditRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "op_time": rfc3339(record.at_ms),
        "operation": record.operation,
        "resource": record.resource,
        "resource_type": record.resource_type,
        "username": record.username,
    }


def _extended_view(record: AuditRecord) -> dict[str, Any]:
    return _view(record) | {"operation_description": record.description, "operation_result": record.succeeded}
