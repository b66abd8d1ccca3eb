"""Lists of names over HTTP: a repository's tags, and the catalog of repositories that the caller may see."""

from __future__ import annotations

from typing import Final

from twinhull.catalog.artifacts import Artifacts
from twinhull.registry.access import Access
from twinhull.registry.answers import json_answer
from twinhull.registry.target import Target
from twinhull.web.asgi import Answer, Request
from twinhull.web.identity import Caller
from twinhull.web.paging import next_link, parse_page

# Without `n` many clients take the first page for all there is, so it is a long one.
TAGS_PAGE_MAX: Final = 10_000


class TagHandlers:
    """The handlers of /v2/<name>/tags/list and /v2/_catalog."""

    def __init__(self, *, artifacts: Artifacts, access: Access) -> None:
        """Take what knows the names, and who knows which of them a caller may see."""
        self._artifacts = artifacts
        self._access = access

    async def tags(self, request: Request, target: Target, _caller: Caller) -> Answer:
        """Answer with the repository's tags in the order of their bytes."""
        page = parse_page(request.query("n"), request.query("last"), size_max=TAGS_PAGE_MAX)
        names = await self._artifacts.tags(target.repository, page.last, page.size + 1)
        shown = names[: page.size]
        document = {"name": target.repository, "tags": shown}
        if len(names) > page.size and shown:
            path = f"/v2/{target.repository}/tags/list"
            return json_answer(request, document, next_link(path, n=page.size, last=shown[-1]))
        return json_answer(request, document)

    async def catalog(self, request: Request, _target: Target, caller: Caller) -> Answer:
        """Answer with the names of the repositories that the caller may see."""
        page = parse_page(request.query("n"), request.query("last"))
        visible = await self._access.visible_projects(caller)
        names = await self._artifacts.repositories(page.last, page.size + 1, projects=visible)
        shown = names[: page.size]
        if len(names) > page.size and shown:
            return json_answer(request, {"repositories": shown}, next_link("/v2/_catalog", n=page.size, last=shown[-1]))
        return json_answer(request, {"repositories": shown})
