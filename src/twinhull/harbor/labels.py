"""Labels at Harbor's paths: those of the whole system, and each project's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.documents import Documents, change_document, rename_document
from twinhull.harbor.access import LEGACY_UNAUTHORIZED, Access, legacy_id
from twinhull.harbor.queries import NEWEST_FIRST, read_query
from twinhull.harbor.requests import answer, listed, located, nothing, on_older, query_int, read_body
from twinhull.kit.clock import rfc3339
from twinhull.kit.errors import Conflict, Invalid, NotFound, Unauthenticated
from twinhull.metadata.accounts import Project, Snapshot, find_project, find_project_by_id
from twinhull.metadata.documents import Document, find_by_id, list_documents
from twinhull.metadata.filtering import NUL
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import LABEL
from twinhull.web.identity import Caller

GLOBAL: Final = "g"
PROJECT: Final = "p"
NAME_LENGTH_MAX: Final = 128
_TEXT_LENGTH_MAX: Final = 1024
_TAKEN: Final = "conflict label"


class _LabelBody(msgspec.Struct):
    name: str = ""
    description: str = ""
    color: str = ""
    scope: str = ""
    project_id: int = 0


class LabelsApi:
    """Handlers for labels."""

    def __init__(self, *, access: Access, documents: Documents) -> None:
        """Take what every handler needs, and what writes labels."""
        self._access = access
        self._documents = documents

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on_older("/labels", get=self.list, post=self.create),
            on_older("/labels/{label_id}", get=self.get, put=self.change, delete=self.delete),
        ]

    async def list(self, request: Request) -> Response:
        """Return the labels of the system, which anybody may see, or those of a project."""
        caller = await self._access.caller(request)
        scope = request.query_params.get("scope", "")
        if scope not in (GLOBAL, PROJECT):
            raise Invalid(f"invalid scope: {scope[:64]}")
        project = await self._project_asked_for(request, caller) if scope == PROJECT else None
        query = read_query(request, legacy=True, order=NEWEST_FIRST, by_name=True)

        def read(connection: Snapshot) -> tuple[list[dict[str, Any]], int]:
            name = project.name if project is not None else ""
            found, total = list_documents(connection, LABEL, project=name, wanted=query.wanted, part=query.part)
            return [label_view(one, project.id if project is not None else 0) for one in found], total

        shown, total = await self._access.read(read)
        return listed(request, shown, total=total, paging=query.paging)

    async def create(self, request: Request) -> Response:
        """Make a label of the system, or of a project."""
        caller = await self._access.logged_in(request, legacy=True)
        body = await read_body(request, _LabelBody, legacy=True)
        _require(body)
        project = await self._project_of(body.project_id) if body.scope == PROJECT else None
        if body.scope == PROJECT and project is None:
            raise Invalid(f"project {body.project_id} not found")
        await self._require(request, caller, project, "create")
        fields = {"description": body.description, "color": body.color}
        try:
            made = await self._documents.create(
                LABEL, fields, project=project.name if project is not None else "", name=body.name
            )
        except Conflict:
            raise Conflict(_TAKEN) from None
        return nothing(201, {**located(request, made.id), **await self._access.settled(request, made.seq)})

    async def get(self, request: Request) -> Response:
        """Return a label."""
        label, project = await self._label(request, "read")
        return answer(label_view(label, project.id if project is not None else 0))

    async def change(self, request: Request) -> Response:
        """Give a label another name, description and colour."""
        label, _ = await self._label(request, "update")
        body = await read_body(request, _LabelBody, legacy=True)
        _require(body, is_new=False)

        def change(transaction: Transaction) -> int:
            try:
                rename_document(transaction, LABEL, label.id, body.name)
            except Conflict:
                raise Conflict(_TAKEN) from None
            fields = {"description": body.description, "color": body.color}
            return change_document(transaction, LABEL, label.id, fields)

        changed = await self._documents.write(change)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def delete(self, request: Request) -> Response:
        """Delete a label; it goes from all artifacts that it is on."""
        label, _ = await self._label(request, "delete")
        deleted = await self._documents.delete(LABEL, label.id)
        return nothing(headers=await self._access.settled(request, deleted.seq))

    async def _label(self, request: Request, action: str) -> tuple[Document, Project | None]:
        caller = await self._access.caller(request)
        if caller.is_anonymous and action != "read":
            raise Unauthenticated(LEGACY_UNAUTHORIZED)
        number = legacy_id(request, "label_id")

        def read(connection: Snapshot) -> tuple[Document, Project | None]:
            label = find_by_id(connection, LABEL, number)
            if label is None:
                raise NotFound(f"label {number} not found")
            return label, find_project(connection, label.project) if label.project else None

        label, project = await self._access.read(read)
        await self._require(request, caller, project, action)
        return label, project

    async def _require(self, request: Request, caller: Caller, project: Project | None, action: str) -> None:
        """Let those through who may do this with a project's labels; with the system's, administrators alone."""
        if project is None:
            await self._access.admin(request)
            return
        await self._access.require(caller, project, "label", action, message=caller.name)

    async def _project_asked_for(self, request: Request, caller: Caller) -> Project:
        number = query_int(request, "project_id", 0, legacy=True)
        if number <= 0:
            raise Invalid("project_id is required")
        project = await self._project_of(number)
        if project is None:
            # Whether there is such a project is nobody's business but the members'.
            await self._access.admin(request, legacy=True)
            raise NotFound(f"project {number} not found")
        await self._access.require(caller, project, "label", "list", message=caller.name)
        return project

    async def _project_of(self, number: int) -> Project | None:
        return await self._access.read(lambda connection: find_project_by_id(connection, number))


def label_view(label: Document, project_id: int) -> dict[str, Any]:
    """Return a label as Harbor shows it; the id is 0 for the system's."""
    return {
        "id": label.id,
        "name": label.name,
        "description": label.fields.get("description", ""),
        "color": label.fields.get("color", ""),
        "scope": PROJECT if label.project else GLOBAL,
        "project_id": project_id,
        "creation_time": rfc3339(label.created_ms),
        "update_time": rfc3339(label.updated_ms),
        "deleted": False,
    }


def _require(body: _LabelBody, *, is_new: bool = True) -> None:
    if not body.name:
        raise Invalid("name cannot be empty \n")
    if len(body.name) > NAME_LENGTH_MAX:
        raise Invalid(f"name max length is {NAME_LENGTH_MAX} \n")
    if NUL in body.name + body.description + body.color or len(body.description + body.color) > _TEXT_LENGTH_MAX:
        raise Invalid("description or color is too long or no text")
    if is_new and body.scope not in (GLOBAL, PROJECT):
        raise Invalid(f"scope invalid: {body.scope[:64]} \n")
    if is_new and body.scope == PROJECT and body.project_id <= 0:
        raise Invalid(f"project_id invalid: {body.project_id} \n")
