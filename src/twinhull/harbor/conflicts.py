"""Conflicts at Twinhull's own paths: what was written on several nodes at the same time, and what holds."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.documents import Documents
from twinhull.harbor.access import Access
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import answer, listed, nothing, on, query_bool
from twinhull.kit.errors import NotFound
from twinhull.metadata.conflicts import ConflictSeen, conflict_view, find_conflict, list_conflicts
from twinhull.records.kinds import SETTLED


class ConflictsApi:
    """Handlers for conflicts; for administrators alone."""

    def __init__(self, *, access: Access, documents: Documents) -> None:
        """Take what every handler needs, and what writes down that a conflict is seen to."""
        self._access = access
        self._documents = documents

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/conflicts", get=self.list),
            on("/conflicts/{conflict_id}", get=self.get),
            on("/conflicts/{conflict_id}/acknowledgement", put=self.acknowledge),
        ]

    async def list(self, request: Request) -> Response:
        """Return the conflicts that this node saw, newest first; `acknowledged` leaves those out that are, or are not."""
        await self._access.admin(request)
        query = read_query(request)
        settled = query_bool(request, "acknowledged")
        found, total = await self._access.read(
            lambda connection: list_conflicts(connection, settled=settled, wanted=query.wanted, part=query.part)
        )
        return listed(request, [conflict_view(one) for one in found], total=total, paging=query.paging)

    async def get(self, request: Request) -> Response:
        """Return one conflict."""
        await self._access.admin(request)
        return answer(conflict_view(await self._found(request)))

    async def acknowledge(self, request: Request) -> Response:
        """Write down, for all nodes, that the caller has seen to a conflict."""
        caller = await self._access.admin(request)
        conflict = await self._found(request)
        made = await self._documents.set(SETTLED, {"by": caller.name}, name=conflict.id)
        return nothing(headers=await self._access.settled(request, made.seq))

    async def _found(self, request: Request) -> ConflictSeen:
        identifier: str = request.path_params["conflict_id"]
        conflict = await self._access.read(lambda connection: find_conflict(connection, identifier))
        if conflict is None:
            raise NotFound(f"conflict {identifier[:64]} not found", hint="each node lists those that it saw")
        return conflict
