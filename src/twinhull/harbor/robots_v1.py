"""Robot accounts as Harbor had them before 2.2: a project's own, at /projects/{project_name_or_id}/robots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog import robots as catalog
from twinhull.catalog.robots import NewRobot
from twinhull.harbor.access import path_id
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import nothing, on, read_body
from twinhull.harbor.robot_settings import AccessBody, RobotHandlers
from twinhull.kit.errors import Invalid, NotFound
from twinhull.metadata import accounts
from twinhull.metadata.accounts import Project, Robot
from twinhull.web.identity import Caller


class _RobotV1Body(msgspec.Struct):
    name: str = ""
    description: str = ""
    expires_at: int = 0
    access: list[AccessBody] = []


class _ChangeBody(msgspec.Struct):
    description: str | None = None
    disable: bool = False


class RobotsV1Api(RobotHandlers):
    """Handlers for a project's robots."""

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        root = "/projects/{project_name_or_id}/robots"
        return [
            on(root, get=self.list, post=self.create),
            on(f"{root}/{{robot_id}}", get=self.get, put=self.change, delete=self.delete),
        ]

    async def list(self, request: Request) -> Response:
        """Return the project's robots, newest first."""
        _, project = await self._access.project(request, "robot", "list")
        return await self._listed(request, read_query(request), project.name)

    async def create(self, request: Request) -> Response:
        """Make a robot, and show its secret this once."""
        caller, project = await self._access.project(request, "robot", "create")
        body = await read_body(request, _RobotV1Body)
        permissions = [{"kind": "project", "namespace": project.name, "access": _access_of(body, project)}]
        await self._settings.require_grantable(self._access, caller, permissions)
        made = await self._robots.create(
            NewRobot(
                name=body.name,
                level=catalog.PROJECT,
                description=body.description,
                duration_days=catalog.NEVER if body.expires_at == catalog.NEVER else 0,
                default_duration_days=await self._settings.duration_days(),
                permissions=permissions,
                expires_at_s=body.expires_at if body.expires_at > 0 else None,
            )
        )
        return await self._made(request, made, with_expiry=False)

    async def change(self, request: Request) -> Response:
        """Disable or enable a robot, and describe it otherwise; the rest stays as it is."""
        _, robot = await self._robot(request, "update")
        body = await read_body(request, _ChangeBody)
        changed = await self._robots.change(
            robot.id,
            description=robot.description if body.description is None else body.description,
            duration_days=robot.duration_days,
            default_duration_days=robot.duration_days,
            permissions=robot.permissions,
            disable=body.disable,
        )
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def _robot(self, request: Request, action: str) -> tuple[Caller, Robot]:
        caller, project = await self._access.project(request, "robot", action)
        number = path_id(request, "robot_id")
        robot = await self._access.read(lambda connection: accounts.find_robot_by_id(connection, number))
        if robot is None or robot.project != project.name:
            raise NotFound(f"resource not found: cannot find robot with project id: {project.id} and id: {number}")
        return caller, robot


def _access_of(body: _RobotV1Body, project: Project) -> list[dict[str, Any]]:
    """Return the accesses with resources relative to the project; raises Invalid for one that is not of the project."""
    if not body.access:
        raise Invalid("bad request empty access")
    found = []
    for access in body.access:
        of_project = [f"/project/{project.id}/", f"/project/{project.name}/"]
        root = next((one for one in of_project if access.resource.startswith(one)), None)
        if root is None:
            raise Invalid(f"bad request resource: {access.resource[:128]} is not of project {project.id}")
        found.append({"resource": access.resource.removeprefix(root), "action": access.action})
    return found
