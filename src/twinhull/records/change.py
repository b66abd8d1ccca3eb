"""A change: one logged write, as it stands in the log and goes over the wire."""

from __future__ import annotations

from typing import Final

import msgspec

# Per origin, the highest change applied.
VersionVector = dict[str, int]

_INCARNATION: Final = "."


def origin_of(node: str, incarnation: str) -> str:
    """Return the origin under which a node writes after it was restored: its id and a word that it never used before."""
    return f"{node}{_INCARNATION}{incarnation}"


def node_of(origin: str) -> str:
    """Return the node that writes, or wrote, under an origin."""
    return origin.partition(_INCARNATION)[0]


class Change(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One write of one record: the whole record as its origin had it after the write, never an edit."""

    origin: str
    # Counts up by one per origin, without gaps.
    seq: int
    kind: str
    key: str
    # The record's encoded form (records.merge.encode).
    record: bytes
    # The manifest's exact bytes, for kind "manifest" only; not part of the record since they never change.
    content: bytes | None = None


def covers(ours: VersionVector, theirs: VersionVector) -> bool:
    """Tell whether whoever has `ours` has seen everything that `theirs` has."""
    return all(ours.get(origin, 0) >= seq for origin, seq in theirs.items())


def joined(ours: VersionVector, theirs: VersionVector) -> VersionVector:
    """Return the vector that covers both."""
    return {origin: max(ours.get(origin, 0), theirs.get(origin, 0)) for origin in {**ours, **theirs}}


def missing(ours: VersionVector, theirs: VersionVector) -> int:
    """Return how many changes `ours` lacks of what `theirs` has."""
    return sum(max(0, seq - ours.get(origin, 0)) for origin, seq in theirs.items())
