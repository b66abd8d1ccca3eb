"""Queries for executions and their tasks: what ran, or runs, on which node, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, func, or_, select

from twinhull.metadata.documents import find_by_ids
from twinhull.metadata.filtering import ANYTHING, EVERYTHING, Fields, Slice, Wanted, count
from twinhull.metadata.tables.accounts import nodes
from twinhull.metadata.tables.documents import executions, tasks
from twinhull.metadata.tables.log import records
from twinhull.records.kinds import NODE
from twinhull.records.merge import Kind

_EXECUTION_FIELDS: Final = Fields(
    {
        "id": executions.c.id,
        "vendor_type": executions.c.vendor_type,
        "vendor_id": executions.c.vendor_id,
        "status": executions.c.status,
        "trigger": executions.c.trigger,
        "creation_time": executions.c.created_ms,
        "start_time": executions.c.created_ms,
        "update_time": executions.c.updated_ms,
    },
    order=(executions.c.created_ms.desc(), executions.c.id.desc()),
)
_TASK_FIELDS: Final = Fields(
    {
        "id": tasks.c.id,
        "vendor_type": tasks.c.vendor_type,
        "status": tasks.c.status,
        "creation_time": tasks.c.created_ms,
        "update_time": tasks.c.updated_ms,
    },
    order=(tasks.c.created_ms.desc(), tasks.c.id.desc()),
)


# How an execution or a task stands that has not ended. A task is Scheduled while it waits to be tried again.
PENDING: Final = "Pending"
SCHEDULED: Final = "Scheduled"
RUNNING: Final = "Running"
SUCCESS: Final = "Success"
ERROR: Final = "Error"
STOPPED: Final = "Stopped"
BY_SCHEDULE: Final = "SCHEDULE"
UNFINISHED: Final = (PENDING, SCHEDULED, RUNNING)
# Among an execution's fields once somebody, on whichever node, wants it to stop.
STOP_ASKED: Final = "stop_asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """An execution as its node wrote it."""

    node: str
    id: int
    vendor_type: str
    vendor_id: int
    status: str
    trigger: str
    # Everything else that was written.
    fields: Mapping[str, Any]
    created_ms: int
    updated_ms: int

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will be done for it."""
        return self.status not in UNFINISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task of an execution as its node wrote it."""

    node: str
    id: int
    execution_id: int
    vendor_type: str
    status: str
    fields: Mapping[str, Any]
    created_ms: int
    updated_ms: int

    @property
    def has_ended(self) -> bool:
        """Whether it will not be tried again."""
        return self.status not in UNFINISHED


def _given(row: RowMapping) -> dict[str, Any]:
    given = dict(row)
    given["fields"] = msgspec.json.decode(given.pop("body"), type=dict[str, Any])
    return given


def find_execution(connection: Connection, number: int) -> Execution | None:
    """Return the execution with that id."""
    row = connection.execute(select(executions).where(executions.c.id == number).order_by(executions.c.node)).mappings().first()
    return Execution(**_given(row)) if row is not None else None


def list_executions(
    connection: Connection,
    *,
    vendor_type: str = "",
    vendor_id: int | None = None,
    wanted: Wanted = ANYTHING,
    part: Slice = EVERYTHING,
) -> tuple[list[Execution], int]:
    """Return that part of the wanted executions, newest first, and how many there are in all."""
    conditions: list[ColumnElement[bool]] = [executions.c.vendor_type == vendor_type] if vendor_type else []
    if vendor_id is not None:
        conditions.append(executions.c.vendor_id == vendor_id)
    query = _EXECUTION_FIELDS.select(select(executions).where(*conditions), wanted)
    found = [Execution(**_given(row)) for row in connection.execute(part.of(query)).mappings()]
    return found, count(connection, query)


def find_task(connection: Connection, number: int) -> Task | None:
    """Return the task with that id."""
    row = connection.execute(select(tasks).where(tasks.c.id == number).order_by(tasks.c.node)).mappings().first()
    return Task(**_given(row)) if row is not None else None


def list_tasks(
    connection: Connection, *, execution: int | None = None, wanted: Wanted = ANYTHING, part: Slice = EVERYTHING
) -> tuple[list[Task], int]:
    """Return that part of the wanted tasks, of one execution or of all, newest first, and how many there are in all."""
    query = select(tasks) if execution is None else select(tasks).where(tasks.c.execution_id == execution)
    query = _TASK_FIELDS.select(query, wanted)
    return [Task(**_given(row)) for row in connection.execute(part.of(query)).mappings()], count(connection, query)


def executions_of(connection: Connection, node: str, numbers: Sequence[int]) -> list[Execution]:
    """Return those of a node's executions with these ids that there are, oldest first."""
    query = select(executions).where(executions.c.node == node, executions.c.id.in_(numbers)).order_by(executions.c.id)
    return [Execution(**_given(row)) for row in connection.execute(query).mappings()]


