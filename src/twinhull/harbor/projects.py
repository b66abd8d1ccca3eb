"""Projects at Harbor's paths: /projects and what is below, save members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.auth.permissions import BY_POWER, Role
from twinhull.auth.service import Guard
from twinhull.auth.subjects import visible_to
from twinhull.catalog.projects import NewProject, Projects
from twinhull.harbor import views
from twinhull.harbor.access import Access
from twinhull.harbor.allowlists import AllowlistBody
from twinhull.harbor.errors import Unprocessable
from twinhull.harbor.queries import read_query
from twinhull.harbor.registries import registry_view
from twinhull.harbor.requests import answer, listed, located, nothing, on, query_bool, read_body
from twinhull.kit.errors import Denied, Invalid, NotFound, ProjectNotEmpty
from twinhull.metadata import accounts
from twinhull.metadata.accounts import Project, Snapshot
from twinhull.metadata.documents import Document, find_named, find_of_projects
from twinhull.metadata.groups import group_roles
from twinhull.metadata.usage import Quota, quota_of
from twinhull.records.kinds import ALLOWLIST, REGISTRY
from twinhull.web.identity import Caller


class _ProjectBody(msgspec.Struct):
    project_name: str = ""
    # Deprecated, and still sent by replication from older Harbors.
    public: bool | None = None
    metadata: dict[str, str | None] | None = None
    storage_limit: int | None = None
    registry_id: int | None = None
    cve_allowlist: AllowlistBody | None = None


class ProjectsApi:
    """Handlers for projects."""

    def __init__(self, *, access: Access, projects: Projects, guard: Guard) -> None:
        """Take what every handler needs, what writes projects, and who knows the settings."""
        self._access = access
        self._projects = projects
        self._guard = guard

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/projects", get=self.list, post=self.create, head=self.head),
            on("/projects/{project_name_or_id}", get=self.get, put=self.change, delete=self.delete),
            on("/projects/{project_name_or_id}/_deletable", get=self.deletable),
            on("/projects/{project_name_or_id}/summary", get=self.summary),
        ]

    async def list(self, request: Request) -> Response:
        """Return the projects that the caller may see, by name."""
        caller = await self._access.caller(request)
        query = read_query(request, lenient=True)
        wanted = replace(
            visible_to(caller.subject if caller.token is None else None),
            name_part=request.query_params.get("name", ""),
            owner=request.query_params.get("owner", ""),
            public=query_bool(request, "public"),
            query=query.wanted,
        )
        if caller.may_in_system("project", "list"):
            wanted = replace(wanted, visible_only=False)
        detailed = query_bool(request, "with_detail") is not False

        def read(connection: Snapshot) -> tuple[list[views.Json], int]:
            found, total = accounts.list_projects(connection, wanted, part=query.part)
            return _project_views(connection, found, caller, detailed=detailed), total

        shown, total = await self._access.read(read)
        return listed(request, shown, total=total, paging=query.paging)

    async def head(self, request: Request) -> Response:
        """Say whether a name is taken."""
        await self._access.logged_in(request)
        name = request.query_params.get("project_name", "")
        if not name:
            raise Unprocessable("project_name in query is required")
        if not (await self._guard.facts_of(name)).exists:
            raise NotFound(f"project {name[:255]} not found")
        return nothing()

    async def create(self, request: Request) -> Response:
        """Make a project; anybody who is logged in may, unless the cluster's settings say otherwise."""
        caller = await self._access.logged_in(request)
        body = await read_body(request, _ProjectBody)
        restricted = await self._guard.setting("project_creation_restriction") == "adminonly"
        is_person = caller.subject is not None and caller.token is None and not caller.subject.is_robot
        if not (is_person and (caller.is_admin or not restricted)) and not caller.may_in_system("project", "create"):
            raise Denied("Only system admin can create project")
        if body.registry_id is not None and not caller.is_admin:
            raise Denied("Only system admin can create proxy cache project")
        if body.storage_limit is not None and body.storage_limit < -1:
            raise Invalid("bad request: invalid value for resource storage")
        metadata = _metadata(body)
        if body.public is not None:
            metadata.setdefault("public", str(body.public).lower())
        # As in Harbor, only administrators of the system say how much a project may store.
        limit = body.storage_limit if caller.is_admin else None
        new = NewProject(
            name=body.project_name,
            metadata=metadata,
            owner=caller.name if is_person else "",
            storage_limit=limit,
            registry_id=body.registry_id,
        )
        made = await self._projects.create(new)
        by_name = request.headers.get("x-resource-name-in-location", "").lower() == "true"
        location = located(request, new.name if by_name else made.id)
        return nothing(201, {**location, **await self._access.settled(request, made.seq)})

    async def get(self, request: Request) -> Response:
        """Return a project."""
        caller, project = await self._access.project(request, ".", "read")
        shown = await self._access.read(lambda connection: _project_views(connection, [project], caller, detailed=True))
        return answer(shown[0])

    async def change(self, request: Request) -> Response:
        """Set the given items of a project's metadata."""
        _, project = await self._access.project(request, ".", "update")
        body = await read_body(request, _ProjectBody)
        allowlist = body.cve_allowlist.checked() if body.cve_allowlist is not None else None
        if body.cve_allowlist is not None and body.cve_allowlist.project_id not in (0, project.id):
            raise Invalid(f"project_id in cve_allowlist must be {project.id} but it's {body.cve_allowlist.project_id}")
        changed = await self._projects.change_metadata(project.name, _metadata(body), allowlist=allowlist)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def delete(self, request: Request) -> Response:
        """Delete a project that has no repositories."""
        _, project = await self._access.project(request, ".", "delete")
        deleted = await self._projects.delete(project.name)
        return nothing(headers=await self._access.settled(request, deleted.seq))

    async def deletable(self, request: Request) -> Response:
        """Say whether a project can be deleted; false is left out and a message is there instead, as in Harbor."""
        _, project = await self._access.project(request, ".", "delete")
        counts = await self._access.read(lambda connection: accounts.count_repositories(connection, [project.name]))
        return answer({"message": ProjectNotEmpty().message.partition(": ")[2]} if counts else {"deletable": True})

    async def summary(self, request: Request) -> Response:
        """Return counts of what is in a project, each for those who may see it."""
        caller, project = await self._access.project(request, ".", "read")

        def read(connection: Snapshot) -> tuple[dict[int, int], int, Quota, Document | None]:
            counts = accounts.count_repositories(connection, [project.name])
            roles = accounts.count_roles(connection, project.name)
            upstream = find_named(connection, REGISTRY, [project.registry] if project.registry else [])
            return roles, counts.get(project.name, 0), quota_of(connection, project.name), upstream.get(project.registry)

        roles, repositories, quota, upstream = await self._access.read(read)
        lists_members = await self._access.may(caller, project.name, "member", "list")
        reads_quota = await self._access.may(caller, project.name, "quota", "read")
        shown = views.summary_view(
            roles if lists_members else None, repositories=repositories, quota=quota if reads_quota else None
        )
        if upstream is not None:
            shown["registry"] = {name: value for name, value in registry_view(upstream).items() if name != "credential"}
        return answer(shown)


