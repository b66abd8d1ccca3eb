"""What Harbor says of itself: /ping, /health and /systeminfo."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.auth.service import Guard
from twinhull.harbor.access import Access
from twinhull.harbor.requests import answer, on, on_older
from twinhull.kit.clock import Clock, rfc3339
from twinhull.web.middleware import OriginOf

_COMPONENTS: Final = ("core", "database", "jobservice", "portal", "redis", "registry", "registryctl")

Health = Callable[[], Awaitable[bool]]


class SystemApi:
    """Handlers for what everybody may know."""

    def __init__(
        self,
        *,
        access: Access,
        guard: Guard,
        is_healthy: Health,
        origin_of: OriginOf,
        clock: Clock,
        version: str,
        external_url: str = "",
    ) -> None:
        """Take who knows settings and callers, what tells whether this node is well, the time, version and address."""
        self._access = access
        self._guard = guard
        self._is_healthy = is_healthy
        self._origin_of = origin_of
        self._clock = clock
        self._version = version
        self._external_url = external_url

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/ping", get=self.ping),
            on_older("/health", get=self.health),
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
        shown = await self._public_info()
        if not caller.is_anonymous:
            shown |= await self._protected_info(request)
        return answer(dict(sorted(shown.items())))

    async def _public_info(self) -> dict[str, object]:
        """Return what the page for signing in needs."""
        auth_mode = await self._guard.setting("auth_mode")
        shown: dict[str, object] = {"auth_mode": auth_mode, "harbor_version": self._version}
        for name in ("self_registration", "primary_auth_mode"):
            shown[name] = bool(await self._guard.setting(name))
        if banner := await self._guard.setting("banner_message"):
            shown["banner_message"] = banner
        if auth_mode == "oidc_auth":
            shown["oidc_provider_name"] = await self._guard.setting("oidc_name")
        if auth_mode == "http_auth":
            shown["authproxy_settings"] = {
                # The second name is misspelt in Harbor's own description.
                "endpoint": await self._guard.setting("http_authproxy_endpoint"),
                "tokenreivew_endpoint": await self._guard.setting("http_authproxy_tokenreview_endpoint"),
                "skip_search": await self._guard.setting("http_authproxy_skip_search"),
                "verify_cert": await self._guard.setting("http_authproxy_verify_cert"),
                "server_certificate": await self._guard.setting("http_authproxy_server_certificate"),
            }
        return shown

    async def _protected_info(self, request: Request) -> dict[str, object]:
        url = self._external_url or self._origin_of(request.scope)
        return {
            "current_time": rfc3339(self._clock.unix_ms()),
            "external_url": url,
            "registry_url": url.partition("://")[2],
            "project_creation_restriction": await self._guard.setting("project_creation_restriction"),
            "read_only": bool(await self._guard.setting("read_only")),
            "with_notary": False,
            "with_chartmuseum": True,
            "has_ca_root": False,
            "registry_storage_provider_name": "filesystem",
            "notification_enable": bool(await self._guard.setting("notification_enable")),
        }
