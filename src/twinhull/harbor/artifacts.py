"""Artifacts at Harbor's paths: lists with all that can be shown beside them, copies, deletion, accessories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.attributes import Attributes
from twinhull.catalog.immutability import NO_RULES, rules_of
from twinhull.catalog.media import INDEX_TYPES
from twinhull.catalog.repositories import Repositories
from twinhull.catalog.tagging import Copy, Tagging
from twinhull.harbor.access import Access
from twinhull.harbor.content_views import Details, accessory_view, artifact_view
from twinhull.harbor.errors import Unprocessable
from twinhull.harbor.places import ARTIFACT, REPOSITORY, Places
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import answer, listed, located, nothing, on, query_bool
from twinhull.harbor.views import Json
from twinhull.kit.errors import Invalid, NotFound, TagInvalid
from twinhull.kit.reference import parse_reference, parse_repository, project_of
from twinhull.metadata import artifact_parts as parts
from twinhull.metadata import artifacts as queries
from twinhull.metadata.accounts import Project, Snapshot
from twinhull.metadata.artifact_parts import NEVER_PULLED
from twinhull.metadata.artifacts import Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a client wants to see beside artifacts."""

    tags: bool
    labels: bool
    accessories: bool
    immutability: bool

    @classmethod
    def of(cls, request: Request) -> Self:
        """Return what the query says."""
        return cls(
            tags=query_bool(request, "with_tag") is not False,
            labels=query_bool(request, "with_label") is True,
            accessories=query_bool(request, "with_accessory") is True,
            immutability=query_bool(request, "with_immutable_status") is True,
        )


class ArtifactsApi:
    """Handlers for artifacts."""

    def __init__(
        self,
        *,
        access: Access,
        places: Places,
        repositories: Repositories,
        tagging: Tagging,
        attributes: Attributes,
    ) -> None:
        """Take what every handler needs, what finds artifacts, deletes them, copies them, and reads their configurations."""
        self._attributes = attributes
        self._access = access
        self._places = places
        self._repositories = repositories
        self._tagging = tagging

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/projects/{project_name_or_id}/artifacts", get=self.list_of_project),
            on(REPOSITORY + "/artifacts", get=self.list, post=self.copy),
            on(ARTIFACT, get=self.get, delete=self.delete),
            on(ARTIFACT + "/accessories", get=self.accessories),
        ]

    async def list(self, request: Request) -> Response:
        """Return a repository's artifacts, newest first."""
        place = await self._places.repository(request, "artifact", "list")
        return await self._listed(request, place.project, repository=place.repository)

    async def list_of_project(self, request: Request) -> Response:
        """Return the artifacts of all repositories of a project, newest first."""
        _, project = await self._access.project(request, "artifact", "list")
        return await self._listed(request, project)

    async def get(self, request: Request) -> Response:
        """Return an artifact."""
        place, artifact = await self._places.artifact(request, "artifact", "read")
        wishes = Wishes.of(request)
        shown = await self._access.read(lambda connection: artifact_views(connection, [artifact], place.project, wishes))
        await self._complete([artifact], shown)
        return answer(shown[0])

    async def delete(self, request: Request) -> Response:
        """Delete an artifact with its tags and what belongs to it."""
        place, artifact = await self._places.artifact(request, "artifact", "delete")
        seq = await self._repositories.delete_artifact(place.repository, artifact.digest)
        return nothing(headers=await self._access.settled(request, seq))

    async def copy(self, request: Request) -> Response:
        """Put an artifact that is in another repository into this one."""
        place = await self._places.repository(request, "artifact", "create")
        wanted = request.query_params.get("from", "")
        if not wanted:
            raise Unprocessable("from in query is required")
        source, reference = _parse_source(wanted)
        await self._places.named_project(place.caller, project_of(source), "artifact", "read")
        try:
            artifact = await self._places.artifact_at(source, reference)
        except NotFound as error:
            raise Invalid(error.message) from error
        seq = await self._tagging.copy(
            Copy(source=source, digest=artifact.digest, target=place.repository, copied_by=place.caller.name)
        )
        return nothing(201, {**located(request, reference), **await self._access.settled(request, seq)})

    async def accessories(self, request: Request) -> Response:
        """Return what belongs to an artifact."""
        place, artifact = await self._places.artifact(request, "artifact", "list")
        query = read_query(request)
        found, total = await self._access.read(
            lambda connection: parts.list_accessories(
                connection, place.repository, artifact.digest, wanted=query.wanted, part=query.part
            )
        )
        return listed(request, [accessory_view(each, artifact) for each in found], total=total, paging=query.paging)

    async def _listed(self, request: Request, project: Project, *, repository: str = "") -> Response:
        query, wishes = read_query(request), Wishes.of(request)
        latest_only = query_bool(request, "latest_in_repository") is True

        def read(connection: Snapshot) -> tuple[list[Artifact], list[Json], int]:
            found, total = queries.list_artifacts(
                connection,
                repository=repository,
                project="" if repository else project.name,
                latest_only=latest_only,
                wanted=query.wanted,
                part=query.part,
            )
            return found, artifact_views(connection, found, project, wishes), total

        found, shown, total = await self._access.read(read)
        await self._complete(found, shown)
        return listed(request, shown, total=total, paging=query.paging)

    async def _complete(self, found: Sequence[Artifact], shown: Sequence[Json]) -> None:
        """Add the attributes that no record has."""
        missing = await self._attributes.missing(found)
        for artifact, view in zip(found, shown, strict=True):
            if artifact.digest in missing:
                view["extra_attrs"] = queries.decoded(missing[artifact.digest])


def artifact_views(connection: Snapshot, found: Sequence[Artifact], project: Project, wishes: Wishes) -> list[Json]:
    """Return artifacts of a project with what is wanted beside them; the number of queries does not depend on how many."""
    keys = [artifact.key for artifact in found]
    indexes = [artifact.key for artifact in found if artifact.media_type in INDEX_TYPES]
    tags = parts.tags_of_artifacts(connection, keys) if wishes.tags else {}
    labels = parts.labels_of_artifacts(connection, keys) if wishes.labels else {}
    rules = rules_of(connection, project.name) if wishes.immutability else NO_RULES
    pulls = parts.pulls_of_artifacts(connection, keys)
    accessories = parts.accessories_of_artifacts(connection, keys) if wishes.accessories else {}
    children = parts.children_of_artifacts(connection, indexes)
    contents = parts.contents_of(connection, [digest for _, digest in indexes]) if indexes else {}
    return [
        artifact_view(
            artifact,
            Details(
                project_id=project.id,
                tags=tags.get(artifact.key),
                labels=labels.get(artifact.key),
                accessories=accessories.get(artifact.key),
                rules=rules,
                pulled=pulls.get(artifact.key, NEVER_PULLED),
                children=children.get(artifact.key, ()),
                content=contents.get(artifact.digest, b""),
            ),
        )
        for artifact in found
    ]


def _parse_source(text: str) -> tuple[str, str]:
    repository, at, digest = text.partition("@")
    if not at:
        repository, _, digest = text.rpartition(":")
    try:
        return parse_repository(repository), str(parse_reference(digest))
    except (Invalid, TagInvalid) as error:
        raise Invalid(f"invalid input: {text[:400]}") from error
