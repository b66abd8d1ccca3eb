"""Harbor's security hub: /security. What no scanner has looked at has no known weakness, and is not called scanned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.harbor.access import Access
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import answer, listed, on, query_bool
from twinhull.metadata.content import count_manifests

_COUNTS: Final = ("critical", "high", "low", "medium", "none", "unknown", "fixable", "scanned")


class SecurityApi:
    """Handlers for what scanners have found."""

    def __init__(self, *, access: Access) -> None:
        """Take what every handler needs."""
        self._access = access

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [on("/security/summary", get=self.summary), on("/security/vul", get=self.vulnerabilities)]

    async def summary(self, request: Request) -> Response:
        """Return how many weaknesses are known, and in how many of the artifacts that there are."""
        await self._access.admin(request)
        shown: dict[str, Any] = {f"{name}_cnt": 0 for name in _COUNTS}
        shown |= {"total_artifact": await self._access.read(count_manifests), "total_vuls": 0}
        for name, key in (("with_dangerous_cve", "dangerous_cves"), ("with_dangerous_artifact", "dangerous_artifacts")):
            if query_bool(request, name):
                shown[key] = []
        return answer(shown)

    async def vulnerabilities(self, request: Request) -> Response:
        """Return the known weaknesses."""
        await self._access.admin(request)
        query = read_query(request)
        return listed(request, [], total=0, paging=query.paging)
