"""What was changed behind the node's back put right, in a writing transaction: from the log, and from peers' copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from twinhull.kit.reference import project_of
from twinhull.metadata.projections.usage import recount
from twinhull.metadata.statement import Statement
from twinhull.metadata.summaries import bucket_of, from_log, is_content, is_whole
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import Change
from twinhull.records.kinds import BLOB, KINDS, MANIFEST, PROJECT, split_content_key
from twinhull.records.merge import Record, decode, merge

_ROW: Final = Statement("SELECT record, bucket, summary FROM records WHERE kind = :kind AND key = :key")
_COUNTED: Final = frozenset({PROJECT.name, MANIFEST.name, BLOB.name})
_CONTENT: Final = Statement("SELECT content FROM manifest_contents WHERE digest = :digest")


def heal_record(transaction: Transaction, kind: str, key: str, copies: Sequence[Change]) -> bool:
    """Put what the log and the peers know of a damaged record in its place; tell whether it is whole now."""
    row = _ROW.first(transaction.connection, {"kind": kind, "key": key})
    rules = KINDS.get(kind)
    if rules is None or row is None:
        return row is None
    if is_whole(key, row[0], row[2]) and row[1] == bucket_of(key):
        return True
    found: Record | None = decode(row[0]) if is_whole(key, row[0], row[2]) else from_log(transaction.connection, kind, key)
    for copy in copies:
        theirs = _decoded(copy)
        if theirs is not None:
            found = theirs if found is None else merge(found, theirs)
    if found is None:
        return False
    transaction.replace(rules, key, found)
    return True


def heal_rows(transaction: Transaction, kind: str, key: str) -> bool:
    """Make the rows of the query tables anew that tell of a record; tell whether its record is whole."""
    rules = KINDS.get(kind)
    if rules is None:
        return False
    record = transaction.get(rules, key)
    if record is None:
        transaction.forget(rules, key)
    else:
        transaction.replace(rules, key, record)
    if kind in _COUNTED:
        # Rows that came and went behind the node's back were not counted.
        recount(transaction.connection, key if rules is PROJECT else project_of(split_content_key(key)[0]))
    return True


def heal_content(transaction: Transaction, kind: str, key: str, copies: Sequence[Change]) -> bool:
    """Put a manifest's right bytes in the place of wrong or missing ones; tell whether they are right now."""
    _, digest = split_content_key(key)
    row = _CONTENT.first(transaction.connection, {"digest": digest})
    if row is not None and is_content(digest, row[0]):
        return True
    for copy in copies:
        if copy.content is not None and is_content(digest, copy.content):
            transaction.put_content(digest, copy.content)
            return heal_rows(transaction, kind, key)
    return False


def _decoded(copy: Change) -> Record | None:
    try:
        return decode(copy.record)
    except (ValueError, msgspec.DecodeError):
        return None
