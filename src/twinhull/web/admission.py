"""What every request has to pass before its face is asked, whoever sends it: no forged ones, and the read-only mode."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from twinhull.kit.errors import ReadOnlyMode
from twinhull.web.asgi import SAFE_METHODS, Scope
from twinhull.web.browsers import Sessions, carries_session

# Where browsers sign in and out: there requests are looked at more closely, with a session and without.
SIGN_IN: Final = "/c/"
# Writes that go on in read-only mode: the one that ends it, those that only let somebody in or out, and those that write
# nothing.
_ALLOWED: Final = (
    SIGN_IN,
    "/api/v2.0/configurations",
    "/api/v2.0/ldap/ping",
    "/api/v2.0/system/oidc/ping",
    "/api/v2.0/registries/ping",
    "/api/v2.0/scanners/ping",
    "/api/v2.0/system/gc",
)

Setting = Callable[[str], Awaitable[object]]


class Admission:
    """Lets requests through, or raises what they end with."""

    def __init__(self, setting: Setting, sessions: Sessions) -> None:
        """Take what knows the cluster-wide settings, and what knows true requests of a browser from forged ones."""
        self._setting = setting
        self._sessions = sessions

    async def __call__(self, scope: Scope) -> None:
        """Raise Denied for a forged request, ReadOnlyMode for a write while an administrator has forbidden writes."""
        path = str(scope["path"])
        if path.startswith(SIGN_IN) or carries_session(scope):
            self._sessions.protect(scope)
        if scope["method"] in SAFE_METHODS or path.startswith(_ALLOWED):
            return
        if await self._setting("read_only"):
            raise ReadOnlyMode
