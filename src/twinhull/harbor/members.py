"""A project's members at Harbor's paths: /projects/{project_id}/members."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.projects import Projects
from twinhull.catalog.sign_in import SignIn
from twinhull.catalog.user_groups import GroupOf
from twinhull.harbor import views
from twinhull.harbor.access import Access, legacy_id
from twinhull.harbor.requests import Paging, answer, listed, located, nothing, on, read_body, read_paging
from twinhull.kit.errors import Invalid, NotFound
from twinhull.metadata import accounts


class _UserBody(msgspec.Struct):
    username: str = ""
    user_id: int = 0


class _GroupBody(msgspec.Struct):
    group_name: str = ""
    id: int = 0
    group_type: int = 0
    ldap_group_dn: str = ""


class _MemberBody(msgspec.Struct):
    role_id: int = 0
    member_user: _UserBody | None = None
    member_group: _GroupBody | None = None


class _RoleBody(msgspec.Struct):
    role_id: int = 0


class MembersApi:
    """Handlers for members."""

    def __init__(self, *, access: Access, projects: Projects, sign_in: SignIn) -> None:
        """Take what every handler needs, what writes members, and what knows the people who have not been here yet."""
        self._access = access
        self._projects = projects
        self._sign_in = sign_in

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/projects/{project_id}/members", get=self.list, post=self.add),
            on("/projects/{project_id}/members/{member_id}", get=self.get, put=self.set_role, delete=self.remove),
        ]

    async def list(self, request: Request) -> Response:
        """Return the members of a project; all of them unless a page is asked for, as in Harbor 2.2."""
        _, project = await self._access.legacy_project(request, "member", "list")
        is_paged = "page" in request.query_params or "page_size" in request.query_params
        paging = read_paging(request, legacy=True) if is_paged else Paging(page=1, size=0)
        name = request.query_params.get("entityname", "")
        members, total = await self._access.read(
            lambda connection: accounts.list_members(connection, project.name, name_part=name, part=paging.part)
        )
        return listed(request, [views.member_view(member, project) for member in members], total=total, paging=paging)

    async def add(self, request: Request) -> Response:
        """Make a user or a user group a member."""
        _, project = await self._access.legacy_project(request, "member", "create")
        body = await read_body(request, _MemberBody, legacy=True)
        user, group = body.member_user or _UserBody(), body.member_group or _GroupBody()
        if user.username or user.user_id:
            await self._sign_in.expect_user(user.username)
            added = await self._projects.add_member(project.name, role=body.role_id, user=user.username, user_id=user.user_id)
        elif group.id or group.group_name or group.ldap_group_dn:
            await self._sign_in.expect_group(group.ldap_group_dn)
            wanted = GroupOf(id=group.id, name=group.group_name, group_type=group.group_type, dn=group.ldap_group_dn)
            added = await self._projects.add_group(project.name, role=body.role_id, group=wanted)
        else:
            raise Invalid("neither a user nor a group is given")
        return nothing(201, {**located(request, added.id), **await self._access.settled(request, added.seq)})

    async def get(self, request: Request) -> Response:
        """Return a member."""
        _, project = await self._access.legacy_project(request, "member", "read")
        number = legacy_id(request, "member_id")
        member = await self._access.read(lambda connection: accounts.find_member(connection, project.name, number))
        if member is None:
            raise NotFound(f"project member {number} not found in project {project.id}")
        return answer(views.member_view(member, project))

    async def set_role(self, request: Request) -> Response:
        """Give a member another role."""
        _, project = await self._access.legacy_project(request, "member", "update")
        number = legacy_id(request, "member_id")
        body = await read_body(request, _RoleBody, legacy=True)
        changed = await self._projects.set_role(project.name, number, body.role_id)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def remove(self, request: Request) -> Response:
        """Remove a member."""
        _, project = await self._access.legacy_project(request, "member", "delete")
        number = legacy_id(request, "member_id")
        removed = await self._projects.remove_member(project.name, number)
        return nothing(headers=await self._access.settled(request, removed.seq))
