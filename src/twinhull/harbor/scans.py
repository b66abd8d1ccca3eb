"""Scans of artifacts, one by one and all at once, at Harbor's paths. Without a scanner they are refused as in Harbor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal
from urllib.parse import unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.scanners import all_scanners, scanner_of
from twinhull.catalog.schedules import SCAN_ALL, Schedules, find_schedule
from twinhull.harbor.access import Access
from twinhull.harbor.requests import answer, nothing, on, read_body
from twinhull.harbor.schedules import MANUAL, NONE, ScheduleBody, read_schedule, schedule_view
from twinhull.kit.clock import Clock
from twinhull.kit.errors import Invalid, NotFound, PreconditionFailed
from twinhull.kit.reference import is_digest
from twinhull.metadata.accounts import Project, Snapshot
from twinhull.metadata.content import digest_of_tag, manifest

_NO_SCANNER: Final = "no scanner is configured, it's not possible to scan"
NOT_RUN: Final = "this release keeps scanners and does not scan"


class _ScanBody(msgspec.Struct):
    scan_type: Literal["vulnerability", "sbom"] = "vulnerability"


class ScansApi:
    """Handlers for scans."""

    def __init__(self, *, access: Access, schedules: Schedules, clock: Clock) -> None:
        """Take what every handler needs, what writes schedules, and the time."""
        self._access = access
        self._schedules = schedules
        self._clock = clock

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        artifact = "/projects/{project_name_or_id}/repositories/{repository_name:path}/artifacts/{reference}"
        return [
            on(artifact + "/scan", post=self.scan),
            on(artifact + "/scan/stop", post=self.stop),
            on(artifact + "/scan/{report_id}/log", get=self.log),
            on("/scans/all/metrics", get=self.metrics),
            on("/scans/schedule/metrics", get=self.metrics),
            on("/system/scanAll/schedule", get=self.schedule, post=self.create_schedule, put=self.change_schedule),
            on("/system/scanAll/stop", post=self.stop_all),
        ]

    # -- one -------------------------------------------------------------------------------------------------------

    async def scan(self, request: Request) -> Response:
        """Refuse to scan: for want of a scanner, or because this release does not."""
        project = await self._artifact(request, "create")
        if request.headers.get("content-length", "0") != "0":
            await read_body(request, _ScanBody)
        scanner = await self._access.read(lambda connection: scanner_of(connection, project))
        raise PreconditionFailed(f"no available scanner for project: {project.id}" if scanner is None else NOT_RUN)

    async def stop(self, request: Request) -> Response:
        """Stop the scans of an artifact; there are none."""
        await self._artifact(request, "create")
        await read_body(request, _ScanBody)
        return nothing(202)

    async def log(self, request: Request) -> Response:
        """Return what a scan wrote; there is none."""
        await self._artifact(request, "read")
        raise NotFound(f"report with uuid {request.path_params['report_id'][:200]} does not exist")

    # -- all -------------------------------------------------------------------------------------------------------

    async def metrics(self, request: Request) -> Response:
        """Return how far the scan of all artifacts has come."""
        await self._require_scanner(request)
        return answer({"total": 0, "completed": 0, "metrics": {}, "ongoing": False})

    async def schedule(self, request: Request) -> Response:
        """Return the schedule; an empty object where there is none."""
        await self._require_scanner(request)
        found = await self._access.read(lambda connection: find_schedule(connection, SCAN_ALL))
        return answer({} if found is None else schedule_view(found, self._clock.unix_ms()))

    async def create_schedule(self, request: Request) -> Response:
        """Set the schedule where there is none."""
        body = await self._schedule_of(request)
        if body.schedule.type == MANUAL:
            raise PreconditionFailed(NOT_RUN)
        if body.schedule.type == NONE:
            return nothing(201)
        if await self._access.read(lambda connection: find_schedule(connection, SCAN_ALL)) is not None:
            raise PreconditionFailed(
                "fail to set schedule for scan all as always had one, please delete it firstly then to re-schedule"
            )
        return nothing(201, await self._set(request, body))

    async def change_schedule(self, request: Request) -> Response:
        """Set the schedule anew, or take it away."""
        body = await self._schedule_of(request)
        if body.schedule.type == MANUAL:
            raise Invalid(f"fail to update scan all schedule as wrong schedule type: {MANUAL}")
        return nothing(headers=await self._set(request, body))

    async def stop_all(self, request: Request) -> Response:
        """Say that no scan of all artifacts is under way."""
        await self._access.admin(request)
        raise Invalid("no scan all job is found currently")

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _set(self, request: Request, body: ScheduleBody) -> dict[str, str]:
        when = body.schedule
        if when.type == NONE:
            written = await self._schedules.clear(SCAN_ALL)
        else:
            written = await self._schedules.set(SCAN_ALL, kind=when.type, cron=when.cron, parameters={}, what="scan all")
        return await self._access.settled(request, written.seq)

    async def _schedule_of(self, request: Request) -> ScheduleBody:
        """Return what an administrator asks for; whether it can be read is said before whether there is a scanner."""
        await self._access.admin(request)
        body = await read_schedule(request)
        await self._require_scanner(request)
        return body

    async def _require_scanner(self, request: Request) -> None:
        await self._access.admin(request)
        if not await self._access.read(all_scanners):
            raise PreconditionFailed(_NO_SCANNER)

    async def _artifact(self, request: Request, action: str) -> Project:
        """Return the project of the artifact that the path names, or raise NotFound."""
        _, project = await self._access.project(request, "scan", action)
        repository = f"{project.name}/{unquote(request.path_params['repository_name'])}"
        reference = request.path_params["reference"]

        def read(connection: Snapshot) -> None:
            by_digest = is_digest(reference)
            digest = reference if by_digest else digest_of_tag(connection, repository, reference)
            if digest is None or manifest(connection, repository, digest) is None:
                separator = "@" if by_digest else ":"
                raise NotFound(f"artifact {repository[:255]}{separator}{reference[:255]} not found")

        await self._access.read(read)
        return project
