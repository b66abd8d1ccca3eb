"""What robot accounts may be given, at Harbor's path: /permissions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.auth.permissions import Grant, Role
from twinhull.auth.robot_permissions import IN_PROJECT, IN_SYSTEM
from twinhull.harbor.access import Access
from twinhull.harbor.requests import answer, on
from twinhull.kit.errors import Denied
from twinhull.metadata.groups import has_role_anywhere


class PermissionsApi:
    """Handlers for the list of permissions."""

    def __init__(self, access: Access) -> None:
        """Take what every handler needs."""
        self._access = access

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [on("/permissions", get=self.list)]

    async def list(self, request: Request) -> Response:
        """Return the permissions that there are, to administrators of the system or of any project: others make no robots."""
        caller = await self._access.logged_in(request)
        if not caller.is_admin and (
            caller.subject is None
            or caller.subject.is_robot
            or caller.token is not None
            or not await self._access.read(lambda connection: has_role_anywhere(connection, caller.name, Role.PROJECT_ADMIN))
        ):
            raise Denied("forbidden")
        return answer({"system": _shown(IN_SYSTEM if caller.is_admin else ()), "project": _shown(IN_PROJECT)})


def _shown(grants: Iterable[Grant]) -> list[dict[str, str]]:
    return [{"resource": grant.resource, "action": grant.action} for grant in grants]