def tasks_of(connection: Connection, node: str, numbers: Sequence[int]) -> list[Task]:
    """Return those of a node's tasks with these ids that there are, oldest first."""
    query = select(tasks).where(tasks.c.node == node, tasks.c.id.in_(numbers)).order_by(tasks.c.id)
    return [Task(**_given(row)) for row in connection.execute(query).mappings()]


def unfinished_tasks(
    connection: Connection, node: str, execution: int | None = None, *, after: int = 0, limit: int | None = None
) -> list[Task]:
    """Return a node's tasks that have not ended, of one execution or of all, oldest first: so many after that id."""
    query = select(tasks).where(tasks.c.node == node, tasks.c.status.in_(UNFINISHED), tasks.c.id > after)
    query = query.order_by(tasks.c.id).limit(limit)
    if execution is not None:
        query = query.where(tasks.c.execution_id == execution)
    return [Task(**_given(row)) for row in connection.execute(query).mappings()]


def unfinished_executions(
    connection: Connection, node: str, vendor_type: str = "", *, after: int = 0, limit: int | None = None
) -> list[Execution]:
    """Return a node's executions that have not ended, of one vendor type or of all, oldest first: so many after that id."""
    query = select(executions).where(executions.c.node == node, executions.c.status.in_(UNFINISHED), executions.c.id > after)
    query = query.limit(limit)
    if vendor_type:
        query = query.where(executions.c.vendor_type == vendor_type)
    return [Execution(**_given(row)) for row in connection.execute(query.order_by(executions.c.id)).mappings()]


def abandoned_executions(connection: Connection, *, before_ms: int, limit: int) -> list[Execution]:
    """Return executions that have not ended and whose node was removed from the cluster, oldest first.

    And those that were not written about since that time, of a node of which nothing is known.
    """
    removed = select(records.c.key).where(records.c.kind == NODE.name, records.c.dead)
    query = select(executions).where(
        executions.c.status.in_(UNFINISHED),
        executions.c.node.not_in(select(nodes.c.id)),
        or_(executions.c.node.in_(removed), executions.c.updated_ms < before_ms),
    )
    return [Execution(**_given(row)) for row in connection.execute(query.order_by(executions.c.id).limit(limit)).mappings()]


def latest_scheduled(connection: Connection, vendor_type: str, vendor_id: int) -> Execution | None:
    """Return what was begun last by the schedule of that policy, on any node."""
    query = select(executions).where(
        executions.c.vendor_type == vendor_type, executions.c.vendor_id == vendor_id, executions.c.trigger == BY_SCHEDULE
    )
    row = connection.execute(query.order_by(executions.c.created_ms.desc()).limit(1)).mappings().first()
    return Execution(**_given(row)) if row is not None else None


def latest_of_node(connection: Connection, vendor_type: str, node: str, limit: int) -> list[Execution]:
    """Return a node's executions of a vendor type, the newest first."""
    query = select(executions).where(executions.c.vendor_type == vendor_type, executions.c.node == node)
    query = query.order_by(executions.c.created_ms.desc(), executions.c.id.desc()).limit(limit)
    return [Execution(**_given(row)) for row in connection.execute(query).mappings()]


