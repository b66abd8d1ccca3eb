"""What Harbor says of the disk and of the certificate it stands behind: /systeminfo/volumes and /systeminfo/getcert."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.harbor.access import Access
from twinhull.harbor.requests import answer, on
from twinhull.kit.errors import NotFound


class Volume(NamedTuple):
    """How large the data directory's file system is, and how much is left of it, in bytes."""

    total_bytes: int
    free_bytes: int


class StorageApi:
    """Handlers for what an operator wants to know of this node's disk."""

    def __init__(self, *, access: Access, volume: Callable[[], Volume]) -> None:
        """Take what every handler needs, and what looks at the disk; it runs in a thread."""
        self._access = access
        self._volume = volume

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [on("/systeminfo/volumes", get=self.volumes), on("/systeminfo/getcert", get=self.certificate)]

    async def volumes(self, request: Request) -> Response:
        """Return this node's volume."""
        await self._access.admin(request)
        volume = await self._access.read(lambda _connection: self._volume())
        return answer({"storage": [{"free": volume.free_bytes, "total": volume.total_bytes}]})

    async def certificate(self, _request: Request) -> Response:
        """Say that there is no CA certificate to trust: whoever set the entrance's certificate gives its CA away too."""
        raise NotFound("resource not found: this node has no CA certificate to hand out; ask whoever set the entrance's")
