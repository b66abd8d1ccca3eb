"""When work on the cluster's own data is due: schedules by name, one each, the same on every node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from twinhull.catalog.accounts import Written
from twinhull.catalog.documents import Documents, delete_document
from twinhull.jobs.cron import is_cron, next_ms
from twinhull.kit.errors import Invalid
from twinhull.metadata.accounts import Snapshot
from twinhull.metadata.documents import Document, find, list_documents
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import SCHEDULE, document_key

GC: Final = "gc"
PURGE_AUDIT: Final = "purge_audit"
SCAN_ALL: Final = "scan_all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule: Harbor's word for how often, the cron expression that says it, and what the work is told."""

    id: int
    name: str
    kind: str
    cron: str
    parameters: Mapping[str, Any]
    created_ms: int
    updated_ms: int

    def due_ms(self, after_ms: int) -> int | None:
        """Return when the work is due next after a moment, and after the schedule was set; None for never."""
        return next_ms(self.cron, max(after_ms, self.updated_ms))


class Schedules:
    """Sets schedules and takes them away."""

    def __init__(self, documents: Documents) -> None:
        """Take what writes documents."""
        self._documents = documents

    async def set(self, name: str, *, kind: str, cron: str, parameters: Mapping[str, Any], what: str) -> Written:
        """Set a schedule; raises Invalid for what is no cron expression of six fields."""
        if not is_cron(cron):
            raise Invalid(f"invalid cron string for scheduled {what}: {cron[:64]}")
        fields = {"type": kind, "cron": cron, "parameters": dict(parameters)}
        return await self._documents.set(SCHEDULE, fields, name=name)

    async def clear(self, name: str) -> Written:
        """Take a schedule away, if there is one."""

        def clear(transaction: Transaction) -> int:
            found = find(transaction.connection, SCHEDULE, document_key("", name))
            return delete_document(transaction, SCHEDULE, found.id) if found is not None else 0

        return await self._documents.write(clear)


def find_schedule(connection: Snapshot, name: str) -> Schedule | None:
    """Return the schedule of that name."""
    found = find(connection, SCHEDULE, document_key("", name))
    return _schedule(found) if found is not None else None


def all_schedules(connection: Snapshot) -> list[Schedule]:
    """Return all schedules, by name."""
    found, _ = list_documents(connection, SCHEDULE, project="")
    return [_schedule(one) for one in found]


def _schedule(found: Document) -> Schedule:
    return Schedule(
        id=found.id,
        name=found.name,
        kind=str(found.fields.get("type", "")),
        cron=str(found.fields.get("cron", "")),
        parameters=found.fields.get("parameters") or {},
        created_ms=found.created_ms,
        updated_ms=found.updated_ms,
    )
