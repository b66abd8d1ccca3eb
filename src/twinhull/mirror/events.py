"""Begins event based replications: reads this node's audit records, and makes tasks of what policies pick of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import structlog
from sqlalchemy import Connection

from twinhull.catalog.replication import begin_replication, event_based_replications
from twinhull.jobs.access import Access
from twinhull.jobs.executions import EVENT
from twinhull.jobs.job import NewTask
from twinhull.jobs.reader import LogReader
from twinhull.kit.errors import Invalid
from twinhull.kit.reference import is_digest
from twinhull.metadata import content
from twinhull.metadata.documents import Document
from twinhull.metadata.replicable import find_replicable
from twinhull.metadata.transaction import Transaction
from twinhull.mirror.local import candidate_of
from twinhull.mirror.replication import copy_task, deletion_task
from twinhull.mirror.selection import Candidate, Selection, destination_of
from twinhull.records.change import Change, node_of
from twinhull.records.kinds import AUDIT
from twinhull.records.merge import decode, is_dead, values_of

log = structlog.get_logger(__name__)

READER: Final = "replication"
_CREATE: Final = "create"
_DELETE: Final = "delete"
_CONTENT: Final = ("artifact", "tag")


@dataclass(frozen=True, slots=True)
class Event:
    """Something was pushed, tagged or deleted."""

    is_deletion: bool
    repository: str
    # A tag, or a digest.
    reference: str
    # Which digest a tag named, where that was written down.
    digest: str = ""
    # All tags that a deleted artifact had, where that was.
    tags: tuple[str, ...] | None = None


def reader_of_events(access: Access) -> LogReader:
    """Return the worker that begins replications for what happens on this node. The first time it begins with the log's end."""
    return LogReader(READER, access, kinds=[AUDIT.name], handle=begin_for, wanted=wanted)


def wanted(connection: Connection, changes: Sequence[Change]) -> Sequence[Change]:
    """Return the changes that may begin an execution, so that nothing is written for the others."""
    policies = event_based_replications(connection)
    if not policies:
        return []
    return [one for one in changes if (event := event_of(one)) is not None and _concerned(policies, event)]


def begin_for(transaction: Transaction, changes: Sequence[Change]) -> None:
    """Begin the executions for these changes, in the transaction that moves the reader on."""
    policies = event_based_replications(transaction.connection)
    for change in changes:
        event = event_of(change) if node_of(change.origin) == transaction.node else None
        if event is not None:
            for policy in _concerned(policies, event):
                _begin(transaction, policy, event)


def _concerned(policies: Sequence[Document], event: Event) -> list[Document]:
    """Return the policies that look at what happens in that repository."""
    return [
        one
        for one in policies
        if Selection(one.fields.get("filters") or []).takes(event.repository)
        and (one.fields.get("deletion") or not event.is_deletion)
    ]


def event_of(change: Change) -> Event | None:
    """Return what an audit record tells of, if it is something that can be replicated."""
    try:
        record = decode(change.record)
    except (msgspec.DecodeError, ValueError) as error:
        log.warning("audit record can not be read, no replication begins for it", key=change.key, error=str(error))
        return None
    # Purged: what it told of is long past.
    if is_dead(AUDIT, record):
        return None
    values: Mapping[str, Any] = values_of(AUDIT, record)
    operation, kind = values.get("operation"), values.get("resource_type")
    repository, colon, reference = str(values.get("resource", "")).partition(":")
    if operation not in (_CREATE, _DELETE) or kind not in _CONTENT or not colon:
        return None
    tags = values.get("tags")
    return Event(
        operation == _DELETE,
        repository,
        reference,
        str(values.get("digest") or ""),
        tuple(tags.split()) if isinstance(tags, str) else None,
    )


def _begin(transaction: Transaction, policy: Document, event: Event) -> None:
    fields = policy.fields
    selection = Selection(fields.get("filters") or [])
    found = _deleted(selection, event) if event.is_deletion else _pushed(transaction.connection, selection, event)
    if found is None:
        return
    count = fields.get("dest_namespace_replace_count")
    try:
        destination = destination_of(
            event.repository, str(fields.get("dest_namespace") or ""), -1 if count is None else int(count)
        )
    except Invalid as error:
        log.warning("repository can not be replicated", policy=policy.name, repository=event.repository, error=str(error))
        return
    begin_replication(transaction, policy, EVENT, [_task(policy, event, destination, found)])


def _task(policy: Document, event: Event, destination: str, found: Candidate) -> NewTask:
    if event.is_deletion:
        return deletion_task(policy, event.repository, destination, [found])
    return copy_task(policy, event.repository, destination, found.items, [found])


def _deleted(selection: Selection, event: Event) -> Candidate | None:
    """Return what is gone: a tag, or an artifact by its digest alone, if the policy picked it or may have done."""
    if not is_digest(event.reference):
        return selection.pick(Candidate(digest=event.digest, tags=(event.reference,)))
    had = Candidate(digest=event.reference, tags=event.tags or ())
    return Candidate(digest=event.reference) if event.tags is None or selection.pick(had) is not None else None


def _pushed(connection: Connection, selection: Selection, event: Event) -> Candidate | None:
    """Return what is picked of an artifact that was pushed, tagged or copied here: that tag; without one, all that it has.

    Of what belongs to an artifact (a signature) it is that one with its tags.
    """
    tags = () if is_digest(event.reference) else (event.reference,)
    digest = event.reference if not tags else event.digest or content.digest_of_tag(connection, event.repository, tags[0])
    found = find_replicable(connection, event.repository, digest) if digest else None
    if found is None:
        # Gone again: there will be an event of that too.
        return None
    candidate = candidate_of(found)
    return selection.pick(replace(candidate, tags=tags) if tags and found.digest == digest else candidate)
