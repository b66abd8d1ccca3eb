"""What the schedules of GC, purge and scan-all have in common at Harbor's paths: their body and how they are shown."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

import msgspec
from starlette.requests import Request

from twinhull.catalog.schedules import Schedule
from twinhull.harbor.requests import read_body
from twinhull.kit.clock import rfc3339

MANUAL: Final = "Manual"
NONE: Final = "None"
# A schedule waits: that is how Harbor says it.
_STATUS: Final = "Running"


class When(msgspec.Struct):
    """How often: `Manual` is at once, `None` never more."""

    type: Literal["Hourly", "Daily", "Weekly", "Custom", "Manual", "None", "Schedule"]
    cron: str = ""


class ScheduleBody(msgspec.Struct):
    """A schedule as it is asked for."""

    schedule: When
    parameters: dict[str, Any] = {}


async def read_schedule(request: Request) -> ScheduleBody:
    """Return what the body asks for; raises what read_body raises."""
    return await read_body(request, ScheduleBody)


def when_view(schedule: Schedule, now_ms: int) -> dict[str, Any]:
    """Return how often, and when next."""
    view: dict[str, Any] = {"cron": schedule.cron, "type": schedule.kind}
    next_ms = schedule.due_ms(now_ms)
    return view if next_ms is None else {**view, "next_scheduled_time": rfc3339(next_ms)}


def history_view(schedule: Schedule, now_ms: int) -> dict[str, Any]:
    """Return a schedule as GC and purge show it: like an execution."""
    return {
        "creation_time": rfc3339(schedule.created_ms),
        "id": schedule.id,
        "job_kind": schedule.cron,
        "job_parameters": parameters_text(schedule.parameters),
        "job_status": _STATUS,
        "schedule": when_view(schedule, now_ms),
        "update_time": rfc3339(schedule.updated_ms),
    }


def schedule_view(schedule: Schedule, now_ms: int) -> dict[str, Any]:
    """Return a schedule as scan-all shows it."""
    return {
        "creation_time": rfc3339(schedule.created_ms),
        "id": schedule.id,
        "parameters": dict(schedule.parameters),
        "schedule": when_view(schedule, now_ms),
        "status": _STATUS,
        "update_time": rfc3339(schedule.updated_ms),
    }


def parameters_text(parameters: object) -> str:
    """Return parameters as the text that Harbor has them in."""
    return json.dumps(parameters, separators=(",", ":"))
