"""Purges of the audit log at Harbor's paths: /system/purgeaudit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from twinhull.catalog.documents import Documents
from twinhull.catalog.purges import VENDOR, begin_purge
from twinhull.catalog.schedules import PURGE_AUDIT, Schedules, find_schedule
from twinhull.harbor.access import Access, path_id
from twinhull.harbor.executions import execution_of
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import answer, listed, nothing, on
from twinhull.harbor.schedules import MANUAL, NONE, history_view, parameters_text, read_schedule
from twinhull.harbor.views import time_of
from twinhull.jobs.executions import ask_to_stop
from twinhull.kit.clock import Clock
from twinhull.kit.errors import Invalid
from twinhull.metadata.executions import Execution, list_executions, list_tasks

RETENTION_HOURS_MAX: Final = 240_000


class PurgesApi:
    """Handlers for purges."""

    def __init__(self, *, access: Access, documents: Documents, schedules: Schedules, clock: Clock) -> None:
        """Take what every handler needs, what writes executions and schedules, and the time."""
        self._access = access
        self._documents = documents
        self._schedules = schedules
        self._clock = clock

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/system/purgeaudit", get=self.list),
            on("/system/purgeaudit/schedule", get=self.schedule, post=self.create_schedule, put=self.change_schedule),
            on("/system/purgeaudit/{purge_id}", get=self.get, put=self.stop),
            on("/system/purgeaudit/{purge_id}/log", get=self.log),
        ]

    async def list(self, request: Request) -> Response:
        """Return the purges, the newest first."""
        await self._access.admin(request)
        query = read_query(request)
        found, total = await self._access.read(
            lambda connection: list_executions(connection, vendor_type=VENDOR, wanted=query.wanted, part=query.part)
        )
        return listed(request, [_view(one) for one in found], total=total, paging=query.paging)

    async def get(self, request: Request) -> Response:
        """Return a purge."""
        return answer(_view(await self._purge(request)))

    async def stop(self, request: Request) -> Response:
        """Ask a purge to stop; what has ended stays as it is."""
        found = await self._purge(request)
        asked = await self._documents.write(lambda inside: int(ask_to_stop(inside, found.node, found.id)))
        return nothing(headers=await self._access.settled(request, asked.seq))

    async def log(self, request: Request) -> Response:
        """Return what there is to say of a purge, as text."""
        found = await self._purge(request)
        tasks, _ = await self._access.read(lambda connection: list_tasks(connection, execution=found.id))
        texts = [found.fields.get("log", ""), *(one.fields.get("log", "") for one in tasks)]
        return PlainTextResponse(f"{time_of(found.created_ms)} purge was asked for\n" + "".join(map(str, texts)))

    async def schedule(self, request: Request) -> Response:
        """Return the schedule, or nothing where there is none."""
        await self._access.admin(request)
        found = await self._access.read(lambda connection: find_schedule(connection, PURGE_AUDIT))
        return answer(history_view(found, self._clock.unix_ms())) if found is not None else nothing()

    async def create_schedule(self, request: Request) -> Response:
        """Set the schedule, or with `Manual` begin a purge at once."""
        number, headers = await self._order(request)
        root = request.url.path.removesuffix("/schedule")
        return nothing(201, {**({"Location": f"{root}/{number}"} if number else {}), **headers})

    async def change_schedule(self, request: Request) -> Response:
        """Do the same; an answer to PUT has no Location."""
        _, headers = await self._order(request)
        return nothing(headers=headers)

    async def _order(self, request: Request) -> tuple[int, dict[str, str]]:
        await self._access.admin(request)
        body = await read_schedule(request)
        _require(body.parameters)
        kind = body.schedule.type
        if kind == MANUAL:
            made = await self._documents.write(lambda inside: begin_purge(inside, body.parameters))
            return made.id, await self._access.settled(request, made.seq)
        if kind == NONE:
            written = await self._schedules.clear(PURGE_AUDIT)
        else:
            written = await self._schedules.set(
                PURGE_AUDIT, kind=kind, cron=body.schedule.cron, parameters=body.parameters, what="log rotation purge"
            )
        return 0, await self._access.settled(request, written.seq)

    async def _purge(self, request: Request) -> Execution:
        await self._access.admin(request)
        number = path_id(request, "purge_id")
        return await execution_of(self._access, number, vendors=(VENDOR,), missing=f"purge job with id {number} not found")


def _require(parameters: Mapping[str, Any]) -> None:
    if not parameters:
        raise Invalid("schedule parameter cann't be empty")
    hours = parameters.get("audit_retention_hour")
    if hours is None:
        raise Invalid("audit_retention_hour should provide")
    if not isinstance(hours, int) or isinstance(hours, bool):
        raise Invalid("audit_retention_hour should be integer format")
    if not 0 <= hours <= RETENTION_HOURS_MAX:
        raise Invalid(f"audit_retention_hour should be less than {RETENTION_HOURS_MAX}")
    # What came first named operations, what came later events.
    if not any(isinstance(parameters.get(name), str) for name in ("include_event_types", "include_operations")):
        raise Invalid("include_event_types should provide")
    if not isinstance(parameters.get("dry_run", False), bool):
        raise Invalid("dry_run must be true or false")


def _view(one: Execution) -> dict[str, Any]:
    return {
        "creation_time": time_of(one.created_ms),
        "id": one.id,
        "job_kind": one.trigger,
        "job_name": VENDOR,
        "job_parameters": parameters_text(one.fields.get("parameters") or {}),
        "job_status": one.status,
        "schedule": {"type": one.trigger.title()},
        "update_time": time_of(one.updated_ms),
    }
