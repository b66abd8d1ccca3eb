"""What is kept of each record beside its bytes, so that two nodes can compare them and damage shows."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, text

from twinhull.kit.digest import ALGORITHMS, Digest, algorithm_of, digest_of
from twinhull.records.merge import Record, decode, merge

_LOGGED: Final = text(
    "SELECT origin, seq, kind, key, record, summary FROM changes WHERE kind = :kind AND key = :key ORDER BY position"
)


def bucket_of(key: str) -> int:
    """Return which of the 256 buckets of the state root a key falls into."""
    return hashlib.blake2b(key.encode(), digest_size=1).digest()[0]


def summary_of(key: str, encoded: bytes) -> int:
    """Return 48 bits that stand for the record's bytes; sums of them make a state root that knows no order.

    Equal records have equal bytes. Bytes that were changed behind the node's back do not match what was kept of them.
    """
    hashed = hashlib.blake2b(key.encode(), digest_size=6)
    hashed.update(b"\0")
    hashed.update(encoded)
    return int.from_bytes(hashed.digest(), "big")


def is_whole(key: str, encoded: object, summary: int) -> bool:
    """Tell whether this, as a column has it, are the bytes that were stored."""
    return isinstance(encoded, bytes) and summary_of(key, encoded) == summary


def sum_of_change(origin: str, seq: int, kind: str, key: str, encoded: bytes) -> int:
    """Return what is kept of a change beside its row in the log; never 0."""
    return summary_of(f"{origin}\0{seq}\0{kind}\0{key}", encoded) or 1


def is_whole_change(row: Row[Any]) -> bool:
    """Tell whether a row of the log is what was written, as far as the release that wrote it has kept what tells that."""
    if not row.summary:
        return True
    if not isinstance(row.record, bytes):
        return False
    return bool(sum_of_change(row.origin, row.seq, row.kind, row.key, row.record) == row.summary)


def is_content(digest: str, content: object) -> bool:
    """Tell whether this, as a column has it, are the bytes of a manifest's digest."""
    if not isinstance(content, bytes) or digest.partition(":")[0] not in ALGORITHMS:
        return False
    return digest_of(content, algorithm_of(Digest(digest))) == digest


def from_log(connection: Connection, kind: str, key: str) -> Record | None:
    """Return what the log still holds of a record, all its changes merged; None when it holds none. Reads the whole log."""
    found: Record | None = None
    for row in connection.execute(_LOGGED, {"kind": kind, "key": key}):
        if not is_whole_change(row):
            continue
        try:
            logged = decode(row.record)
        except (ValueError, TypeError, msgspec.DecodeError):
            continue
        found = logged if found is None else merge(found, logged)
    return found