def _metadata(body: _ProjectBody) -> dict[str, str]:
    return {key: value for key, value in (body.metadata or {}).items() if value is not None}


def _roles(connection: Snapshot, caller: Caller, names: Sequence[str]) -> dict[str, list[int]]:
    """Return the caller's roles in each of these projects, the strongest first."""
    if caller.is_admin:
        return {name: [int(Role.PROJECT_ADMIN)] for name in names}
    found = group_roles(connection, caller.subject.groups if caller.subject is not None else (), names)
    for name, role in accounts.roles_of(connection, caller.name, names).items():
        found.setdefault(name, []).append(role)
    return {name: [int(role) for role in BY_POWER if role in roles] for name, roles in found.items()}


def _project_views(connection: Snapshot, found: Sequence[Project], caller: Caller, *, detailed: bool) -> list[views.Json]:
    names = [project.name for project in found]
    owners = accounts.ids_of_users(connection, {project.owner for project in found})
    repositories = accounts.count_repositories(connection, names)
    is_user = caller.subject is not None and not caller.subject.is_robot and caller.token is None
    registries = find_named(connection, REGISTRY, {project.registry for project in found if project.registry})
    allowlists = find_of_projects(connection, ALLOWLIST, names) if detailed else {}
    roles = _roles(connection, caller, names) if is_user else {}
    return [
        views.project_view(
            project,
            owner_id=owners.get(project.owner, 0),
            roles=roles.get(project.name, []),
            repositories=repositories.get(project.name, 0),
            allowlist=allowlists.get(project.name),
            registry=registries.get(project.registry),
            detailed=detailed,
        )
        for project in found
    ]
