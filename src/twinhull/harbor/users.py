"""Users at Harbor's paths: /users and what is below."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.auth.service import Guard
from twinhull.catalog.accounts import ADMIN, NewUser, Users
from twinhull.catalog.oidc import NoProviderUser, OidcSignIn
from twinhull.harbor import views
from twinhull.harbor.access import Access, path_id
from twinhull.harbor.errors import PreconditionFailed
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import answer, listed, located, nothing, on_older, query_bool, read_body, read_paging
from twinhull.kit.errors import Denied, Invalid, Unauthenticated, UserUnknown
from twinhull.metadata import accounts
from twinhull.metadata.accounts import User
from twinhull.metadata.filtering import Fuzzy
from twinhull.web.browsers import carries_session
from twinhull.web.identity import Caller
from twinhull.web.middleware import Forwarding

_CURRENT: Final = "current"
_NO_ADMIN: Final = "user does not have admin role"
_SCOPE: Final = re.compile(r"/project/([0-9]{1,18})/?")


class _NewUserBody(msgspec.Struct):
    username: str = ""
    email: str = ""
    realname: str = ""
    password: str = ""
    comment: str = ""


class _ProfileBody(msgspec.Struct):
    email: str = ""
    realname: str = ""
    comment: str = ""


class _SysadminBody(msgspec.Struct):
    sysadmin_flag: bool = False


class _PasswordBody(msgspec.Struct):
    old_password: str = ""
    new_password: str = ""


class _SecretBody(msgspec.Struct):
    secret: str = ""


class UsersApi:
    """Handlers for users."""

    def __init__(self, *, access: Access, users: Users, guard: Guard, forwarding: Forwarding, oidc: OidcSignIn) -> None:
        """Take what every handler needs, what writes users, what checks passwords, and what keeps a provider's people."""
        self._oidc = oidc
        self._access = access
        self._users = users
        self._guard = guard
        self._forwarding = forwarding

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes; fixed words before ids."""
        return [
            on_older("/users", get=self.list, post=self.create),
            on_older("/users/current", get=self.current, put=self.change, delete=self.delete),
            on_older("/users/search", get=self.search),
            on_older("/users/{user_id}", get=self.get, put=self.change, delete=self.delete),
            on_older("/users/{user_id}/password", put=self.set_password),
            on_older("/users/{user_id}/sysadmin", put=self.set_sysadmin),
            on_older("/users/{user_id}/cli_secret", put=self.set_cli_secret),
            on_older("/users/{user_id}/permissions", get=self.permissions),
        ]

    async def list(self, request: Request) -> Response:
        """Return the users, without the built-in administrator, to administrators."""
        await self._access.admin(request, message=_NO_ADMIN, legacy=True)
        query = read_query(request, legacy=True, lenient=True)
        # How v2.2.4 was asked; `q` and `sort` came later.
        parts = {key: Fuzzy(part) for key in ("username", "email") if (part := request.query_params.get(key, ""))}
        wanted = replace(query.wanted, conditions={**query.wanted.conditions, **parts})
        users, total = await self._access.read(
            lambda connection: accounts.list_users(connection, wanted=wanted, without=ADMIN, part=query.part)
        )
        return listed(request, [views.user_view(user) for user in users], total=total, paging=query.paging)

    async def search(self, request: Request) -> Response:
        """Return names and ids of users whose name contains the text, to anybody who is logged in."""
        await self._access.logged_in(request, legacy=True)
        paging = read_paging(request, legacy=True)
        name = request.query_params.get("username", "")
        if not name:
            raise Invalid("username is required")
        users, total = await self._access.read(
            lambda connection: accounts.list_users(connection, name_part=name, without=ADMIN, part=paging.part)
        )
        return listed(request, [views.found_user_view(user) for user in users], total=total, paging=paging)

    async def create(self, request: Request) -> Response:
        """Make a user, as an administrator; or oneself, from a browser, where that is allowed."""
        await self._require_registration(request)
        mode = await self._guard.setting("auth_mode")
        if mode != "db_auth":
            raise Denied(f"users are made by signing in while the auth mode is {mode}")
        body = await read_body(request, _NewUserBody, legacy=True)
        new = NewUser(
            name=body.username, email=body.email, realname=body.realname, password=body.password, comment=body.comment
        )
        made = await self._users.create(new)
        return nothing(201, {**located(request, made.id), **await self._access.settled(request, made.seq)})

    async def current(self, request: Request) -> Response:
        """Return whoever asks."""
        _, user = await self._named(request)
        return answer(views.user_view(user) | views.oidc_user_view(user, self._oidc.secret_of(user)))

    async def permissions(self, request: Request) -> Response:
        """Return what whoever asks may do in the project that the scope names; nothing for any other scope."""
        caller = await self._access.logged_in(request, legacy=True)
        if request.path_params["user_id"] != _CURRENT:
            caller, user = await self._named(request)
            if not _is(caller, user):
                raise Denied("User does not have permission")
        scope = _SCOPE.fullmatch(request.query_params.get("scope", ""))
        if scope is None:
            return answer([])
        number = int(scope[1])
        project = await self._access.read(lambda connection: accounts.find_project_by_id(connection, number))
        # An administrator may do everything, in a project that does not exist too.
        allowance = await self._access.rights(caller, project.name if project else "")
        relative = query_bool(request, "relative") or False
        return answer(views.grants_view(allowance.listed, project_id=number, relative=relative))

    async def get(self, request: Request) -> Response:
        """Return a user to administrators and to themselves."""
        _, user = await self._self_or_admin(request)
        return answer(views.user_view(user))

    async def change(self, request: Request) -> Response:
        """Change a user's profile, as an administrator or as themselves."""
        _, user = await self._self_or_admin(request)
        body = await read_body(request, _ProfileBody, legacy=True)
        changed = await self._users.change_profile(user.id, email=body.email, realname=body.realname, comment=body.comment)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def set_password(self, request: Request) -> Response:
        """Give a user another password; whoever changes their own says the old one."""
        caller, user = await self._self_or_admin(request)
        body = await read_body(request, _PasswordBody, legacy=True)
        if user.source:
            raise Denied(f"the password of {user.name} is not kept here but by {user.source}")
        if caller.subject is not None and caller.subject.id == user.id:
            await self._require_old_password(request, user.name, body.old_password)
        changed = await self._users.set_password(user.id, body.new_password)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def set_cli_secret(self, request: Request) -> Response:
        """Give somebody who signs in at a provider another secret for command-line clients; an empty one is made up."""
        _, user = await self._self_or_admin(request)
        if not await self._oidc.is_on():
            raise PreconditionFailed(f"the auth mode has to be oidc auth, not {await self._oidc.mode()}")
        body = await read_body(request, _SecretBody, legacy=True)
        try:
            changed = await self._oidc.set_secret(user.id, body.secret)
        except NoProviderUser as error:
            raise PreconditionFailed(error.message) from error
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def set_sysadmin(self, request: Request) -> Response:
        """Make a user a system administrator, or no more."""
        user = await self._for_admin(request)
        body = await read_body(request, _SysadminBody, legacy=True)
        changed = await self._users.set_sysadmin(user.id, sysadmin=body.sysadmin_flag)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def delete(self, request: Request) -> Response:
        """Delete a user, as an administrator."""
        user = await self._for_admin(request)
        caller = await self._access.caller(request)
        deleted = await self._users.delete(user.id, by=caller.subject.id if caller.subject else 0)
        return nothing(headers=await self._access.settled(request, deleted.seq))

    async def _require_registration(self, request: Request) -> None:
        caller = await self._access.caller(request)
        if caller.is_admin:
            return
        if not await self._guard.setting("self_registration"):
            await self._access.admin(request, message=_NO_ADMIN, legacy=True)
        if not carries_session(request.scope):
            raise Denied("self-registration cannot be triggered via API")

    async def _self_or_admin(self, request: Request) -> tuple[Caller, User]:
        """Return the caller and the user that the path names, who are one, unless the caller is an administrator."""
        caller, user = await self._named(request)
        if not caller.is_admin and not _is(caller, user):
            raise Denied(_NO_ADMIN)
        return caller, user

    async def _for_admin(self, request: Request) -> User:
        """Return the user that the path names, to an administrator."""
        _, user = await self._named(request)
        await self._access.admin(request, message=_NO_ADMIN, legacy=True)
        return user

    async def _named(self, request: Request) -> tuple[Caller, User]:
        """Return the caller and the user that the path names.

        Whether there is such a user anybody may know who is logged in: they may search users too.
        """
        if request.path_params.get("user_id", _CURRENT) == _CURRENT:
            caller = await self._access.user(request)
            return caller, await self._user(caller.subject.id if caller.subject else 0)
        caller = await self._access.logged_in(request, legacy=True)
        return caller, await self._user(path_id(request, "user_id", message="invalid user Id"))

    async def _user(self, number: int) -> User:
        user = await self._access.read(lambda connection: accounts.find_user_by_id(connection, number))
        if user is None:
            raise UserUnknown(f"user {number} not found")
        return user

    async def _require_old_password(self, request: Request, name: str, password: str) -> None:
        if not password:
            raise Invalid("empty old_password")
        address = self._forwarding.client_of(request.scope)
        if await self._guard.by_password(name, password, address=address) is None:
            raise Unauthenticated("incorrect old_password")


def _is(caller: Caller, user: User) -> bool:
    """Tell whether somebody is that user, by password or session. Robots have ids of their own, which users have too."""
    subject = caller.subject
    return subject is not None and not subject.is_robot and caller.token is None and subject.id == user.id
