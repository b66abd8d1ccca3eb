"""Tags of artifacts at Harbor's paths."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.immutability import NO_RULES, rules_of
from twinhull.catalog.repositories import Repositories
from twinhull.catalog.tagging import Tagging
from twinhull.harbor.access import Access
from twinhull.harbor.content_views import tag_view
from twinhull.harbor.places import ARTIFACT, Places
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import listed, nothing, on, query_bool, read_body
from twinhull.harbor.views import Json
from twinhull.kit.errors import ManifestUnknown, NotFound
from twinhull.metadata import artifact_parts as queries
from twinhull.metadata.accounts import Snapshot
from twinhull.metadata.artifact_parts import NEVER_PULLED


class _TagBody(msgspec.Struct):
    name: str = ""


class TagsApi:
    """Handlers for an artifact's tags."""

    def __init__(self, *, access: Access, places: Places, repositories: Repositories, tagging: Tagging) -> None:
        """Take what every handler needs, what finds artifacts, what deletes tags, and what makes them."""
        self._access = access
        self._places = places
        self._repositories = repositories
        self._tagging = tagging

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on(ARTIFACT + "/tags", get=self.list, post=self.create),
            on(ARTIFACT + "/tags/{tag_name}", delete=self.delete),
        ]

    async def list(self, request: Request) -> Response:
        """Return an artifact's tags, newest first."""
        place, artifact = await self._places.artifact(request, "tag", "list")
        query = read_query(request)
        with_immutability = query_bool(request, "with_immutable_status") is True

        def read(connection: Snapshot) -> tuple[list[Json], int]:
            found, total = queries.list_tags(
                connection, place.repository, artifact.digest, wanted=query.wanted, part=query.part
            )
            pulled = queries.pulls_of_artifacts(connection, [artifact.key]).get(artifact.key, NEVER_PULLED)
            rules = rules_of(connection, place.project.name) if with_immutability else NO_RULES
            return [tag_view(tag, artifact, pulled, rules) for tag in found], total

        shown, total = await self._access.read(read)
        return listed(request, shown, total=total, paging=query.paging)

    async def create(self, request: Request) -> Response:
        """Give an artifact a further tag."""
        place, artifact = await self._places.artifact(request, "tag", "create")
        body = await read_body(request, _TagBody)
        seq = await self._tagging.tag(place.repository, artifact.digest, body.name, tagged_by=place.caller.name)
        return nothing(201, await self._access.settled(request, seq))

    async def delete(self, request: Request) -> Response:
        """Delete a tag; the artifact stays."""
        place, artifact = await self._places.artifact(request, "tag", "delete")
        tag = request.path_params["tag_name"]
        try:
            seq = await self._repositories.delete_tag(place.repository, artifact.digest, tag)
        except ManifestUnknown as error:
            raise NotFound(f"tag {tag} attached to artifact {artifact.id} not found") from error
        return nothing(headers=await self._access.settled(request, seq))
