"""What can be shown beside an artifact, and labels on artifacts, at Harbor's paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.additions import Additions
from twinhull.catalog.labelling import Labelling
from twinhull.harbor.access import Access, path_id
from twinhull.harbor.errors import Unprocessable
from twinhull.harbor.places import ARTIFACT, Places
from twinhull.harbor.requests import nothing, on, read_body
from twinhull.kit.errors import Conflict, NotFound

_NAMES: Final = ("build_history", "values.yaml", "readme.md", "dependencies", "sbom", "license", "files")


class _LabelBody(msgspec.Struct):
    id: int = 0


class AdditionsApi:
    """Handlers for what can be shown beside an artifact."""

    def __init__(self, *, places: Places, additions: Additions) -> None:
        """Take what finds artifacts, and what looks into them."""
        self._places = places
        self._additions = additions

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [on(ARTIFACT + "/additions/{addition}", get=self.get)]

    async def get(self, request: Request) -> Response:
        """Return an addition, in a media type of its own."""
        name = request.path_params["addition"].lower()
        place, artifact = await self._places.artifact(request, "artifact-addition", "read")
        if name == "vulnerabilities":
            raise NotFound(f"no scanner registration configured for project: {place.project.id}")
        if name not in _NAMES:
            raise Unprocessable(f"addition in path should be one of [{' '.join(_NAMES)}]")
        found = await self._additions.addition(place.repository, artifact.digest, artifact.type, name)
        return Response(found.content, headers={"content-type": found.content_type})


class ArtifactLabelsApi:
    """Handlers for labels on artifacts."""

    def __init__(self, *, access: Access, places: Places, labelling: Labelling) -> None:
        """Take what every handler needs, what finds artifacts, and what puts labels on them."""
        self._access = access
        self._places = places
        self._labelling = labelling

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on(ARTIFACT + "/labels", post=self.add),
            on(ARTIFACT + "/labels/{label_id}", delete=self.remove),
        ]

    async def add(self, request: Request) -> Response:
        """Put a label on an artifact."""
        place, artifact = await self._places.artifact(request, "artifact-label", "create")
        body = await read_body(request, _LabelBody)
        try:
            seq = await self._labelling.add(place.repository, artifact.digest, body.id)
        except NotFound as error:
            raise NotFound(f"the reference tries to refer a non existing label {body.id} or artifact {artifact.id}") from error
        except Conflict as error:
            raise Conflict(f"label {body.id} is already added to the artifact {artifact.id}") from error
        return nothing(headers=await self._access.settled(request, seq))

    async def remove(self, request: Request) -> Response:
        """Take a label off an artifact."""
        place, artifact = await self._places.artifact(request, "artifact-label", "delete")
        label = path_id(request, "label_id")
        try:
            seq = await self._labelling.remove(place.repository, artifact.digest, label)
        except NotFound as error:
            raise NotFound(f"reference with label {label} and artifact {artifact.id} not found") from error
        return nothing(headers=await self._access.settled(request, seq))
