"""What is set for robot accounts of both generations, and what those who make them may give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from twinhull.auth.robot_permissions import GRANTABLE_IN_PROJECT
from twinhull.auth.service import Guard
from twinhull.auth.subjects import permission_of
from twinhull.harbor.access import Access
from twinhull.kit.errors import Denied
from twinhull.web.identity import Caller

_DURATION_DAYS: Final = 30


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
