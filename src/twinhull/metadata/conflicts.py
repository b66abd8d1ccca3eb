"""Conflicts: concurrent writes of which one did not hold, as this node saw them meet; and which of them were seen to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, RowMapping, Select, and_, func, select, text

from twinhull.kit.clock import rfc3339
from twinhull.metadata.filtering import ANYTHING, EVERYTHING, Fields, Slice, Wanted, count, equals
from twinhull.metadata.statement import Statement
from twinhull.metadata.tables.documents import documents
from twinhull.metadata.tables.own import conflicts
from twinhull.records.change import node_of
from twinhull.records.kinds import SETTLED
from twinhull.records.merge import FieldConflict, Kind

_KEEP: Final = Statement(
    "INSERT INTO conflicts (kind, key, field, dots, id, winner, candidates, recorded_ms)"
    " VALUES (:kind, :key, :field, :dots, :id, :winner, :candidates, :recorded_ms)"
    " ON CONFLICT (kind, key, field, dots) DO NOTHING RETURNING id"
)
_FIELDS: Final = Fields(
    {
        "kind": conflicts.c.kind,
        "key": conflicts.c.key,
        "field": conflicts.c.field,
        "recorded_at": conflicts.c.recorded_ms,
    },
    order=(conflicts.c.recorded_ms.desc(), conflicts.c.id),
)
_ID_BYTES: Final = 12
# Of a cluster that conflicts all the time and at which nobody looks, the newest tell enough.
KEPT_MAX: Final = 10_000
_SETTLED_BEFORE: Final = text(
    "SELECT conflicts.id FROM conflicts JOIN documents"
    " ON documents.kind = :settled AND documents.project = '' AND documents.name = conflicts.id"
    " WHERE conflicts.recorded_ms < :before_ms LIMIT :limit"
).bindparams(settled=SETTLED.name)
_BEYOND: Final = text("SELECT id FROM conflicts ORDER BY recorded_ms DESC, id LIMIT :limit OFFSET :kept")
_FORGET: Final = Statement("DELETE FROM conflicts WHERE id = :id")
_ABOUT_NOTHING: Final = text(
    "SELECT key FROM documents WHERE kind = :settled AND created_ms < :before_ms"
    " AND NOT EXISTS (SELECT 1 FROM conflicts WHERE conflicts.id = documents.name) LIMIT :limit"
).bindparams(settled=SETTLED.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictSeen:
    """One field of one record that was written on several nodes at the same time."""

    # The same on every node that saw the same writes.
    id: str
    kind: str
    key: str
    field: str
    # What holds; None where values of this field are never shown.
    winner: Any
    # What was written: {value, at_ms, node}, in the order of their stamps.
    candidates: Sequence[Mapping[str, Any]]
    recorded_ms: int
    # Who said that it is seen to; empty while nobody has.
    settled_by: str


def keep_conflict(connection: Connection, kind: Kind, key: str, conflict: FieldConflict, now_ms: int) -> bool:
    """Note a conflict in a writing transaction, secrets left out; tell whether it is new here."""
    hide = kind.hides(key, conflict.field)
    candidates = [
        {"value": None if hide else field.value, "at_ms": field.write.stamp.ms, "node": node_of(field.write.stamp.origin)}
        for field in conflict.candidates
    ]
    dots = " ".join(f"{origin}:{seq}" for origin, seq in sorted(field.write.dot for field in conflict.candidates))
    row = {
        "kind": kind.name,
        "key": key,
        "field": conflict.field,
        "dots": dots,
        "id": conflict_id(kind.name, key, conflict.field, dots),
        "winner": msgspec.json.encode(None if hide else conflict.winner).decode(),
        "candidates": msgspec.json.encode(candidates).decode(),
        "recorded_ms": now_ms,
    }
    return _KEEP.first(connection, row) is not None


def conflict_id(kind: str, key: str, field: str, dots: str) -> str:
    """Return the name of a conflict."""
    return hashlib.blake2b(f"{kind}\n{key}\n{field}\n{dots}".encode(), digest_size=_ID_BYTES).hexdigest()


def list_conflicts(
    connection: Connection, *, settled: bool | None = None, wanted: Wanted = ANYTHING, part: Slice = EVERYTHING
) -> tuple[list[ConflictSeen], int]:
    """Return that part of the conflicts, newest first, and how many there are in all; by default those seen to as well.

    Lists can be filtered and sorted by kind, key, field and recorded_at.
    """
    query = _FIELDS.select(_all(settled=settled), wanted)
    return [_seen(row) for row in connection.execute(part.of(query)).mappings()], count(connection, query)


def find_conflict(connection: Connection, identifier: str) -> ConflictSeen | None:
    """Return the conflict of that id."""
    row = connection.execute(_all(settled=None).where(equals(conflicts.c.id, identifier))).mappings().first()
    return _seen(row) if row is not None else None


def count_unsettled(connection: Connection) -> int:
    """Return how many conflicts nobody has seen to."""
    return int(connection.execute(select(func.count()).select_from(_all(settled=False).subquery())).scalar_one())


def forget_conflicts(connection: Connection, *, before_ms: int, limit: int, kept_max: int = KEPT_MAX) -> int:
    """Forget conflicts that are older than that and seen to, and those beyond the newest `kept_max`; return how many."""
    due = {row.id for row in connection.execute(_SETTLED_BEFORE, {"before_ms": before_ms, "limit": limit})}
    due |= {row.id for row in connection.execute(_BEYOND, {"kept": kept_max, "limit": limit})}
    for identifier in sorted(due):
        _FORGET.run(connection, {"id": identifier})
    return len(due)


def settled_about_nothing(connection: Connection, *, before_ms: int, limit: int) -> list[str]:
    """Return the keys of what says, since before then, that conflicts were seen to which are not known here any more."""
    return [row.key for row in connection.execute(_ABOUT_NOTHING, {"before_ms": before_ms, "limit": limit})]


def conflict_view(conflict: ConflictSeen) -> dict[str, Any]:
    """Return a conflict as the API and the command line show it, in JSON's values."""
    return {
        "id": conflict.id,
        "kind": conflict.kind,
        "key": conflict.key,
        "field": conflict.field,
        "winner": conflict.winner,
        "candidates": [
            {"value": one["value"], "written_at": rfc3339(one["at_ms"]), "node": one["node"]} for one in conflict.candidates
        ],
        "recorded_at": rfc3339(conflict.recorded_ms),
        "acknowledged": bool(conflict.settled_by),
        "acknowledged_by": conflict.settled_by,
    }


def _all(*, settled: bool | None) -> Select[Any]:
    is_of = and_(documents.c.kind == SETTLED.name, documents.c.project == "", documents.c.name == conflicts.c.id)
    query = select(conflicts, documents.c.body.label("settled")).outerjoin(documents, is_of)
    if settled is None:
        return query
    return query.where(documents.c.body.is_not(None) if settled else documents.c.body.is_(None))


def _seen(row: RowMapping) -> ConflictSeen:
    said = msgspec.json.decode(row["settled"]) if row["settled"] is not None else {}
    return ConflictSeen(
        id=row["id"],
        kind=row["kind"],
        key=row["key"],
        field=row["field"],
        winner=msgspec.json.decode(row["winner"]),
        candidates=msgspec.json.decode(row["candidates"]),
        recorded_ms=row["recorded_ms"],
        settled_by=str(said.get("by", "")),
    )
