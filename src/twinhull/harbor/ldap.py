"""The directory that people sign in by, at Harbor's paths: /ldap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.auth.directory import LdapSettings, LdapUser
from twinhull.catalog.sign_in import SignIn
from twinhull.catalog.user_groups import LDAP
from twinhull.config.values import Secret
from twinhull.harbor.access import Access
from twinhull.harbor.requests import answer, nothing, on_older, read_body, read_bytes
from twinhull.kit.errors import Conflict, Invalid, Unavailable
from twinhull.metadata import accounts

IMPORTED_MAX: Final = 500


class _LdapBody(msgspec.Struct):
    ldap_url: str = ""
    ldap_search_dn: str = ""
    ldap_search_password: str = ""
    ldap_base_dn: str = ""
    ldap_filter: str = ""
    ldap_uid: str = ""
    ldap_scope: int = 2
    ldap_connection_timeout: int = 5
    ldap_verify_cert: bool = True


class _ImportBody(msgspec.Struct):
    ldap_uid_list: list[str] = []


class LdapApi:
    """Handlers for the directory."""

    def __init__(self, *, access: Access, sign_in: SignIn) -> None:
        """Take what every handler needs, and what asks the directory."""
        self._access = access
        self._sign_in = sign_in

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on_older("/ldap/ping", post=self.ping),
            on_older("/ldap/users/search", get=self.search_users),
            on_older("/ldap/users/import", post=self.import_users),
            on_older("/ldap/groups/search", get=self.search_groups),
        ]

    async def ping(self, request: Request) -> Response:
        """Say whether the directory can be searched: as it is set up, or as the body has it."""
        await self._access.admin(request, legacy=True)
        body = await _ping_body(request)
        try:
            directory = await self._sign_in.directory(_described(body, await self._sign_in.settings()))
            await self._sign_in.ask(directory.ping)
        except (Unavailable, Invalid) as error:
            return answer({"success": False, "message": str(error)})
        return answer({"success": True, "message": ""})

    async def search_users(self, request: Request) -> Response:
        """Return the people of the directory of that name, or all of them."""
        await self._access.admin(request, legacy=True)
        name = request.query_params.get("username", "")
        directory = await self._sign_in.directory()
        users = await self._sign_in.ask(lambda: directory.users(name))
        return answer([_user_view(user) for user in users])

    async def search_groups(self, request: Request) -> Response:
        """Return the directory's group with that DN, or the groups whose name contains the text."""
        await self._access.admin(request, legacy=True)
        name, dn = request.query_params.get("groupname", ""), request.query_params.get("groupdn", "")
        directory = await self._sign_in.directory()
        groups = await self._sign_in.ask(lambda: directory.groups(name=name, dn=dn))
        shown = [{"group_name": group.name, "group_type": LDAP, "ldap_group_dn": group.dn} for group in groups]
        return answer(shown)

    async def import_users(self, request: Request) -> Response:
        """Make people of the directory known here before they sign in; 404 names those for whom that failed."""
        await self._access.admin(request, legacy=True)
        body = await read_body(request, _ImportBody, legacy=True)
        if not 1 <= len(body.ldap_uid_list) <= IMPORTED_MAX:
            raise Invalid(f"ldap_uid_list must name 1 to {IMPORTED_MAX} users")
        directory = await self._sign_in.directory()
        failed = []
        for name in dict.fromkeys(body.ldap_uid_list):
            problem = await self._import(await self._sign_in.ask(partial(directory.user, name)))
            if problem:
                failed.append({"uid": name, "error": problem})
        return answer(failed, status=404) if failed else nothing()

    async def _import(self, user: LdapUser | None) -> str:
        """Make one of them known; return what went wrong, in Harbor's words."""
        if user is None:
            return "unknown_user"
        if await self._access.read(lambda connection: accounts.find_user(connection, user.name)) is not None:
            return "duplicate_user"
        try:
            await self._sign_in.keep(user)
        except (Invalid, Conflict) as error:
            return error.message
        return ""


async def _ping_body(request: Request) -> _LdapBody:
    content = await read_bytes(request)
    if not content.strip():
        return _LdapBody()
    try:
        body = msgspec.json.decode(content, type=_LdapBody)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid("Invalid json request") from error
    if body.ldap_url and (body.ldap_scope not in (0, 1, 2) or not 1 <= body.ldap_connection_timeout <= 300):
        raise Invalid("ldap_scope must be 0, 1 or 2, and ldap_connection_timeout 1 to 300")
    return body


def _described(body: _LdapBody, kept: LdapSettings) -> LdapSettings:
    """Return the settings as the body has them; as they are kept without an address."""
    if not body.ldap_url:
        return kept
    return replace(
        kept,
        url=body.ldap_url,
        base_dn=body.ldap_base_dn or kept.base_dn,
        search_dn=body.ldap_search_dn,
        # Another address is sent the password that was typed with it, never the one that is kept.
        search_password=Secret(body.ldap_search_password),
        filter=body.ldap_filter,
        uid=body.ldap_uid or kept.uid,
        scope=body.ldap_scope,
        timeout_s=body.ldap_connection_timeout,
        verify_cert=body.ldap_verify_cert,
    )


def _user_view(user: LdapUser) -> dict[str, str]:
    return {"username": user.name, "realname": user.realname, "email": user.email}
