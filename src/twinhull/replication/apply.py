"""What comes from a peer into this node's metadata: changes in order, or records of a snapshot."""

from __future__ import annotations

from typing import NamedTuple

from twinhull.kit.errors import TwinhullError
from twinhull.metadata.store import Store
from twinhull.records.change import Change, VersionVector
from twinhull.replication.protocol import SnapshotPage


class Applied(NamedTuple):
    """What of some changes is in the database now, what this node has by that, and why the rest is not."""

    changes: list[Change]
    vector: VersionVector
    failure: TwinhullError | None = None

    def require_all(self) -> None:
        """Raise the failure if there is one."""
        if self.failure is not None:
            raise self.failure


def apply_changes(store: Store, changes: list[Change]) -> Applied:
    """Apply the changes, durably; all in one transaction, so one fsync for all.

    Those before the first that can't be applied (ProtocolError, Unavailable) are applied, and the failure is returned.
    """
    try:
        with store.write() as transaction:
            for change in changes:
                transaction.apply(change)
    except TwinhullError:
        return _apply_one_by_one(store, changes)
    return Applied(changes, store.vector())


def _apply_one_by_one(store: Store, changes: list[Change]) -> Applied:
    for done, change in enumerate(changes):
        try:
            with store.write() as transaction:
                transaction.apply(change)
        except TwinhullError as error:
            return Applied(changes[:done], store.vector(), error)
    return Applied(changes, store.vector())


def apply_page(store: Store, page: SnapshotPage) -> Applied:
    """Merge a page of a snapshot."""
    with store.write() as transaction:
        for record in page.records:
            transaction.merge_record(record)
        if page.vector is not None:
            transaction.reached(page.vector)
    return Applied(page.records, store.vector())
