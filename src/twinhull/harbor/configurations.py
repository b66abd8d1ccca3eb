"""The cluster-wide settings at Harbor's paths: /configurations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.configurations import AUTH_MODE, Configurations
from twinhull.harbor.access import Access
from twinhull.harbor.requests import answer, nothing, on_older, read_body

# An object that Harbor shows as a text of JSON since it describes it as one: typed clients read no setting otherwise.
_IN_A_TEXT: Final = "oidc_extra_redirect_parms"


class ConfigurationsApi:
    """Handlers for settings."""

    def __init__(self, *, access: Access, configurations: Configurations) -> None:
        """Take what every handler needs, and what keeps the settings."""
        self._access = access
        self._configurations = configurations

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [on_older("/configurations", get=self.get, put=self.change), on_older("/internalconfig", get=self.get)]

    async def get(self, request: Request) -> Response:
        """Return all settings but the secret ones, to administrators."""
        await self._access.admin(request, legacy=True)
        configuration = await self._configurations.all()
        shown = {
            name: {
                "value": json.dumps(value) if name == _IN_A_TEXT else value,
                "editable": name != AUTH_MODE or configuration.auth_mode_editable,
            }
            for name, value in configuration.values.items()
        }
        return answer(shown)

    async def change(self, request: Request) -> Response:
        """Set the given items, all or none, as an administrator."""
        await self._access.admin(request, legacy=True)
        sent = await read_body(request, dict[str, Any], legacy=True)
        changed = await self._configurations.change(sent)
        return nothing(headers=await self._access.settled(request, changed.seq))
