"""Repositories at Harbor's paths: lists, descriptions, deletion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.repositories import Repositories
from twinhull.harbor.access import Access
from twinhull.harbor.content_views import repository_view
from twinhull.harbor.places import REPOSITORY, Places
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import answer, listed, nothing, on, read_body
from twinhull.harbor.views import Json
from twinhull.kit.errors import RepositoryUnknown
from twinhull.metadata import repositories as queries
from twinhull.metadata.accounts import Snapshot
from twinhull.metadata.documents import pulls_of_repositories
from twinhull.metadata.repositories import Repository


class _RepositoryBody(msgspec.Struct):
    description: str = ""


class RepositoriesApi:
    """Handlers for repositories."""

    def __init__(self, *, access: Access, places: Places, repositories: Repositories) -> None:
        """Take what every handler needs, what finds repositories, and what writes them."""
        self._access = access
        self._places = places
        self._repositories = repositories

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/repositories", get=self.list_all),
            on("/projects/{project_name}/repositories", get=self.list),
            on(REPOSITORY, get=self.get, put=self.change, delete=self.delete),
        ]

    async def list_all(self, request: Request) -> Response:
        """Return the repositories of all projects that the caller may see."""
        caller = await self._access.caller(request)
        return await self._listed(request, await self._access.visible_projects(caller))

    async def list(self, request: Request) -> Response:
        """Return a project's repositories, newest first."""
        _, project = await self._places.project(request, "repository", "list")
        return await self._listed(request, [project.name])

    async def get(self, request: Request) -> Response:
        """Return a repository to those who may list it, as in Harbor: to anybody in a public project."""
        place = await self._places.repository(request, "repository", "list")

        def read(connection: Snapshot) -> list[Json]:
            found = queries.find_repository(connection, place.repository)
            return _views(connection, [found]) if found is not None else []

        shown = await self._access.read(read)
        if not shown:
            raise RepositoryUnknown(f"repository {place.repository} not found")
        return answer(shown[0])

    async def change(self, request: Request) -> Response:
        """Set a repository's description."""
        place = await self._places.repository(request, "repository", "update")
        body = await read_body(request, _RepositoryBody)
        seq = await self._repositories.describe(place.repository, body.description)
        return nothing(headers=await self._access.settled(request, seq))

    async def delete(self, request: Request) -> Response:
        """Delete a repository with all that is in it."""
        place = await self._places.repository(request, "repository", "delete")
        seq = await self._repositories.delete(place.repository)
        return nothing(headers=await self._access.settled(request, seq))

    async def _listed(self, request: Request, in_projects: Iterable[str] | None) -> Response:
        query = read_query(request)

        def read(connection: Snapshot) -> tuple[list[Json], int]:
            found, total = queries.list_repositories(connection, in_projects=in_projects, wanted=query.wanted, part=query.part)
            return _views(connection, found), total

        shown, total = await self._access.read(read)
        return listed(request, shown, total=total, paging=query.paging)


def _views(connection: Snapshot, found: Sequence[Repository]) -> list[Json]:
    pulls = pulls_of_repositories(connection, [each.name for each in found])
    return [repository_view(each, pulls=pulls[each.name].pulls if each.name in pulls else 0) for each in found]
