"""What Harbor says of itself: /ping, /health and /systeminfo."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.auth.service import Guard
from twinhull.harbor.access import Access
from twinhull.harbor.requests import answer, on
from twinhull.web.middleware import OriginOf

# The Harbor whose API this is: clients choose their words by it.
HARBOR_VERSION: Final = "v2.2.4-1bc848b3"
_COMPONENTS: Final = ("core", "database", "jobservice", "portal", "redis", "registry", "registryctl")

Health = Callable[[], Awaitable[bool]]


class SystemApi:
    """Handlers for what everybody may know."""

    def __init__(
        self, *, access: Access, guard: Guard, is_healthy: Health, origin_of: OriginOf, external_url: str = ""
    ) -> None:
        """Take who knows settings and callers, what tells whether this node is well, and the address to show."""
        self._access = access
        self._guard = guard
        self._is_healthy = is_healthy
        self._origin_of = origin_of
        self._external_url = external_url

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/ping", get=self.ping),
            on("/health", get=self.health),
            on("/systeminfo", get=self.systeminfo),
        ]

    async def ping(self, _request: Request) -> Response:
        """Say that somebody is there."""
        return answer("Pong")

    async def health(self, _request: Request) -> Response:
        """Return the components' health. Harbor's are one here: they are well together or not at all."""
        status = "healthy" if await self._is_healthy() else "unhealthy"
        components = [{"name": name, "status": status} for name in _COMPONENTS]
        return answer({"status": status, "components": components})

    async def systeminfo(self, request: Request) -> Response:
        """Return what clients adapt to; the address and the rest only to those who are logged in."""
        caller = await self._access.caller(request)
        shown: dict[str, object] = {
            "auth_mode": "db_auth",
            "harbor_version": HARBOR_VERSION,
            "self_registration": bool(await self._guard.setting("self_registration")),
        }
        if not caller.is_anonymous:
            url = self._external_url or self._origin_of(request.scope)
            shown |= {
                "external_url": url,
                "registry_url": url.partition("://")[2],
                "project_creation_restriction": await self._guard.setting("project_creation_restriction"),
                "read_only": bool(await self._guard.setting("read_only")),
                "with_notary": False,
                "with_chartmuseum": False,
                "has_ca_root": False,
                "registry_storage_provider_name": "filesystem",
                "notification_enable": True,
            }
        return answer(dict(sorted(shown.items())))
