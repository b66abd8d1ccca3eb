"""Search over projects and repositories, statistics, and icons of artifacts, at Harbor's paths."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.auth.subjects import visible_to
from twinhull.catalog.icons import Icons
from twinhull.harbor.access import Access
from twinhull.harbor.content_views import found_project_view, found_repository_view
from twinhull.harbor.requests import answer, on
from twinhull.harbor.views import Json
from twinhull.kit.errors import Unauthenticated
from twinhull.metadata import accounts, repositories
from twinhull.metadata.accounts import Project, Snapshot
from twinhull.metadata.documents import pulls_of_repositories
from twinhull.metadata.filtering import Slice
from twinhull.web.identity import Caller

# So many of each are shown; who wants more asks the lists.
FOUND_MAX: Final = 500


class SearchApi:
    """Handlers for what goes over all projects."""

    def __init__(self, *, access: Access, icons: Icons) -> None:
        """Take what every handler needs, and who knows the icons."""
        self._access = access
        self._icons = icons

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/search", get=self.search),
            on("/statistics", get=self.statistics),
            on("/icons/{digest}", get=self.icon),
        ]

    async def search(self, request: Request) -> Response:
        """Return projects and repositories with the text in their names, of those that the caller may see."""
        caller = await self._access.caller(request)
        text = request.query_params.get("q", "")
        visible = await self._access.visible_projects(caller)
        found = await self._access.read(lambda connection: _found(connection, caller, text, visible))
        return answer(found)

    async def statistics(self, request: Request) -> Response:
        """Return how many projects and repositories there are: private ones of the caller, and public ones."""
        caller = await self._access.caller(request)
        if caller.is_anonymous:
            raise Unauthenticated("UnAuthorized")
        visible = await self._access.visible_projects(caller)
        return answer(await self._access.read(lambda connection: _statistics(connection, visible)))

    async def icon(self, request: Request) -> Response:
        """Return a picture, in base64: one of those for all artifacts of a type, or one that somebody pushed."""
        caller = await self._access.caller(request)
        visible = await self._access.visible_projects(caller)
        found = await self._icons.icon(request.path_params["digest"], visible)
        return answer({"content": base64.b64encode(found.content).decode(), "content-type": found.content_type})


def _found(connection: Snapshot, caller: Caller, text: str, visible: frozenset[str] | None) -> Json:
    wanted = replace(visible_to(caller.subject if caller.token is None else None), name_part=text)
    projects, _ = accounts.list_projects(connection, wanted, part=Slice(limit=FOUND_MAX))
    found = repositories.search_repositories(connection, text, in_projects=visible, limit=FOUND_MAX)
    pulls = pulls_of_repositories(connection, [each.name for each in found])
    return {
        "project": _project_views(connection, projects, caller),
        "repository": [
            found_repository_view(each, pulls=pulls[each.name].pulls if each.name in pulls else 0) for each in found
        ],
    }


def _project_views(connection: Snapshot, projects: Sequence[Project], caller: Caller) -> list[Json]:
    names = [project.name for project in projects]
    owners = accounts.ids_of_users(connection, {project.owner for project in projects})
    counts = accounts.count_repositories(connection, names)
    is_user = caller.subject is not None and not caller.subject.is_robot and caller.token is None
    roles = accounts.roles_of(connection, caller.name, names) if is_user else {}
    if caller.is_admin:
        roles = dict.fromkeys(names, 1)
    return [
        found_project_view(
            project,
            owner_id=owners.get(project.owner, 0),
            role=roles.get(project.name),
            repositories=counts.get(project.name, 0),
        )
        for project in projects
    ]


def _statistics(connection: Snapshot, visible: frozenset[str] | None) -> Json:
    projects = repositories.count_projects_by_visibility(connection, names=visible)
    stored = repositories.count_repositories_by_visibility(connection, in_projects=visible)
    shown: Json = {
        "private_project_count": projects.get(False, 0),
        "private_repo_count": stored.get(False, 0),
        "public_project_count": projects.get(True, 0),
        "public_repo_count": stored.get(True, 0),
    }
    if visible is None:
        shown["total_project_count"] = sum(projects.values())
        shown["total_repo_count"] = sum(stored.values())
        shown["total_storage_consumption"] = repositories.stored_bytes(connection)
    return shown
