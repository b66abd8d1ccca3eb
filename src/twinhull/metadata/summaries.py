"""What is kept of each record beside its bytes, so that two nodes can compare them and damage shows."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
from sqlalchemy import Connection, text

from twinhull.kit.digest import ALGORITHMS, Digest, algorithm_of, digest_of
from twinhull.records.merge import Record, decode, merge

_LOGGED: Final = text("SELECT record FROM changes WHERE kind = :kind AND key = :key ORDER BY position")


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


def is_content(digest: str, content: object) -> bool:
    """Tell whether this, as a column has it, are the bytes of a manifest's digest."""
    if not isinstance(content, bytes) or digest.partition(":")[0] not in ALGORITHMS:
        return False
    return digest_of(content, algorithm_of(Digest(digest))) == digest


def from_log(connection: Connection, kind: str, key: str) -> Record | None:
    """Return what the log still holds of a record, all its changes merged; None when it holds none. Reads the whole log."""
    found: Record | None = None
    for (encoded,) in connection.execute(_LOGGED, {"kind": kind, "key": key}):
        try:
            logged = decode(encoded)
        except (ValueError, TypeError, msgspec.DecodeError):
            continue
        found = logged if found is None else merge(found, logged)
    return found
