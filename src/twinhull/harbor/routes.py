"""All routes of the management API, in the order in which they are tried; each subject has a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from twinhull.harbor.access import path_not_found
from twinhull.harbor.requests import answer, on


class Subject(Protocol):
    """A part of the API."""

    def routes(self) -> Sequence[BaseRoute]:
        """Return its routes, relative to the API's root."""
        ...


def management_routes(*subjects: Subject) -> list[BaseRoute]:
    """Return the routes below /api/v2.0; what none of them takes is answered with 404 in Harbor's words."""
    return [route for subject in subjects for route in subject.routes()] + [Route("/{path:path}", _NotFound())]


def version_routes() -> list[BaseRoute]:
    """Return the route that tells which version of the API this is."""
    return [on("/api/version", get=_version)]


async def _version(_request: Request) -> Response:
    return answer({"version": "v2.0"})


class _NotFound:
    """Stands at all paths that are nobody's, whatever the method."""

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        raise path_not_found(Request(scope, receive))
