"""Queries for what can be copied to other registries: artifacts as lists show them, in the order of their digests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, select

from twinhull.metadata.artifact_parts import labels_of_artifacts, tags_of_artifacts
from twinhull.metadata.filtering import equals
from twinhull.metadata.tables.content import manifests

# Signatures of signatures, and so on, are followed so far.
_BELONGS_DEPTH: Final = 8


class Replicable(NamedTuple):
    """An artifact, and what a policy looks at before it picks it."""

    digest: str
    # Harbor's word: IMAGE, CHART and the like.
    type: str
    tags: tuple[str, ...]
    # The names of its labels.
    labels: frozenset[str]


def replicables_page(connection: Connection, repository: str, after: str, limit: int) -> list[Replicable]:
    """Return listed artifacts of a repository after a digest, at most so many; what belongs to others is not listed."""
    return _replicables(
        connection,
        repository,
        [equals(manifests.c.repository, repository), manifests.c.listed.is_(True), manifests.c.digest > after],
        limit,
    )


def find_replicable(connection: Connection, repository: str, digest: str) -> Replicable | None:
    """Return the artifact of a digest, or the one that it belongs to (the image of a signature); None if it is not there."""
    for _ in range(_BELONGS_DEPTH):
        key = [equals(manifests.c.repository, repository), equals(manifests.c.digest, digest)]
        row = connection.execute(select(manifests.c.listed, manifests.c.accessory_of).where(*key)).first()
        if row is None:
            return None
        if row.listed or not row.accessory_of:
            return _replicables(connection, repository, key, 1)[0]
        digest = row.accessory_of
    return None


def _replicables(
    connection: Connection, repository: str, conditions: Sequence[ColumnElement[bool]], limit: int
) -> list[Replicable]:
    query = select(manifests.c.digest, manifests.c.type).where(*conditions).order_by(manifests.c.digest).limit(limit)
    found = [(str(row.digest), str(row.type)) for row in connection.execute(query)]
    keys = [(repository, digest) for digest, _ in found]
    tags, labels = tags_of_artifacts(connection, keys), labels_of_artifacts(connection, keys)
    return [
        Replicable(
            digest,
            kind,
            tuple(sorted(tag.name for tag in tags.get((repository, digest), ()))),
            frozenset(label.name for label in labels.get((repository, digest), ())),
        )
        for digest, kind in found
    ]
