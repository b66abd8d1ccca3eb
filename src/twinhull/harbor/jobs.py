"""Harbor's dashboard of its job service: /jobservice. Its jobs are collections of garbage, and the tasks of executions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from twinhull.catalog.collections import Collections
from twinhull.catalog.documents import Documents
from twinhull.catalog.events import VENDOR as WEBHOOK_JOB
from twinhull.catalog.replication import VENDOR as REPLICATION_JOB
from twinhull.catalog.schedules import GC, PURGE_AUDIT, SCAN_ALL, Schedule, all_schedules
from twinhull.harbor.access import Access, is_id
from twinhull.harbor.executions import job_id_of
from twinhull.harbor.requests import answer, listed, nothing, on, read_body, read_paging
from twinhull.jobs import garbage_collections as queries
from twinhull.jobs.executions import ask_to_stop
from twinhull.jobs.garbage_collections import VENDOR as JOB_NAME
from twinhull.jobs.garbage_collections import Collection, Status, report_of
from twinhull.kit.clock import Clock, rfc3339
from twinhull.kit.errors import Invalid, NotFound, PreconditionFailed
from twinhull.metadata.accounts import Snapshot
from twinhull.metadata.executions import Execution, Task, Waiting, all_unfinished, find_task, waiting_tasks
from twinhull.metadata.transaction import Transaction

_JOB_PREFIX: Final = "gc-"
_ALL: Final = "all"
# What else has a queue: everything that is told or copied.
_QUEUES: Final = (WEBHOOK_JOB, REPLICATION_JOB)
_LOOKED_AT: Final = 200
_VENDORS: Final = {GC: JOB_NAME, PURGE_AUDIT: "PURGE_AUDIT_LOG", SCAN_ALL: "SCAN_ALL"}


class _ActionBody(msgspec.Struct):
    action: Literal["stop", "pause", "resume"] = "stop"


def _ask_all(page: Sequence[Execution], inside: Transaction) -> int:
    return sum(ask_to_stop(inside, one.node, one.id) for one in page)


class JobsApi:
    """Handlers for the dashboard: a node is a pool with one worker, and a collection is a job, and so is a task."""

    def __init__(
        self,
        *,
        access: Access,
        collections: Collections,
        documents: Documents,
        clock: Clock,
        node: str,
        host: str,
        pid: int,
    ) -> None:
        """Take what every handler needs, what stops collections and executions, the time, and what is shown of this node."""
        self._documents = documents
        self._access = access
        self._collections = collections
        self._clock = clock
        self._node = node
        self._host = host
        self._pid = pid
        self._started_ms = clock.unix_ms()

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/jobservice/pools", get=self.pools),
            on("/jobservice/pools/{pool_id}/workers", get=self.workers),
            on("/jobservice/jobs/{job_id}", put=self.stop_job),
            on("/jobservice/jobs/{job_id}/log", get=self.job_log),
            on("/jobservice/queues", get=self.queues),
            on("/jobservice/queues/{job_type}", put=self.change_queue),
            on("/schedules", get=self.schedules),
            on("/schedules/{job_type}/paused", get=self.paused),
        ]

    async def pools(self, request: Request) -> Response:
        """Return this node as a pool of workers."""
        await self._access.admin(request)
        pool = {
            "concurrency": 1,
            "heartbeat_at": rfc3339(self._clock.unix_ms()),
            "host": self._host,
            "pid": self._pid,
            "start_at": rfc3339(self._started_ms),
            "worker_pool_id": self._node,
        }
        return answer([pool])

    async def workers(self, request: Request) -> Response:
        """Return the pool's worker, and the collection that it is at."""
        await self._access.admin(request)
        pool = request.path_params["pool_id"]
        if pool not in (self._node, _ALL):
            raise NotFound(f"worker pool {pool[:200]} not found")
        worker: dict[str, Any] = {"id": f"{self._node}-{_JOB_PREFIX}worker", "pool_id": self._node}
        running = [one for one in await self._open() if one.status is not Status.PENDING]
        if running:
            began = rfc3339(running[0].started_ms)
            worker |= {"check_in": "", "checkin_at": began, "job_id": _job_id(running[0]), "job_name": JOB_NAME}
            worker["start_at"] = began
        return answer([worker])

    async def stop_job(self, request: Request) -> Response:
        """Ask a job to stop, or all of them."""
        await self._access.admin(request)
        name = request.path_params["job_id"]
        if name == _ALL:
            for one in await self._open():
                await self._collections.stop(one.id)
            await self._stop_executions(_QUEUES)
        elif name.startswith(_JOB_PREFIX):
            await self._collections.stop((await self._job(request)).id)
        else:
            task = await self._task(request)
            await self._documents.write(lambda inside: int(ask_to_stop(inside, task.node, task.execution_id)))
        return nothing()

    async def job_log(self, request: Request) -> Response:
        """Return what there is to say of a job, as text."""
        await self._access.admin(request)
        if request.path_params["job_id"].startswith(_JOB_PREFIX):
            return PlainTextResponse(report_of(await self._job(request)))
        return PlainTextResponse(str((await self._task(request)).fields.get("log", "")))

    async def queues(self, request: Request) -> Response:
        """Return the queues: how many wait in each, on this node for collections and else on all, and for how long by now."""
        await self._access.admin(request)
        asked = [one.asked_ms for one in await self._open() if one.status is Status.PENDING]
        found = {**await self._access.read(waiting_tasks), JOB_NAME: Waiting(len(asked), min(asked, default=0))}
        return answer([self._queue_view(name, found.get(name, Waiting(0, 0))) for name in (JOB_NAME, *_QUEUES)])

    async def change_queue(self, request: Request) -> Response:
        """Stop what waits in a queue. There is no way to pause one: it is said, not pretended."""
        await self._access.admin(request)
        body = await read_body(request, _ActionBody)
        name = request.path_params["job_type"].upper()
        if name not in (JOB_NAME, *_QUEUES, _ALL.upper()):
            raise NotFound(f"job type {name[:200]} not found")
        if body.action == "pause":
            raise PreconditionFailed("queues can not be paused; set the schedule of what fills them to None")
        if body.action == "stop":
            await self._stop_executions([one for one in _QUEUES if name in (one, _ALL.upper())])
            for one in await self._open() if name not in _QUEUES else ():
                if one.status is Status.PENDING:
                    await self._collections.stop(one.id)
        return nothing()

    async def schedules(self, request: Request) -> Response:
        """Return what is done by schedule, and when."""
        await self._access.admin(request)
        paging = read_paging(request)
        found = await self._access.read(all_schedules)
        part = paging.part
        shown = found[part.offset :][: part.limit]
        return listed(request, [_schedule_view(one) for one in shown], total=len(found), paging=paging)

    async def paused(self, request: Request) -> Response:
        """Say that no schedule is held up."""
        await self._access.logged_in(request)
        if request.path_params["job_type"].lower() != _ALL:
            raise Invalid("job_type can only be 'all'")
        return answer({"paused": False})

    def _queue_view(self, name: str, waiting: Waiting) -> dict[str, Any]:
        latency_ms = self._clock.unix_ms() - waiting.since_ms if waiting.total else 0
        return {"count": waiting.total, "job_type": name, "latency": latency_ms // 1000, "paused": False}

    async def _stop_executions(self, vendors: Sequence[str]) -> None:
        """Ask all executions to stop, some at a time, so that other writers get their turn."""
        last = 0
        while vendors and (page := await self._access.read(partial(all_unfinished, vendor_types=vendors, after=last))):
            await self._documents.write(partial(_ask_all, page))
            last = page[-1].id

    async def _task(self, request: Request) -> Task:
        name = request.path_params["job_id"]
        number = name.rpartition("-")[2]
        found = await self._access.read(lambda connection: find_task(connection, int(number))) if is_id(number) else None
        if found is None or name != job_id_of(found):
            raise NotFound(f"job {name[:200]} not found")
        return found

    async def _open(self) -> list[Collection]:
        latest = await self._access.read(lambda connection: queries.latest_collections(connection, self._node, _LOOKED_AT))
        return [one for one in latest if not one.has_ended]

    async def _job(self, request: Request) -> Collection:
        name = request.path_params["job_id"]
        number = name.removeprefix(_JOB_PREFIX)
        if not name.startswith(_JOB_PREFIX) or not is_id(number):
            raise NotFound(f"job {name[:200]} not found")

        def read(connection: Snapshot) -> Collection:
            try:
                return queries.collection(connection, int(number))
            except NotFound:
                raise NotFound(f"job {name[:200]} not found") from None

        return await self._access.read(read)


def _job_id(one: Collection) -> str:
    return f"{_JOB_PREFIX}{one.id}"


def _schedule_view(one: Schedule) -> dict[str, Any]:
    vendor = _VENDORS.get(one.name, one.name.upper())
    return {"cron": one.cron, "id": one.id, "update_time": rfc3339(one.updated_ms), "vendor_id": -1, "vendor_type": vendor}
