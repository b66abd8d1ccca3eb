"""User groups at Harbor's paths: /usergroups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.sign_in import SignIn
from twinhull.catalog.user_groups import LDAP, UserGroups
from twinhull.harbor.access import Access, legacy_id
from twinhull.harbor.requests import Paging, answer, listed, located, nothing, on, read_body, read_paging
from twinhull.kit.errors import Invalid, NotFound
from twinhull.metadata.documents import Document, find_by_id, list_documents
from twinhull.metadata.filtering import Condition, Fuzzy, Wanted
from twinhull.records.kinds import USER_GROUP


class _GroupBody(msgspec.Struct):
    group_name: str = ""
    group_type: int = 0
    ldap_group_dn: str = ""


class UserGroupsApi:
    """Handlers for user groups."""

    def __init__(self, *, access: Access, groups: UserGroups, sign_in: SignIn) -> None:
        """Take what every handler needs, what writes groups, and what knows the directory's."""
        self._access = access
        self._groups = groups
        self._sign_in = sign_in

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes; fixed words before ids."""
        return [
            on("/usergroups", get=self.list, post=self.create),
            on("/usergroups/search", get=self.search),
            on("/usergroups/{group_id}", get=self.get, put=self.rename, delete=self.delete),
        ]

    async def list(self, request: Request) -> Response:
        """Return the groups, to anybody who is logged in; all of them unless a page is asked for, as in Harbor 2.2."""
        await self._access.logged_in(request, legacy=True)
        is_paged = "page" in request.query_params or "page_size" in request.query_params
        paging = read_paging(request, legacy=True) if is_paged else Paging(page=1, size=0)
        name, dn = request.query_params.get("group_name", ""), request.query_params.get("ldap_group_dn", "")
        wanted = {"name": Fuzzy(name)} if name else {}
        groups, total = await self._read(wanted, paging if not dn else Paging(page=1, size=0))
        if dn:
            groups = [group for group in groups if str(group.fields.get("ldap_group_dn", "")).lower() == dn.lower()]
            total = len(groups)
        return listed(request, [_view(group) for group in groups], total=total, paging=paging)

    async def search(self, request: Request) -> Response:
        """Return the groups whose name contains the text, to anybody who is logged in."""
        await self._access.logged_in(request, legacy=True)
        name = request.query_params.get("groupname", "")
        if not name:
            raise Invalid("groupname is required")
        paging = read_paging(request, legacy=True)
        groups, total = await self._read({"name": Fuzzy(name)}, paging)
        shown = [{key: _view(group)[key] for key in ("id", "group_name", "group_type")} for group in groups]
        return listed(request, shown, total=total, paging=paging)

    async def create(self, request: Request) -> Response:
        """Make a group, as an administrator."""
        await self._access.admin(request, legacy=True)
        body = await read_body(request, _GroupBody, legacy=True)
        if body.group_type == LDAP and not await self._sign_in.has_group(body.ldap_group_dn):
            raise Invalid(f"LDAP Group DN is not found: DN:{body.ldap_group_dn[:512]}")
        made = await self._groups.create(body.group_name, body.group_type, body.ldap_group_dn)
        return nothing(201, {**located(request, made.id), **await self._access.settled(request, made.seq)})

    async def get(self, request: Request) -> Response:
        """Return a group, to anybody who is logged in, as the list of them."""
        await self._access.logged_in(request, legacy=True)
        return answer(_view(await self._group(request)))

    async def rename(self, request: Request) -> Response:
        """Give a group another name, as an administrator."""
        await self._access.admin(request, legacy=True)
        number = legacy_id(request, "group_id")
        body = await read_body(request, _GroupBody, legacy=True)
        renamed = await self._groups.rename(number, body.group_name)
        return nothing(headers=await self._access.settled(request, renamed.seq))

    async def delete(self, request: Request) -> Response:
        """Delete a group with its memberships, as an administrator."""
        await self._access.admin(request, legacy=True)
        number = legacy_id(request, "group_id")
        deleted = await self._groups.delete(number)
        return nothing(headers=await self._access.settled(request, deleted.seq))

    async def _read(self, conditions: Mapping[str, Condition], paging: Paging) -> tuple[Sequence[Document], int]:
        wanted = Wanted(conditions=conditions)
        return await self._access.read(
            lambda connection: list_documents(connection, USER_GROUP, project="", wanted=wanted, part=paging.part)
        )

    async def _group(self, request: Request) -> Document:
        number = legacy_id(request, "group_id")
        group = await self._access.read(lambda connection: find_by_id(connection, USER_GROUP, number))
        if group is None:
            raise NotFound(f"user group {number} not found")
        return group


def _view(group: Document) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": group.id, "group_name": group.name, "group_type": group.fields.get("group_type", 0)}
    if shown["group_type"] == LDAP:
        shown["ldap_group_dn"] = group.fields.get("ldap_group_dn", "")
    return shown
