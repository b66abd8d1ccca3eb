"""Harbor's paths for its own services that administrators call as well: /api/internal."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.configurations import Configurations
from twinhull.harbor.access import Access
from twinhull.harbor.requests import nothing, on, read_body
from twinhull.kit.errors import Unauthenticated


class _SwitchBody(msgspec.Struct):
    enabled: bool = False


class InternalApi:
    """Handlers of what is not described and is called all the same."""

    def __init__(self, *, access: Access, configurations: Configurations) -> None:
        """Take what every handler needs, and what writes settings."""
        self._access = access
        self._configurations = configurations

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes, relative to /api/internal."""
        return [
            on("/configurations", get=self.configurations),
            on("/switchquota", put=self.switch_quota),
            on("/syncquota", post=self.sync_quota),
        ]

    async def configurations(self, _request: Request) -> Response:
        """Refuse: in Harbor a secret of its job service opens this, and there is none here."""
        raise Unauthenticated("UnAuthorized")

    async def switch_quota(self, request: Request) -> Response:
        """Switch the quotas of projects on or off."""
        await self._access.admin(request, legacy=True)
        body = await read_body(request, _SwitchBody, legacy=True)
        changed = await self._configurations.change({"quota_per_project_enable": body.enabled})
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def sync_quota(self, request: Request) -> Response:
        """Do nothing: what a project uses is counted in the transactions that change it, and is never out of step."""
        await self._access.admin(request, legacy=True)
        return nothing()
