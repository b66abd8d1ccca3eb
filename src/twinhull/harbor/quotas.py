"""How much projects may store and do store, at Harbor's paths: /quotas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.quotas import STORAGE, Quotas
from twinhull.harbor.access import Access, is_id, legacy_id
from twinhull.harbor.queries import ListQuery, read_query
from twinhull.harbor.requests import answer, listed, nothing, on_older, read_body
from twinhull.kit.clock import rfc3339
from twinhull.kit.errors import NotFound
from twinhull.metadata import accounts
from twinhull.metadata.accounts import Project, Snapshot
from twinhull.metadata.documents import Document, find_by_id, list_documents
from twinhull.metadata.filtering import EVERYTHING, Wanted, plain
from twinhull.metadata.usage import UNLIMITED, used_by
from twinhull.records.kinds import QUOTA

Json = dict[str, Any]

_HARD: Final = plain("hard.storage")
_USED: Final = plain("used.storage")


class _QuotaBody(msgspec.Struct):
    hard: dict[str, Any] = {}


class QuotasApi:
    """Handlers for quotas."""

    def __init__(self, *, access: Access, quotas: Quotas) -> None:
        """Take what every handler needs, and what changes limits."""
        self._access = access
        self._quotas = quotas

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [on_older("/quotas", get=self.list), on_older("/quotas/{id}", get=self.get, put=self.change)]

    async def list(self, request: Request) -> Response:
        """Return the quotas, newest first or as asked, to administrators."""
        await self._access.admin(request, legacy=True)
        query = read_query(request, legacy=True)
        reference, number = request.query_params.get("reference", "project"), request.query_params.get("reference_id", "")
        if reference not in ("", "project") or (number and not is_id(number)):
            return listed(request, [], total=0, paging=query.paging)
        shown, total = await self._access.read(lambda connection: _listed(connection, query, int(number) if number else None))
        return listed(request, shown, total=total, paging=query.paging)

    async def get(self, request: Request) -> Response:
        """Return a quota, to administrators; what it is of is not told, as in Harbor 2.2."""
        await self._access.admin(request, legacy=True)
        number = legacy_id(request, "id")

        def read(connection: Snapshot) -> Json | None:
            document = find_by_id(connection, QUOTA, number)
            return _views(connection, [document])[0] | {"ref": None} if document is not None else None

        shown = await self._access.read(read)
        if shown is None:
            raise NotFound(f"quota {number} not found")
        return answer(shown)

    async def change(self, request: Request) -> Response:
        """Set a project's limit, as an administrator."""
        await self._access.admin(request, legacy=True)
        number = legacy_id(request, "id")
        body = await read_body(request, _QuotaBody, legacy=True)
        changed = await self._quotas.change(number, body.hard)
        return nothing(headers=await self._access.settled(request, changed.seq))


def _listed(connection: Snapshot, query: ListQuery, project_id: int | None) -> tuple[list[Json], int]:
    order = query.wanted.order or (("id", True),)
    project: Project | None = None
    if project_id is not None:
        project = accounts.find_project_by_id(connection, project_id)
        if project is None:
            return [], 0
    name = project.name if project is not None else None
    by_amount = [(key, descending) for key, descending in order if key in (_HARD, _USED)]
    part = EVERYTHING if by_amount else query.part
    documents, total = list_documents(connection, QUOTA, project=name, wanted=Wanted(order=order), part=part)
    views = _views(connection, documents)
    for key, descending in reversed(by_amount):
        kind = "hard" if key == _HARD else "used"
        views.sort(key=lambda view: view[kind][STORAGE], reverse=descending)
    if by_amount:
        end = query.part.offset + query.part.limit if query.part.limit is not None else None
        views = views[query.part.offset : end]
    return views, total


def _views(connection: Snapshot, documents: Sequence[Document]) -> list[Json]:
    names = [document.project for document in documents]
    used = used_by(connection, names)
    projects = accounts.find_projects(connection, names)
    return [
        {
            "id": document.id,
            "ref": _ref(projects.get(document.project)),
            "creation_time": rfc3339(document.created_ms),
            "update_time": rfc3339(document.updated_ms),
            "hard": {STORAGE: document.fields.get("storage", UNLIMITED)},
            "used": {STORAGE: used.get(document.project, 0)},
        }
        for document in documents
    ]


def _ref(project: Project | None) -> Json | None:
    if project is None:
        return None
    return {"id": project.id, "name": project.name, "owner_name": project.owner}
