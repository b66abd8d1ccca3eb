"""What comes from a peer into this node's metadata: changes in order, or records of a snapshot.

A change that can't be taken holds its origin up, and nothing else: what came with it from other origins is applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Final, NamedTuple

import structlog

from twinhull.kit.errors import ClockAhead, ProtocolError, SnapshotRefused, TwinhullError, Unstorable
from twinhull.kit.fail_points import fail_point
from twinhull.metadata.names import absent, drop_seen
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import Change, VersionVector
from twinhull.records.kinds import KINDS
from twinhull.replication.protocol import SnapshotPage

log = structlog.get_logger(__name__)

# What a change does that no sound node sends: fields of other types than they have, names longer than a column.
_MALFORMED: Final = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
_REFUSED: Final = (ProtocolError, ClockAhead, Unstorable)


class Held(NamedTuple):
    """Up to which change of an origin all is applied, and why the next one is not."""

    seq: int
    reason: str


class Applied(NamedTuple):
    """What of some changes is in the database now, what this node has by that, and what of it is held back."""

    changes: list[Change]
    vector: VersionVector
    # By origin.
    held: Mapping[str, Held] = {}
    # Why this node could take no more: a full disk, as a rule.
    failure: TwinhullError | None = None

    def require_all(self) -> None:
        """Raise the failure if there is one."""
        if self.failure is not None:
            raise self.failure


def apply_changes(store: Store, changes: list[Change], held: Mapping[str, Held] | None = None) -> Applied:
    """Apply the changes, durably; all in one transaction, so one fsync for all, if there is nothing wrong with them.

    Origins that are held up are tried again when the change comes that was due; all that are now are in the answer.
    """
    applied = _Applying(store, held or {}).run(changes)
    if applied.changes:
        fail_point("changes-applied")
    return applied


class _Applying:
    """One batch of changes."""

    def __init__(self, store: Store, held: Mapping[str, Held]) -> None:
        self._store = store
        self._held = dict(held)
        self._done: list[Change] = []

    def run(self, changes: list[Change]) -> Applied:
        """Apply what can be."""
        fresh = [change for change in changes if change.origin not in self._held]
        again = sorted((change for change in changes if change.origin in self._held), key=lambda one: (one.origin, one.seq))
        failure = None
        try:
            if fresh and not self._all_at_once(fresh):
                self._one_by_one(fresh)
            for origin, run in groupby(again, key=lambda change: change.origin):
                self._again(origin, list(run))
        except TwinhullError as error:
            failure = error
        return Applied(self._done, self._store.vector(), self._held, failure)

    def _all_at_once(self, changes: list[Change]) -> bool:
        """Tell whether all could be applied in one transaction; if not, none is."""
        try:
            with self._store.write() as transaction:
                for change in changes:
                    self._require_foreign(change)
                    transaction.apply(change)
        except (*_REFUSED, *_MALFORMED):
            return False
        self._done.extend(changes)
        return True

    def _one_by_one(self, changes: list[Change]) -> None:
        for change in changes:
            if change.origin not in self._held:
                self._try(change)

    def _again(self, origin: str, changes: list[Change]) -> None:
        """Go on with a held origin if its first change is the one that is due, or earlier."""
        # Another peer's stream may have brought what was due here; the source knows of that, and goes on from there.
        if changes[0].seq > self._store.vector().get(origin, 0) + 1:
            return
        was = self._held.pop(origin)
        for change in changes:
            if origin not in self._held:
                self._try(change, was)
        if origin not in self._held:
            log.info("changes are taken again", origin=origin)

    def _try(self, change: Change, was: Held | None = None) -> None:
        try:
            with self._store.write() as transaction:
                self._require_foreign(change)
                transaction.apply(change)
            self._done.append(change)
        except (*_REFUSED, *_MALFORMED) as error:
            held = Held(self._store.vector().get(change.origin, 0), reason_of(error, change))
            self._held[change.origin] = held
            if held != was:
                log.warning("changes held back", origin=change.origin, seq=change.seq, reason=held.reason)

    def _require_foreign(self, change: Change) -> None:
        if change.origin in (self._store.origin, ""):
            message = f"change {change.seq} is said to be this node's own"
            raise ProtocolError(message)


def reason_of(error: Exception, change: Change) -> str:
    """Return why a change or record can't be taken, for people."""
    if isinstance(error, TwinhullError):
        return str(error)
    return f"{change.kind[:32]} {change.key[:200]!r} has fields that no {change.kind[:32]} has: {error}"


class PartOfAll(NamedTuple):
    """Where a page of a snapshot begins, and what its source had seen before it read the first one."""

    after: tuple[str, str]
    seen: VersionVector


def apply_page(store: Store, page: SnapshotPage, part: PartOfAll | None = None) -> Applied:
    """Merge a page of a snapshot; with its part of all, drop what the source has seen and has no more.

    Raises SnapshotRefused for a record that can't be taken, after merging the others; what the vector says is not reached then.
    """
    try:
        with store.write() as transaction:
            if part is not None:
                _drop_forgotten(transaction, page, part)
            for record in page.records:
                transaction.merge_record(record)
            if page.vector is not None:
                transaction.reached(page.vector)
    except (*_REFUSED, *_MALFORMED):
        return _page_one_by_one(store, page)
    if page.vector is None:
        fail_point("snapshot-page-applied")
    return Applied(page.records, store.vector())


def _drop_forgotten(transaction: Transaction, page: SnapshotPage, part: PartOfAll) -> None:
    """Drop, between the records of the page, what the source has seen and has no more."""
    present = [(record.kind, record.key) for record in page.records]
    if present != sorted({*present}) or (present and present[0] <= part.after):
        raise ProtocolError("a snapshot's records came out of order")
    until = present[-1] if present and page.vector is None else None
    for kind, key in absent(transaction.connection, part.after, until, {*present, *page.damaged}):
        if kind in KINDS:
            drop_seen(transaction, KINDS[kind], key, part.seen)


def _page_one_by_one(store: Store, page: SnapshotPage) -> Applied:
    merged = _merge_one_by_one(store, page.records)
    refused, failure = merged.refused, None
    if refused:
        failure = SnapshotRefused(f"{len(refused)} records of a snapshot cannot be taken: {refused[0]}")
    return Applied(merged.taken, store.vector(), {}, failure)


class Merged(NamedTuple):
    """What became of records that were to be merged."""

    # Those that are here by now, and those of them that were not before, or otherwise.
    taken: list[Change]
    changed: list[Change]
    # Why the others are not.
    refused: list[str]


def merge_records(store: Store, records: list[Change]) -> Merged:
    """Merge records, durably; all in one transaction if there is nothing wrong with them."""
    try:
        with store.write() as transaction:
            changed = [record for record in records if transaction.merge_record(record)]
    except (*_REFUSED, *_MALFORMED):
        return _merge_one_by_one(store, records)
    return Merged(records, changed, [])


def _merge_one_by_one(store: Store, records: list[Change]) -> Merged:
    merged = Merged([], [], [])
    for record in records:
        try:
            with store.write() as transaction:
                is_new = transaction.merge_record(record)
            merged.taken.append(record)
            merged.changed.extend([record] if is_new else [])
        except (*_REFUSED, *_MALFORMED) as error:
            merged.refused.append(reason_of(error, record))
    return merged
