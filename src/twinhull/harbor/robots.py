"""Robot accounts at Harbor's paths: /robots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog import robots as catalog
from twinhull.catalog.robots import NewRobot
from twinhull.harbor.access import is_id, path_id
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import answer, listed, nothing, on, read_body
from twinhull.harbor.robot_settings import AccessBody, RobotHandlers
from twinhull.kit.errors import Denied, Invalid, NotFound, Unauthenticated
from twinhull.metadata import accounts
from twinhull.metadata.accounts import Robot
from twinhull.web.identity import Caller


class _PermissionBody(msgspec.Struct, omit_defaults=True):
    kind: str = ""
    namespace: str = ""
    access: list[AccessBody] = []


class _RobotBody(msgspec.Struct):
    name: str = ""
    description: str = ""
    level: str = ""
    disable: bool = False
    duration: int = 0
    permissions: list[_PermissionBody] = []


class _SecretBody(msgspec.Struct):
    secret: str = ""


class RobotsApi(RobotHandlers):
    """Handlers for robot accounts."""

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/robots", get=self.list, post=self.create),
            on("/robots/{robot_id}", get=self.get, put=self.change, patch=self.set_secret, delete=self.delete),
        ]

    async def list(self, request: Request) -> Response:
        """Return the system's robots, or with `q=Level=project,ProjectID=N` a project's."""
        caller = await self._access.logged_in(request)
        query = read_query(request)
        level = query.wanted.exact("level") or catalog.SYSTEM
        if level not in (catalog.SYSTEM, catalog.PROJECT):
            raise Invalid(f"bad request error level input: {level[:64]}")
        project = await self._project_named(query.wanted.exact("project_id")) if level == catalog.PROJECT else ""
        if project is None and caller.is_admin:
            return listed(request, [], total=0, paging=query.paging)
        if project is None:
            raise Denied("forbidden")
        await self._require(caller, project, "list")
        return await self._listed(request, query, project)

    async def create(self, request: Request) -> Response:
        """Make a robot, and show its secret this once."""
        caller = await self._access.logged_in(request)
        body = await read_body(request, _RobotBody)
        permissions = _checked(body)
        project = _project_of(body)
        await self._require(caller, project, "create")
        if project and await self._access.read(lambda connection: accounts.find_project(connection, project)) is None:
            # Whether a name is taken is nobody's business but the members'.
            raise Denied("forbidden")
        await self._settings.require_grantable(self._access, caller, permissions)
        made = await self._robots.create(
            NewRobot(
                name=body.name,
                level=body.level,
                description=body.description,
                duration_days=body.duration,
                default_duration_days=await self._settings.duration_days(),
                permissions=permissions,
                disable=body.disable,
            )
        )
        return await self._made(request, made, with_expiry=True)

    async def change(self, request: Request) -> Response:
        """Change a robot; its name and level stay as they are."""
        caller, robot = await self._robot(request, "update")
        body = await read_body(request, _RobotBody)
        permissions = _checked(body)
        await self._settings.require_grantable(self._access, caller, permissions)
        own_name = robot.name.removeprefix(f"{robot.project}+")
        if body.level != robot.level or body.name not in (await self._settings.prefix() + robot.name, robot.name, own_name):
            raise Invalid("cannot update the level or name of robot")
        changed = await self._robots.change(
            robot.id,
            description=body.description,
            duration_days=body.duration,
            default_duration_days=await self._settings.duration_days(),
            permissions=permissions,
            disable=body.disable,
        )
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def set_secret(self, request: Request) -> Response:
        """Give a robot another secret; a new one is shown this once, a chosen one is not repeated."""
        _, robot = await self._robot(request, "update")
        body = await read_body(request, _SecretBody)
        secret, changed = await self._robots.set_secret(robot.id, body.secret)
        headers = await self._access.settled(request, changed.seq)
        return answer({} if body.secret else {"secret": secret}, headers=headers)

    async def _robot(self, request: Request, action: str) -> tuple[Caller, Robot]:
        caller = await self._access.logged_in(request)
        number = path_id(request, "robot_id")
        robot = await self._access.read(lambda connection: accounts.find_robot_by_id(connection, number))
        if robot is None:
            raise NotFound(f"robot {number} not found")
        await self._require(caller, robot.project, action)
        return caller, robot

    async def _require(self, caller: Caller, project: str, action: str) -> None:
        """Let those through who may do this with a project's robots; with the system's, administrators alone."""
        if caller.is_anonymous:
            raise Unauthenticated("unauthorized")
        if caller.is_admin:
            return
        if not project:
            if caller.may_in_system("robot", action):
                return
            raise Denied(caller.name)
        if not await self._access.may(caller, project, "robot", action):
            raise Denied("forbidden")

    async def _project_named(self, text: str) -> str | None:
        if not text:
            raise Invalid("must with project ID when to query project robots")
        if not is_id(text):
            raise Invalid("invalid project ID")
        project = await self._access.read(lambda connection: accounts.find_project_by_id(connection, int(text)))
        return project.name if project is not None else None


def _checked(body: _RobotBody) -> list[dict[str, Any]]:
    permissions: list[dict[str, Any]] = [msgspec.to_builtins(permission) for permission in body.permissions]
    catalog.require_robot(body.level, body.duration, body.description, permissions)
    return permissions


def _project_of(body: _RobotBody) -> str:
    return body.permissions[0].namespace if body.level == catalog.PROJECT else ""
