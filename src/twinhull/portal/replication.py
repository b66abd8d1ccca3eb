"""`/api/twinhull/v1/replication?digest=…`: on which nodes an image or blob is, for pipelines that must know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from twinhull.kit.digest import Digest, parse_digest
from twinhull.kit.errors import NotFound, Unauthenticated
from twinhull.metadata.places import Place
from twinhull.web.identity import Caller, Identity

# Given a digest, it returns each repository that has it, and what belongs to it there.
PlacesOf = Callable[[Digest], Awaitable[Sequence[Place]]]
# Given what belongs to it, it returns per node what is there.
Locate = Callable[[Place], Awaitable[Sequence[dict[str, Any]]]]


class ReplicationApi:
    """The handler. For administrators, and for whoever may pull it."""

    def __init__(self, *, places_of: PlacesOf, locate: Locate, identity: Identity) -> None:
        """Take what knows where a digest is named, what asks the nodes, and who knows callers."""
        self._places_of = places_of
        self._locate = locate
        self._identity = identity

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [Route("/replication", self.get, methods=["GET"])]

    async def get(self, request: Request) -> Response:
        """Return, for each node, whether the records and all bytes of a digest are there; `repository` narrows it down."""
        caller = await self._identity.who(request.scope)
        digest = parse_digest(request.query_params.get("digest", ""))
        wanted = request.query_params.get("repository", "")
        place = await self._first_visible(caller, digest, wanted)
        nodes = await self._locate(place)
        document = {
            "digest": digest,
            "repository": place.repository,
            "everywhere": all(node["metadata"] and node["bytes"] for node in nodes),
            "nodes": nodes,
        }
        return Response(msgspec.json.encode(document), media_type="application/json", headers={"Cache-Control": "no-store"})

    async def _first_visible(self, caller: Caller, digest: Digest, wanted: str) -> Place:
        for place in await self._places_of(digest):
            if wanted in ("", place.repository) and (
                caller.is_admin or await self._identity.may(caller, "pull", place.repository)
            ):
                return place
        if caller.is_anonymous:
            raise Unauthenticated
        # As if it were not there: who may not pull it does not learn that it is.
        raise NotFound(f"no repository that you may pull from has {digest}")
