"""What both generations of paths for robot accounts have in common: settings, rights, and the handlers that are the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from twinhull.auth.robot_permissions import GRANTABLE_IN_PROJECT
from twinhull.auth.service import Guard
from twinhull.auth.subjects import permission_of
from twinhull.catalog.robots import MadeRobot, Robots
from twinhull.harbor import views
from twinhull.harbor.access import Access
from twinhull.harbor.queries import ListQuery
from twinhull.harbor.requests import answer, listed, located, nothing
from twinhull.kit.clock import rfc3339
from twinhull.kit.errors import Denied
from twinhull.metadata import accounts
from twinhull.metadata.accounts import Robot
from twinhull.web.identity import Caller

_DURATION_DAYS: Final = 30


class AccessBody(msgspec.Struct, omit_defaults=True):
    """One action on one kind of resource."""

    resource: str = ""
    action: str = ""
    effect: str = ""


class RobotSettings:
    """Answers from the cluster-wide settings."""

    def __init__(self, guard: Guard) -> None:
        """Take who knows them."""
        self._guard = guard

    async def prefix(self) -> str:
        """Return what stands before the name of a robot that signs in."""
        return str(await self._guard.setting("robot_name_prefix"))

    async def duration_days(self) -> int:
        """Return how long a robot lives for which nobody says it."""
        days = await self._guard.setting("robot_token_duration")
        return days if isinstance(days, int) and days > 0 else _DURATION_DAYS

    async def require_grantable(self, access: Access, caller: Caller, permissions: Sequence[Mapping[str, Any]]) -> None:
        """Raise Denied when a robot would get more than the one who makes it may do, or may hand on.

        A robot gives no more than it has itself. Of people, administrators of the system may give anything; others what a
        robot of their project may have at all, so that no robot becomes a way around its maker's removal.
        """
        if caller.subject is None or caller.is_admin:
            return
        for permission in map(permission_of, permissions):
            own = await access.rights(caller, permission.namespace)
            allowed = own.grants if caller.subject.is_robot else own.grants | GRANTABLE_IN_PROJECT
            if not permission.grants <= allowed:
                raise Denied("forbidden")


class RobotHandlers(ABC):
    """The handlers that both generations have, each with its own way to find a robot."""

    def __init__(self, *, access: Access, robots: Robots, settings: RobotSettings) -> None:
        """Take what every handler needs, what writes robots, and what is set for them."""
        self._access = access
        self._robots = robots
        self._settings = settings

    async def get(self, request: Request) -> Response:
        """Return a robot."""
        _, robot = await self._robot(request, "read")
        return answer(views.robot_view(robot, await self._settings.prefix()))

    async def delete(self, request: Request) -> Response:
        """Delete a robot."""
        _, robot = await self._robot(request, "delete")
        deleted = await self._robots.delete(robot.id)
        return nothing(headers=await self._access.settled(request, deleted.seq))

    @abstractmethod
    async def _robot(self, request: Request, action: str) -> tuple[Caller, Robot]:
        """Return the caller, who may do this, and the robot that the path names; raises NotFound, Unauthenticated or Denied."""

    async def _listed(self, request: Request, query: ListQuery, project: str) -> Response:
        robots, total = await self._access.read(
            lambda connection: accounts.list_robots(connection, project=project, wanted=query.wanted, part=query.part)
        )
        prefix = await self._settings.prefix()
        return listed(request, [views.robot_view(robot, prefix) for robot in robots], total=total, paging=query.paging)

    async def _made(self, request: Request, made: MadeRobot, *, with_expiry: bool) -> Response:
        shown: views.Json = {
            "creation_time": rfc3339(made.created_ms),
            "id": made.id,
            "name": await self._settings.prefix() + made.key,
            "secret": made.secret,
        }
        if with_expiry:
            shown["expires_at"] = made.expires_at_s
        headers = {**located(request, made.id), **await self._access.settled(request, made.seq)}
        return answer(shown, status=201, headers=headers)
