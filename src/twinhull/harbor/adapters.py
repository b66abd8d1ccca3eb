"""Which kinds of foreign registries an endpoint can be of: /replication/adapters and /replication/adapterinfos."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.adapters import ADAPTER_INFOS, ADAPTERS
from twinhull.harbor.access import Access
from twinhull.harbor.requests import answer, on_older


class AdaptersApi:
    """Handlers for the kinds."""

    def __init__(self, *, access: Access) -> None:
        """Take what every handler needs."""
        self._access = access

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [on_older("/replication/adapters", get=self.list), on_older("/replication/adapterinfos", get=self.infos)]

    async def list(self, request: Request) -> Response:
        """Return the kinds by name."""
        await self._access.admin(request)
        return answer(ADAPTERS)

    async def infos(self, request: Request) -> Response:
        """Return the addresses and kinds of credentials of those that have their own."""
        await self._access.admin(request)
        return answer(ADAPTER_INFOS)
