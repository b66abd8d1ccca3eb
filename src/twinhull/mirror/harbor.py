"""A foreign Harbor as one side of a replication: content by /v2/, and by its API what only that says or does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import msgspec

from twinhull.catalog.foreign import Endpoint
from twinhull.kit.digest import Digest
from twinhull.kit.errors import RegistryLacks, RegistryRefused, RegistryRejected
from twinhull.kit.reference import is_digest, project_of
from twinhull.mirror.authorizing import basic
from twinhull.mirror.plain import PlainRegistry
from twinhull.mirror.registry_line import RegistryLine
from twinhull.mirror.selection import Candidate, Selection

_ROOT: Final = "/api/v2.0"
# As many as Harbor gives at once.
_PAGE: Final = 100
_PAGES_MAX: Final = 100_000
_DONE: Final = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT)


class HarborRegistry(PlainRegistry):
    """Source and destination; also any Twinhull cluster that is not this one."""

    def __init__(self, endpoint: Endpoint, *, by_chunk: bool = False, homes: dict[Digest, str] | None = None) -> None:
        """Take what PlainRegistry takes."""
        super().__init__(endpoint, by_chunk=by_chunk, homes=homes)
        # On a line of its own: the API takes the credentials as they are, and /v2/ wants tokens for them.
        self._api = RegistryLine(endpoint, endpoint.url.rstrip("/"))
        self._credentials = basic(endpoint)
        # Projects that are known to be there.
        self._there: set[str] = set()

    async def close(self) -> None:
        """Hang up."""
        await self._api.close()
        await super().close()

    async def projects_like(self, part: str) -> list[str]:
        """Return the names of the first projects that this caller may see and whose name contains that."""
        return [str(one["name"]) for one in await self._page(f"/projects?name={quote(part, safe='')}&", 1) if "name" in one]

    # -- source ----------------------------------------------------------------------------------------------------

    async def repositories(self, selection: Selection) -> AsyncIterator[str]:
        """Yield the repositories that the filters name, else those that they take of all that this caller may see."""
        if selection.repositories is not None:
            for name in selection.repositories:
                yield name
            return
        async for project in self._projects(selection):
            async for one in self._listed(f"/projects/{quote(project, safe='')}/repositories"):
                name = str(one.get("name", ""))
                if project_of(name) == project and selection.takes(name):
                    yield name

    async def candidates(self, repository: str) -> AsyncIterator[Candidate]:
        """Yield the artifacts that lists show; a repository that is not there has none."""
        if not await self._has_project(project_of(repository)):
            return
        async for one in self._listed(f"{_path_of(repository)}/artifacts?with_tag=true&with_label=true"):
            tags, labels = one.get("tags") or [], one.get("labels") or []
            yield Candidate(
                digest=str(one.get("digest", "")),
                tags=tuple(sorted(str(tag["name"]) for tag in tags if isinstance(tag, dict) and tag.get("name"))),
                labels=frozenset(str(label.get("name", "")) for label in labels if isinstance(label, dict)),
                type=str(one.get("type", "")),
            )

    async def is_public(self, repository: str) -> bool:
        """Tell whether everybody may pull from the repository's project; False where this caller may not know."""
        path = f"/projects/{quote(project_of(repository), safe='')}"
        try:
            async with self._asked("GET", path, headers={"X-Is-Resource-Name": "true"}) as response:
                document = await self._api.json(response)
        except (RegistryLacks, RegistryRefused):
            return False
        metadata = document.get("metadata") if isinstance(document, dict) else None
        return isinstance(metadata, dict) and metadata.get("public") == "true"

    async def digest(self, repository: str, reference: str) -> Digest | None:
        """Return the digest that a tag names, or the digest itself; None when it is not there."""
        try:
            return await super().digest(repository, reference)
        except RegistryRefused:
            # So it answers also for a project that is not there.
            if await self._has_project(project_of(repository)):
                raise
            return None

    # -- destination -----------------------------------------------------------------------------------------------

    async def prepare(self, repository: str, *, public: bool) -> None:
        """Make the repository's project if it is not there; who may not make any has to have it already."""
        name = project_of(repository)
        if await self._has_project(name):
            return
        body = msgspec.json.encode({"project_name": name, "metadata": {"public": "true" if public else "false"}})
        try:
            async with self._asked("POST", "/projects", headers={"Content-Type": "application/json"}, data=body) as response:
                if response.status not in (*_DONE, HTTPStatus.CONFLICT):
                    raise await self._rejected(response, f"a project {name}")
        except RegistryRefused as error:
            raise RegistryRefused(error.message, hint=f"make the project {name} there, or use an account that may") from error
        self._there.add(name)

    async def delete(self, repository: str, reference: str) -> bool:
        """Delete a tag alone, or the artifact of a digest with what belongs to it; False when it was not there."""
        digest = await self.digest(repository, reference)
        if digest is None:
            return False
        path = f"{_path_of(repository)}/artifacts/{digest}"
        path += "" if is_digest(reference) else f"/tags/{quote(reference, safe='')}"
        try:
            async with self._asked("DELETE", path) as response:
                if response.status not in _DONE:
                    raise await self._rejected(response, f"the deletion of {repository} {reference}")
        except RegistryLacks:
            return False
        return True

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _has_project(self, name: str) -> bool:
        """Tell whether there is such a project, or may be, since this caller is not told: a robot account, say."""
        if name in self._there:
            return True
        try:
            async with self._asked("HEAD", f"/projects?project_name={quote(name, safe='')}") as response:
                if response.status == HTTPStatus.OK:
                    self._there.add(name)
        except RegistryLacks:
            return False
        except RegistryRefused:
            # Whether the credentials are good for anything is seen by the next request.
            return True
        return name in self._there

    async def _projects(self, selection: Selection) -> AsyncIterator[str]:
        if selection.projects is not None:
            for name in selection.projects:
                if await self._has_project(name):
                    yield name
            return
        async for one in self._listed("/projects"):
            yield str(one.get("name", ""))

    async def _listed(self, path: str) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the entries of a list, page after page; none of what is not there."""
        mark = "&" if "?" in path else "?"
        for number in range(1, _PAGES_MAX):
            try:
                entries = await self._page(f"{path}{mark}", number)
            except RegistryLacks:
                return
            for one in entries:
                yield one
            if len(entries) < _PAGE:
                return

    async def _page(self, path: str, number: int) -> Sequence[Mapping[str, Any]]:
        async with self._asked("GET", f"{path}page={number}&page_size={_PAGE}") as response:
            page = await self._api.json(response)
        return [one for one in page if isinstance(one, dict)] if isinstance(page, list) else []

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, data: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        sent = {**self._credentials, **(headers or {})}
        async with self._api.request(method, _ROOT + path, headers=sent, data=data) as response:
            yield response

    async def _rejected(self, response: aiohttp.ClientResponse, what: str) -> RegistryRejected:
        said = await self._api.said(response)
        return RegistryRejected(f"registry {self.url} does not take {what}: {response.status}{said}")


def _path_of(repository: str) -> str:
    """Return the path of a repository in the API, where a slash in its name is escaped twice."""
    project, _, name = repository.partition("/")
    return f"/projects/{quote(project, safe='')}/repositories/{quote(quote(name, safe=''), safe='')}"
