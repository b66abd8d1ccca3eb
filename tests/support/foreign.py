"""A foreign registry and a scanner's adapter, played by a small server on loopback."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

USER: Final = "puller"
SECRET: Final = "S3cret-of-the-other-side"
_NOTES_LENGTH: Final = 600_000
_TOKEN: Final = "a-token"


class ForeignServer:
    """Answers what a registry (with basic credentials, or with tokens below /tokens), a Harbor and a scanner answer."""

    def __init__(self) -> None:
        """Begin with nobody having asked."""
        self.url = ""
        self.asked: list[str] = []

    def application(self) -> web.Application:
        """Return what answers."""
        application = web.Application()
        application.router.add_get("/v2/", self._by_password)
        application.router.add_get("/tokens/v2/", self._by_token)
        application.router.add_get("/token", self._token)
        application.router.add_get("/api/v2.0/projects", self._projects)
        application.router.add_get("/api/v1/metadata", self._metadata)
        application.router.add_get("/second/api/v1/metadata", self._metadata)
        application.router.add_get("/healthy", self._fine)
        return application

    async def _by_password(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        return web.Response(status=200 if _is_right(request) else 401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    async def _by_token(self, request: web.Request) -> web.Response:
        challenge = f'Bearer realm="{self.url}/token",service="other"'
        status = 200 if request.headers.get("Authorization") == f"Bearer {_TOKEN}" else 401
        return web.Response(status=status, headers={"WWW-Authenticate": challenge})

    async def _token(self, request: web.Request) -> web.Response:
        if not _is_right(request) or request.query.get("service") != "other":
            return web.json_response({}, status=401)
        return web.json_response({"token": _TOKEN})

    async def _projects(self, request: web.Request) -> web.Response:
        if not _is_right(request):
            return web.json_response({}, status=401)
        names = [name for name in ("library", "liberty", "other") if request.query.get("name", "") in name]
        return web.json_response([{"name": name} for name in names])

    async def _metadata(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization", "") not in ("", "Bearer right"):
            return web.json_response({}, status=401)
        scanner = {"name": "Looker", "vendor": "Us", "version": "1"}
        # More than comes in one piece.
        return web.json_response({"scanner": scanner, "capabilities": [], "properties": {"notes": "x" * _NOTES_LENGTH}})

    async def _fine(self, _request: web.Request) -> web.Response:
        return web.json_response({})


def _is_right(request: web.Request) -> bool:
    expected = "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
    return request.headers.get("Authorization") == expected


@asynccontextmanager
async def foreign_server() -> AsyncIterator[ForeignServer]:
    """Start one on a free port of loopback, and stop it at the end."""
    server = ForeignServer()
    runner = web.AppRunner(server.application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = "http://{}:{}".format(*runner.addresses[0][:2])
    try:
        yield server
    finally:
        await runner.cleanup()
