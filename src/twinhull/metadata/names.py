"""Which records this node has that a peer has not, and what becomes of those that the peer has seen deleted."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Final

from sqlalchemy import Connection, text

from twinhull.kit.errors import Damaged
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import VersionVector
from twinhull.records.merge import Kind, Record

_PAGE: Final = 1000
_NAMES: Final = text("SELECT kind, key FROM records WHERE (kind, key) > (:kind, :key) ORDER BY kind, key LIMIT :limit")

# A record's kind and key.
Name = tuple[str, str]


def absent(connection: Connection, after: Name, until: Name | None, present: Set[Name]) -> Iterator[Name]:
    """Yield kind and key of the records after one name, up to another or the last, that are not among those present.

    What was yielded may be deleted before the next is asked for.
    """
    while rows := connection.execute(_NAMES, {"kind": after[0], "key": after[1], "limit": _PAGE}).all():
        for kind, key in rows:
            after = kind, key
            if until is not None and after > until:
                return
            if after not in present:
                yield after


def drop_seen(transaction: Transaction, kind: Kind, key: str, vector: VersionVector) -> bool:
    """Drop what of the record this vector covers, and tell whether that was any of it.

    To be said of a record that a peer of that vector does not have: it has seen it, and has seen it deleted. What is
    damaged here stays, since it does not tell what it covers.
    """
    try:
        record = transaction.get(kind, key)
    except Damaged:
        return False
    kept = tuple(one for one in record.versions if not one.write.was_seen_by(vector)) if record is not None else ()
    if record is None or len(kept) == len(record.versions):
        return False
    if kept:
        transaction.replace(kind, key, Record(kept, record.context))
    else:
        transaction.forget(kind, key)
    return True
