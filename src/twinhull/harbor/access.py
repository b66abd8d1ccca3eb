"""Who may use the management API for what, and which project a path means; refusals in Harbor's words and order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

from starlette.requests import Request

from twinhull.auth.permissions import Allowance
from twinhull.catalog.peers import Durability
from twinhull.harbor.errors import Unprocessable
from twinhull.harbor.system_rights import needed_grant
from twinhull.kit.errors import Denied, Invalid, NotFound, ProjectUnknown, Unauthenticated
from twinhull.metadata import accounts
from twinhull.metadata.accounts import Project, Snapshot
from twinhull.metadata.store import Store
from twinhull.web.identity import ANONYMOUS, Caller, Identity

ROOT: Final = "/api/v2.0"
UNAUTHORIZED: Final = "unauthorized"
LEGACY_UNAUTHORIZED: Final = "UnAuthorize"
_ID_LENGTH_MAX: Final = 18

_Result = TypeVar("_Result")


class Access:
    """What all handlers need before and after their one call: the caller, the project, reads, and the wait for peers."""

    def __init__(self, *, identity: Identity, store: Store, executor: Executor, durability: Durability) -> None:
        """Take who knows callers, the metadata and threads to read it in, and what waits until a write is safe."""
        self._identity = identity
        self._store = store
        self._executor = executor
        self._durability = durability

    # -- who -------------------------------------------------------------------------------------------------------

    async def caller(self, request: Request) -> Caller:
        """Return the caller, who may be anonymous."""
        return await self._identity.who(request.scope)

    async def logged_in(self, request: Request, *, legacy: bool = False) -> Caller:
        """Return the caller, or raise Unauthenticated when it is nobody in particular."""
        caller = await self.caller(request)
        if caller.is_anonymous:
            raise Unauthenticated(LEGACY_UNAUTHORIZED if legacy else UNAUTHORIZED)
        return caller

    async def user(self, request: Request) -> Caller:
        """Return the caller, who is a person; raises Unauthenticated or Denied."""
        caller = await self.logged_in(request, legacy=True)
        if caller.subject is None or caller.subject.is_robot:
            raise Denied("robot accounts are no users")
        return caller

    async def admin(self, request: Request, *, message: str = "", legacy: bool = False) -> Caller:
        """Return a system administrator, or a robot that was given what the path asks for; raises Unauthenticated or Denied."""
        caller = await self.logged_in(request, legacy=legacy)
        needed = needed_grant(request.method, str(request.scope["path"]).removeprefix(ROOT)) if not caller.is_admin else None
        if not caller.is_admin and (needed is None or not caller.may_in_system(*needed)):
            raise Denied(message or caller.name)
        return caller

    # -- what ------------------------------------------------------------------------------------------------------

    async def project(self, request: Request, resource: str, action: str) -> tuple[Caller, Project]:
        """Return the caller, who may do this in the project that the path names, and that project.

        Purely numeric is an id, unless X-Is-Resource-Name says otherwise. Raises Unauthenticated, Denied or ProjectUnknown.
        """
        caller = await self.caller(request)
        text = request.path_params["project_name_or_id"]
        by_name = request.headers.get("x-is-resource-name", "").lower() == "true" or not is_id(text)
        project = await self.read(
            lambda connection: (
                accounts.find_project(connection, text) if by_name else accounts.find_project_by_id(connection, int(text))
            )
        )
        if project is not None:
            return await self.require(caller, project, resource, action)
        if caller.is_anonymous:
            raise Unauthenticated(UNAUTHORIZED)
        if by_name or not caller.is_admin:
            # Whether a name is taken is nobody's business but the members'.
            raise Denied("forbidden")
        raise ProjectUnknown(f"project {text} not found")

    async def legacy_project(
        self, request: Request, resource: str, action: str, *, hidden: bool = False
    ) -> tuple[Caller, Project]:
        """Return the same for an operation of the older generation, which knew projects by id only; now names will do too.

        `hidden` says that only administrators are told that there is no such project.
        """
        text = request.path_params["project_id"]
        by_name = request.headers.get("x-is-resource-name", "").lower() == "true" or not is_id(text)
        caller = await self.logged_in(request, legacy=True)
        project = await self.read(
            lambda connection: (
                accounts.find_project(connection, text) if by_name else accounts.find_project_by_id(connection, int(text))
            )
        )
        if project is not None:
            return await self.require(caller, project, resource, action, message=caller.name)
        # Harbor 2.2 has no path with a name in it at all. Whether a name is taken is nobody's business but the members'.
        if (by_name or hidden) and not caller.is_admin:
            raise Denied(caller.name)
        raise path_not_found(request) if by_name else ProjectUnknown(f"project {text} not found")

    async def require(
        self, caller: Caller, project: Project, resource: str, action: str, *, message: str = "forbidden"
    ) -> tuple[Caller, Project]:
        """Return both if the caller may do this in the project, or raise Unauthenticated or Denied."""
        if not await self.may(caller, project.name, resource, action):
            raise Unauthenticated(UNAUTHORIZED) if caller.is_anonymous else Denied(message)
        return caller, project

    async def may(self, caller: Caller, project: str, resource: str, action: str) -> bool:
        """Tell whether a caller may do this in a project."""
        return (await self.rights(caller, project)).may(resource, action)

    async def rights(self, caller: Caller, project: str) -> Allowance:
        """Return all that a caller may do in a project."""
        return await self._identity.rights(caller, project)

    async def visible_projects(self, caller: Caller) -> frozenset[str] | None:
        """Return the names of the projects whose repositories a caller may list; None for all of them."""
        return await self._identity.visible_projects(ANONYMOUS if caller.token is not None else caller)

    # -- reads and writes ------------------------------------------------------------------------------------------

    async def read(self, query: Callable[[Snapshot], _Result]) -> _Result:
        """Return what a query says, asked in a thread."""

        def run() -> _Result:
            with self._store.read() as connection:
                return query(connection)

        return await asyncio.get_running_loop().run_in_executor(self._executor, run)

    async def settled(self, request: Request, seq: int) -> dict[str, str]:
        """Wait until a write is as safe as the cluster or the request wants it; return the header that says how safe it is."""
        if not seq:
            return {}
        wanted = request.headers.get("twinhull-durability", "")
        return {"Twinhull-Durability": await self._durability.reached(seq, wanted=wanted)}


def is_id(text: str) -> bool:
    """Tell whether that can be the integer id of something."""
    return text.isascii() and text.isdecimal() and len(text) <= _ID_LENGTH_MAX


def path_id(request: Request, name: str, *, message: str = "") -> int:
    """Return the id in the path, or raise Unprocessable; Invalid where there is a message."""
    text: str = request.path_params[name]
    if is_id(text):
        return int(text)
    raise Invalid(message) if message else Unprocessable(f'{name} in path must be of type int64: "{text[:64]}"')


def legacy_id(request: Request, name: str) -> int:
    """Return the id in the path of an operation of the older generation, which has no path for anything else."""
    text: str = request.path_params[name]
    if not is_id(text):
        raise path_not_found(request)
    return int(text)


def path_not_found(request: Request) -> NotFound:
    """Return the failure that says that there is nothing at this path."""
    return NotFound(f"path {request.url.path[:200]} was not found")
