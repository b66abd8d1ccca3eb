"""Collections of garbage at Harbor's paths: /system/gc. Each node collects its own, so each shows its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from twinhull.catalog.collections import Collections
from twinhull.harbor.access import Access, path_id
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import answer, listed, nothing, on
from twinhull.kit.clock import rfc3339
from twinhull.kit.errors import Invalid, NotFound
from twinhull.metadata import garbage_collections as queries
from twinhull.metadata.accounts import Snapshot
from twinhull.metadata.garbage_collections import Collection, Order, Status, report_of

JOB_NAME: Final = "GARBAGE_COLLECTION"
WORKERS_MAX: Final = 10
_HOUR_S: Final = 3600.0
_LISTED_MAX: Final = 1000
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

    def __init__(self, *, access: Access, collections: Collections, grace_s: float) -> None:
        """Take what every handler needs, what orders collections, and the node's own grace."""
        self._access = access
        self._collections = collections
        self._grace_s = grace_s

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/system/gc", get=self.list),
            on("/system/gc/{gc_id}", get=self.get, put=self.stop),
            on("/system/gc/{gc_id}/log", get=self.log),
        ]

    async def list(self, request: Request) -> Response:
        """Return this node's collections, the newest first."""
        await self._access.admin(request)
        query = read_query(request)
        part = query.part

        def read(connection: Snapshot) -> tuple[list[Collection], int]:
            limit = _LISTED_MAX if part.limit is None else part.limit
            found = queries.latest_collections(connection, limit, offset=part.offset)
            return found, queries.count_collections(connection)

        found, total = await self._access.read(read)
        return listed(request, [self._view(one) for one in found], total=total, paging=query.paging)

    async def get(self, request: Request) -> Response:
        """Return a collection."""
        return answer(self._view(await self._collection(request)))

    async def stop(self, request: Request) -> Response:
        """Ask a collection to stop."""
        found = await self._collection(request)
        await self._collections.stop(found.id)
        return nothing()

    async def log(self, request: Request) -> Response:
        """Return what there is to say of a collection, as text."""
        found = await self._collection(request, "garbage collection {} log is not found")
        return PlainTextResponse(report_of(found))

    async def _collection(self, request: Request, message: str = "garbage collection execution {} not found") -> Collection:
        await self._access.admin(request)
        number = path_id(request, "gc_id", message="invalid gc_id")
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
            "job_name": JOB_NAME,
            "job_parameters": json.dumps(self._parameters(found.order), separators=(",", ":")),
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


def order_of(parameters: Mapping[str, Any], *, trigger: str = "manual") -> Order:
    """Return the order that a schedule's parameters describe, or raise Invalid.

    How many workers shall delete is Harbor's business: here one does, and the number is only checked.
    """
    flags = {name: parameters.get(name) or False for name in ("delete_untagged", "dry_run")}
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise Invalid(f"{name} must be true or false")
    workers = parameters.get("workers", 1)
    if not isinstance(workers, int) or isinstance(workers, bool):
        raise Invalid("workers should be integer format")
    if not 1 <= workers <= WORKERS_MAX:
        raise Invalid(
            f"Error: Invalid number of workers:{workers}. "
            f"Workers must be greater than 0 and less than or equal to {WORKERS_MAX}."
        )
    return Order(trigger=trigger, **flags)
