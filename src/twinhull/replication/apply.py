"""What comes from a peer into this node's metadata: changes in order, or records of a snapshot."""

from __future__ import annotations

from twinhull.kit.errors import TwinhullError
from twinhull.metadata.store import Store
from twinhull.records.change import Change, VersionVector
from twinhull.replication.protocol import SnapshotPage


def apply_changes(store: Store, changes: list[Change]) -> VersionVector:
    """Apply the changes, durably, and return what this node has then; all in one transaction, so one fsync for all.

    Raises ProtocolError or Unavailable for the first that can't be applied; those before it are applied.
    """
    try:
        with store.write() as transaction:
            for change in changes:
                transaction.apply(change)
    except TwinhullError:
        for change in changes:
            with store.write() as transaction:
                transaction.apply(change)
    return store.vector()


def apply_page(store: Store, page: SnapshotPage) -> VersionVector:
    """Merge a page of a snapshot, and return what this node has then."""
    with store.write() as transaction:
        for record in page.records:
            transaction.merge_record(record)
        if page.vector is not None:
            transaction.reached(page.vector)
    return store.vector()