def executions_of_policies(connection: Connection, vendor_type: str, vendor_ids: Sequence[int]) -> list[Execution]:
    """Return the executions of these policies, on any node."""
    query = select(executions).where(executions.c.vendor_type == vendor_type, executions.c.vendor_id.in_(vendor_ids))
    return [Execution(**_given(row)) for row in connection.execute(query).mappings()]


def last_begun_ms(connection: Connection, vendor_type: str, node: str) -> int:
    """Return when a node began its last execution of that type (milliseconds since 1970); 0: never."""
    query = select(func.max(executions.c.created_ms))
    found = connection.execute(query.where(executions.c.vendor_type == vendor_type, executions.c.node == node)).scalar()
    return int(found or 0)


def executions_since(connection: Connection, vendor_type: str, vendor_id: int, since_ms: int) -> list[Execution]:
    """Return the executions of a policy that were begun at that time or later, on any node, oldest first."""
    query = select(executions).where(
        executions.c.vendor_type == vendor_type, executions.c.vendor_id == vendor_id, executions.c.created_ms >= since_ms
    )
    return [Execution(**_given(row)) for row in connection.execute(query.order_by(executions.c.created_ms)).mappings()]


def executions_beyond(connection: Connection, node: str, *, keep: int, limit: int, policies: Mapping[str, Kind]) -> list[int]:
    """Return the ids of a node's ended executions that are older than the newest `keep` of the same policy, oldest first.

    Of a policy that is deleted none is kept: `policies` says of which kind those of a vendor type are.
    """
    counted = select(executions.c.vendor_type, executions.c.vendor_id, func.count()).where(executions.c.node == node)
    groups = connection.execute(counted.group_by(executions.c.vendor_type, executions.c.vendor_id)).all()
    alive = {
        name: find_by_ids(connection, kind, [row.vendor_id for row in groups if row.vendor_type == name])
        for name, kind in policies.items()
    }
    found: list[int] = []
    for vendor_type, vendor_id, there in groups:
        kept = keep if vendor_id in alive.get(vendor_type, (vendor_id,)) else 0
        if there <= kept:
            continue
        ended = select(executions.c.id).where(
            executions.c.node == node,
            executions.c.vendor_type == vendor_type,
            executions.c.vendor_id == vendor_id,
            executions.c.status.not_in(UNFINISHED),
        )
        ended = ended.order_by(executions.c.created_ms.desc(), executions.c.id.desc()).offset(kept)
        found.extend(row.id for row in connection.execute(ended))
    return sorted(found)[:limit]


class Waiting(NamedTuple):
    """How many tasks have not begun, or wait to be tried again, and since when the first does (milliseconds since 1970)."""

    total: int
    since_ms: int


def waiting_tasks(connection: Connection) -> dict[str, Waiting]:
    """Return what waits on all nodes, by vendor type."""
    query = select(tasks.c.vendor_type, func.count(), func.min(tasks.c.created_ms)).where(
        tasks.c.status.in_((PENDING, SCHEDULED))
    )
    rows = connection.execute(query.group_by(tasks.c.vendor_type))
    return {vendor_type: Waiting(int(there), int(since_ms)) for vendor_type, there, since_ms in rows}


def all_unfinished(connection: Connection, vendor_types: Sequence[str], *, after: int = 0, limit: int = 200) -> list[Execution]:
    """Return the executions of these vendor types that have not ended, on any node, oldest first: so many after that id."""
    query = select(executions).where(
        executions.c.status.in_(UNFINISHED), executions.c.vendor_type.in_(vendor_types), executions.c.id > after
    )
    query = query.order_by(executions.c.id, executions.c.node).limit(limit)
    return [Execution(**_given(row)) for row in connection.execute(query).mappings()]


def task_numbers(connection: Connection, node: str, execution: int, limit: int) -> list[int]:
    """Return the ids of the tasks of a node's execution, oldest first, at most `limit` of them."""
    query = select(tasks.c.id).where(tasks.c.node == node, tasks.c.execution_id == execution)
    return [row.id for row in connection.execute(query.order_by(tasks.c.id).limit(limit))]
