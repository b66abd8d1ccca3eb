"""What every request has to pass before its face is asked, whoever sends it: the read-only mode."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from twinhull.kit.errors import ReadOnlyMode
from twinhull.web.asgi import Scope

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# Writes that go on in read-only mode: the one that ends it, those that only let somebody in or out, and those that write
# nothing.
_ALLOWED: Final = (
    "/api/v2.0/configurations",
    "/c/",
    "/api/v2.0/ldap/ping",
    "/api/v2.0/system/oidc/ping",
    "/api/v2.0/registries/ping",
    "/api/v2.0/scanners/ping",
    "/api/v2.0/system/gc",
)

Setting = Callable[[str], Awaitable[object]]


class Admission:
    """Lets requests through, or raises what they end with."""

    def __init__(self, setting: Setting) -> None:
        """Take what knows the cluster-wide settings."""
        self._setting = setting

    async def __call__(self, scope: Scope) -> None:
        """Raise ReadOnlyMode for a write while an administrator has forbidden writes."""
        if scope["method"] in SAFE or str(scope["path"]).startswith(_ALLOWED):
            return
        if await self._setting("read_only"):
            raise ReadOnlyMode
