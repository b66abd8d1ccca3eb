"""Which audit records a purge takes away, and how one begins: by hand, or by the cluster's schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from twinhull.catalog.schedules import PURGE_AUDIT, find_schedule
from twinhull.jobs.executions import MANUAL, begin
from twinhull.jobs.scheduler import Due
from twinhull.metadata.accounts import Snapshot
from twinhull.metadata.transaction import Transaction

VENDOR: Final = "PURGE_AUDIT_LOG"
PARAMETERS: Final = "parameters"
# Purges are of no policy.
NO_POLICY: Final = -1


def is_purged(parameters: Mapping[str, Any], operation: str, resource_type: str) -> bool:
    """Tell whether a purge that is told this takes such records: by operation (create), or by event (create_artifact)."""
    wanted = {word.strip() for name in ("include_operations", "include_event_types") for word in _words(parameters, name)}
    return operation in wanted or f"{operation}_{resource_type}" in wanted


def begin_purge(transaction: Transaction, parameters: Mapping[str, Any]) -> int:
    """Begin a purge that somebody asked for, and return its id."""
    fields = {PARAMETERS: dict(parameters)}
    return begin(transaction, vendor_type=VENDOR, vendor_id=NO_POLICY, trigger=MANUAL, tasks=None, fields=fields)


def scheduled_purges(connection: Snapshot) -> Sequence[Due]:
    """Return the schedule of purges, if there is one."""
    found = find_schedule(connection, PURGE_AUDIT)
    if found is None:
        return []
    return [Due(vendor_type=VENDOR, vendor_id=NO_POLICY, cron=found.cron, since_ms=found.updated_ms)]


def _words(parameters: Mapping[str, Any], name: str) -> Sequence[str]:
    text = parameters.get(name)
    return [word for word in text.split(",") if word.strip()] if isinstance(text, str) else []
