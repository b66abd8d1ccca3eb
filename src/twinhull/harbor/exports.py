"""Exports of what scanners have found, at Harbor's paths: /export/cve. Each is its maker's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.documents import Documents
from twinhull.harbor.access import Access, path_id
from twinhull.harbor.executions import execution_of
from twinhull.harbor.requests import answer, on, read_body
from twinhull.harbor.views import time_of
from twinhull.jobs.executions import note_not_run
from twinhull.kit.errors import Denied, Invalid, NotFound
from twinhull.metadata.accounts import find_project_by_id
from twinhull.metadata.executions import Execution, list_executions
from twinhull.metadata.filtering import Slice
from twinhull.metadata.transaction import Transaction
from twinhull.web.identity import Caller

VENDOR: Final = "SCAN_DATA_EXPORT"
DATA_TYPE: Final = "application/vnd.security.vulnerability.report; version=1.1"
# Said of each export: there is nothing to put into a file.
NOT_RUN: Final = "nothing was scanned, so there is nothing to export"
_LISTED: Final = Slice(limit=100)
_TEXT_LENGTH_MAX: Final = 4096


class _CriteriaBody(msgspec.Struct):
    job_name: str = ""
    projects: list[int] = []
    labels: list[int] = []
    repositories: str = ""
    cve_ids: str = msgspec.field(default="", name="cveIds")
    tags: str = ""


class ExportsApi:
    """Handlers for exports."""

    def __init__(self, *, access: Access, documents: Documents) -> None:
        """Take what every handler needs, and what writes executions."""
        self._access = access
        self._documents = documents

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/export/cve", post=self.start),
            on("/export/cve/executions", get=self.list),
            on("/export/cve/execution/{execution_id}", get=self.get),
            on("/export/cve/download/{execution_id}", get=self.download),
        ]

    async def start(self, request: Request) -> Response:
        """Write down that an export was asked for, and that there is nothing to export."""
        caller = await self._access.user(request)
        if request.headers.get("x-scan-data-type", "") != DATA_TYPE:
            raise Invalid(f"Unsupported MIME type : {request.headers.get('x-scan-data-type', '')[:128]}")
        body = await read_body(request, _CriteriaBody)
        await self._require(caller, body)
        name, number = caller.name, caller.subject.id if caller.subject is not None else 0

        def start(transaction: Transaction) -> int:
            fields = {"username": name, "criteria": msgspec.to_builtins(body)}
            return note_not_run(transaction, vendor_type=VENDOR, vendor_id=number, reason=NOT_RUN, fields=fields)

        made = await self._documents.write(start)
        return answer({"id": made.id}, headers=await self._access.settled(request, made.seq))

    async def list(self, request: Request) -> Response:
        """Return the caller's exports, the newest first."""
        caller = await self._access.user(request)
        number = caller.subject.id if caller.subject is not None else 0
        found, _ = await self._access.read(
            lambda connection: list_executions(connection, vendor_type=VENDOR, vendor_id=number, part=_LISTED)
        )
        return answer({"items": [_view(one) for one in found if one.fields.get("username") == caller.name]})

    async def get(self, request: Request) -> Response:
        """Return one of the caller's exports."""
        return answer(_view(await self._export(request)))

    async def download(self, request: Request) -> Response:
        """Say that there is no file."""
        found = await self._export(request)
        raise NotFound(f"execution with id: {found.id} has no file")

    async def _export(self, request: Request) -> Execution:
        caller = await self._access.user(request)
        number = path_id(request, "execution_id")
        found = await execution_of(self._access, number, vendors=(VENDOR,), missing=f"execution with id: {number} not found")
        if found.fields.get("username") != caller.name:
            raise Denied("forbidden")
        return found

    async def _require(self, caller: Caller, body: _CriteriaBody) -> None:
        """Raise Invalid for criteria that can't be, Denied for a project whose artifacts the caller may not have scanned."""
        if len(body.projects) != 1:
            raise Invalid("only one project can be exported at a time")
        for text in (body.repositories, body.tags, body.cve_ids):
            if " " in text or len(text) > _TEXT_LENGTH_MAX:
                raise Invalid("repositories, tags and CVEs must be without spaces, parted by commas")
        number = body.projects[0]
        project = await self._access.read(lambda connection: find_project_by_id(connection, number))
        if project is None:
            raise NotFound(f"project {number} not found")
        await self._access.require(caller, project, "scan", "create")


def _view(one: Execution) -> dict[str, Any]:
    return {
        "id": one.id,
        "user_id": one.vendor_id,
        "user_name": one.fields.get("username", ""),
        "status": one.status,
        "status_text": one.fields.get("status_message", ""),
        "trigger": one.trigger,
        "start_time": time_of(one.created_ms),
        "end_time": time_of(one.fields.get("ended_ms")),
        "file_present": False,
    }
