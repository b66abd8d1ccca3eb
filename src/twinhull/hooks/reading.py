"""What this node's own audit records mean to webhooks: pushes and deletions, as they are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from twinhull.catalog.events import VENDOR, Entrance, Event, Resource, event_id_of, policies_for, tell
from twinhull.catalog.payloads import DELETE_CHART, UPLOAD_CHART
from twinhull.jobs.access import Access
from twinhull.jobs.reader import LogReader
from twinhull.metadata.documents import has_any
from twinhull.metadata.executions import executions_since
from twinhull.metadata.incarnation import current_origin
from twinhull.metadata.transaction import MERGED, Transaction
from twinhull.records.change import Change
from twinhull.records.kinds import AUDIT, WEBHOOK, split_owned_key
from twinhull.records.merge import decode, is_dead, values_of

NAME: Final = "webhooks"
_TYPES: Final = {"create": "PUSH_ARTIFACT", "delete": "DELETE_ARTIFACT"}
_CHART_TYPES: Final = {"create": UPLOAD_CHART, "delete": DELETE_CHART}


class Deeds:
    """Turns audit records into events. In a cluster each node tells of what was done on it."""

    def __init__(self, *, node: str, entrance: Entrance) -> None:
        """Take this node's id, and where clients find the registry."""
        self._node = node
        self._entrance = entrance

    def reader(self, access: Access) -> LogReader:
        """Return the worker that reads them from the log."""
        return LogReader(NAME, access, kinds=[AUDIT.name], handle=self.handle, wanted=self.wanted)

    def wanted(self, connection: Connection, changes: Sequence[Change]) -> Sequence[Change]:
        """Return those that a policy wants to know of."""
        if not has_any(connection, WEBHOOK):
            return []
        asked: dict[tuple[str, str], bool] = {}
        found = []
        for change in changes:
            event = self.event_of(change)
            if event is None:
                continue
            named = event.project, event.type
            if named not in asked:
                asked[named] = bool(policies_for(connection, event.project, event.type))
            if asked[named]:
                found.append(change)
        return found

    def handle(self, transaction: Transaction, changes: Sequence[Change]) -> None:
        """Tell of them."""
        origin = current_origin(transaction.connection, self._node)
        for change in changes:
            event = self.event_of(change)
            # What a restored node takes back from its peers was told of before, but for the last moments of its former life.
            if event is not None and (change.origin == origin or not was_told(transaction.connection, event)):
                tell(transaction, event)

    def event_of(self, change: Change) -> Event | None:
        """Return what an audit record of this node's means to webhooks; None for nothing."""
        node, _ = split_owned_key(change.key)
        if node != self._node or change.origin == MERGED:
            return None
        record = decode(change.record)
        return None if is_dead(AUDIT, record) else self.event_of_deed(change.key, values_of(AUDIT, record))

    def event_of_deed(self, key: str, deed: Mapping[str, Any]) -> Event | None:
        """Return what an audit record means to webhooks, given its key and fields; None for nothing."""
        if deed.get("resource_type") != "artifact" or not deed.get("digest"):
            return None
        chart = str(deed.get("chart") or "")
        event_type = (_CHART_TYPES if chart else _TYPES).get(str(deed["operation"]))
        if event_type is None:
            return None
        repository = str(deed["repository"])
        return Event(
            type=event_type,
            project=str(deed["project"]),
            occurred_ms=int(deed["created_ms"]),
            operator=str(deed["username"]),
            repository=repository,
            resources=[self._resource(repository, chart, deed)],
            event_id=event_id_of(f"audit {key}"),
        )

    def _resource(self, repository: str, chart: str, deed: Mapping[str, Any]) -> Resource:
        if chart:
            return self._entrance.chart(repository, version=chart)
        return self._entrance.image(repository, digest=str(deed["digest"]), tag=str(deed.get("tag") or ""))


def was_told(connection: Connection, event: Event) -> bool:
    """Tell whether an execution is kept, on any node, that tells of the event."""
    return any(
        event.event_id == execution.fields.get("event_id")
        for policy in policies_for(connection, event.project, event.type)
        for execution in executions_since(connection, VENDOR, policy.id, event.occurred_ms)
    )
