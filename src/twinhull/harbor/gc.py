"""Collections of garbage at Harbor's paths: /system/gc. Each node collects its own, and shows those of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from twinhull.catalog.collections import Collections, order_of
from twinhull.catalog.schedules import GC, Schedules, find_schedule
from twinhull.harbor.access import Access, path_id
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import answer, listed, nothing, on
from twinhull.harbor.schedules import MANUAL, NONE, ScheduleBody, history_view, parameters_text, read_schedule
from twinhull.jobs import garbage_collections as queries
from twinhull.jobs.garbage_collections import Collection, Order, Status, report_of
from twinhull.kit.clock import Clock, rfc3339
from twinhull.kit.errors import NotFound

_HOUR_S: Final = 3600.0
_STATUSES: Final = {
    Status.PENDING: "Pending",
    Status.RUNNING: "Running",
    Status.STOPPING: "Running",
    Status.STOPPED: "Stopped",
    Status.DONE: "Success",
    Status.FAILED: "Error",
}


class GcApi:
    """Handlers for collections."""

    def __init__(self, *, access: Access, collections: Collections, schedules: Schedules, clock: Clock, grace_s: float) -> None:
        """Take what every handler needs, what orders collections, now and by schedule, the time, and the node's own grace."""
        self._access = access
        self._collections = collections
        self._schedules = schedules
        self._clock = clock
        self._grace_s = grace_s

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/system/gc", get=self.list),
            on("/system/gc/schedule", get=self.schedule, post=self.create_schedule, put=self.change_schedule),
            on("/system/gc/{gc_id}", get=self.get, put=self.stop),
            on("/system/gc/{gc_id}/log", get=self.log),
        ]

    async def list(self, request: Request) -> Response:
        """Return all nodes' collections, the newest first."""
        await self._access.admin(request)
        query = read_query(request)
        found, total = await self._access.read(lambda connection: queries.list_collections(connection, query.part))
        return listed(request, [self._view(one) for one in found], total=total, paging=query.paging)

    async def get(self, request: Request) -> Response:
        """Return a collection."""
        return answer(self._view(await self._collection(request)))

    async def stop(self, request: Request) -> Response:
        """Ask a collection to stop, on whichever node it is."""
        found = await self._collection(request)
        asked = await self._collections.stop(found.id)
        return nothing(headers=await self._access.settled(request, asked.seq))

    async def log(self, request: Request) -> Response:
        """Return what there is to say of a collection, as text."""
        found = await self._collection(request, "garbage collection {} log is not found")
        return PlainTextResponse(report_of(found))

    async def schedule(self, request: Request) -> Response:
        """Return the schedule, or nothing where there is none."""
        await self._access.admin(request)
        found = await self._access.read(lambda connection: find_schedule(connection, GC))
        return answer(history_view(found, self._clock.unix_ms())) if found is not None else nothing()

    async def create_schedule(self, request: Request) -> Response:
        """Order a collection on this node at once, or set the schedule by which every node collects."""
        await self._access.admin(request)
        body = await read_schedule(request)
        if body.schedule.type != MANUAL:
            return nothing(201, await self._set(request, body))
        made = await self._collections.order(order_of(body.parameters))
        location = f"{request.url.path.removesuffix('/schedule')}/{made.id}"
        return nothing(201, {"Location": location, **await self._access.settled(request, made.seq)})

    async def change_schedule(self, request: Request) -> Response:
        """Do the same as create_schedule; an answer to PUT has no Location."""
        await self._access.admin(request)
        body = await read_schedule(request)
        if body.schedule.type != MANUAL:
            return nothing(headers=await self._set(request, body))
        made = await self._collections.order(order_of(body.parameters))
        return nothing(headers=await self._access.settled(request, made.seq))

    async def _set(self, request: Request, body: ScheduleBody) -> dict[str, str]:
        if body.schedule.type == NONE:
            written = await self._schedules.clear(GC)
        else:
            order_of(body.parameters)
            written = await self._schedules.set(
                GC, kind=body.schedule.type, cron=body.schedule.cron, parameters=body.parameters, what="gc"
            )
        return await self._access.settled(request, written.seq)

    async def _collection(self, request: Request, message: str = "garbage collection execution {} not found") -> Collection:
        await self._access.admin(request)
        number = path_id(request, "gc_id")
        try:
            return await self._access.read(lambda connection: queries.collection(connection, number))
        except NotFound:
            raise NotFound(message.format(number)) from None

    def _view(self, found: Collection) -> dict[str, Any]:
        kind = found.order.trigger.upper()
        return {
            "creation_time": rfc3339(found.asked_ms),
            "id": found.id,
            "job_kind": kind,
            "job_name": queries.VENDOR,
            "job_parameters": parameters_text(self._parameters(found.order)),
            "job_status": _STATUSES[found.status],
            "schedule": {"type": kind.title()},
            "update_time": rfc3339(found.ended_ms or found.started_ms or found.asked_ms),
        }

    def _parameters(self, order: Order) -> dict[str, Any]:
        grace_s = self._grace_s if order.grace_s is None else order.grace_s
        hours = grace_s / _HOUR_S
        return {
            "delete_untagged": order.delete_untagged,
            "dry_run": order.dry_run,
            "time_window": int(hours) if hours.is_integer() else hours,
        }
