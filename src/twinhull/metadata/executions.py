"""Queries for executions and their tasks: what ran, or runs, on which node, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, select

from twinhull.metadata.filtering import ANYTHING, EVERYTHING, Fields, Slice, Wanted, count
from twinhull.metadata.tables.documents import executions, tasks

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
