"""Queries for audit records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import Connection, select, tuple_

from twinhull.metadata.filtering import ANYTHING, EVERYTHING, Fields, Slice, Wanted, count
from twinhull.metadata.summaries import is_whole
from twinhull.metadata.tables.documents import audit_records
from twinhull.metadata.tables.log import records
from twinhull.records.kinds import AUDIT, owned_key
from twinhull.records.merge import Value, decode, values_of

_FIELDS: Final = Fields(
    {
        "id": audit_records.c.id,
        "username": audit_records.c.username,
        "operation": audit_records.c.operation,
        "resource_type": audit_records.c.resource_type,
        "resource": audit_records.c.resource,
        "op_time": audit_records.c.at_ms,
        "creation_time": audit_records.c.at_ms,
    },
    order=(audit_records.c.at_ms.desc(), audit_records.c.id.desc()),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """An audit record as the log has it."""

    # On which node it was done.
    node: str
    id: int
    at_ms: int
    project: str
    username: str
    operation: str
    resource_type: str
    resource: str
    description: str
    succeeded: bool
    client_address: str


def list_audit_records(
    connection: Connection,
    *,
    projects: Sequence[str] | None = None,
    wanted: Wanted = ANYTHING,
    part: Slice = EVERYTHING,
    counted: bool = True,
) -> tuple[list[AuditRecord], int]:
    """Return that part of the wanted records, newest first, and how many there are in all (0 unless counted).

    `projects` limits them to those of these projects. Lists can be filtered and sorted by id, username, operation,
    resource_type, resource and op_time.
    """
    query = select(audit_records) if projects is None else select(audit_records).where(audit_records.c.project.in_(projects))
    query = _FIELDS.select(query, wanted)
    found = [AuditRecord(**row) for row in connection.execute(part.of(query)).mappings()]
    return found, count(connection, query) if counted else 0


def last_deeds(connection: Connection, node: str, *, limit: int) -> list[tuple[str, Mapping[str, Value]]]:
    """Return key and fields of the last records that a node wrote, oldest first; those that are damaged are left out."""
    query = select(audit_records.c.id).where(audit_records.c.node == node).order_by(audit_records.c.id.desc()).limit(limit)
    keys = [owned_key(node, row.id) for row in connection.execute(query)]
    whole = select(records).where(records.c.kind == AUDIT.name, records.c.key.in_(keys))
    found = {row.key: row for row in connection.execute(whole) if is_whole(row.key, row.record, row.summary)}
    return [(key, values_of(AUDIT, decode(found[key].record))) for key in reversed(keys) if key in found]


class OldRecord(NamedTuple):
    """Of an audit record, what decides whether it is kept."""

    node: str
    id: int
    at_ms: int
    operation: str
    resource_type: str

    @property
    def place(self) -> tuple[int, int, str]:
        """Where it stands in the order of `records_before`."""
        return self.at_ms, self.id, self.node


def records_before(connection: Connection, at_ms: int, *, after: tuple[int, int, str], limit: int) -> list[OldRecord]:
    """Return the records that were written before that time, oldest first: so many behind that place."""
    columns = audit_records.c
    query = select(columns.node, columns.id, columns.at_ms, columns.operation, columns.resource_type).where(
        columns.at_ms < at_ms, columns.at_ms >= after[0], tuple_(columns.at_ms, columns.id, columns.node) > after
    )
    query = query.order_by(columns.at_ms, columns.id, columns.node).limit(limit)
    return [OldRecord(*row) for row in connection.execute(query)]
