"""In which repositories a digest is, and what belongs to it there."""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import Connection, select

from twinhull.kit.reference import project_of
from twinhull.metadata import content, members
from twinhull.metadata.tables.content import blob_links, manifest_blobs, manifests
from twinhull.records.kinds import BLOB, MANIFEST, content_key

_PLACES_MAX: Final = 100


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One repository that has a digest: the records it takes to pull it there, and the blobs with their sizes."""

    repository: str
    records: list[tuple[str, str]]
    blobs: list[tuple[str, int]]


def places_of(connection: Connection, digest: str) -> list[Place]:
    """Return the repositories that have the digest as a manifest or, if none has, as a blob; each once, at most 100 of each."""
    query = select(manifests.c.repository).where(manifests.c.digest == digest).order_by(manifests.c.repository)
    repositories = [row.repository for row in connection.execute(query.limit(_PLACES_MAX))]
    if repositories:
        return [_of_manifest(connection, repository, digest) for repository in repositories]
    sizes: dict[str, int] = {}
    for table, column in ((blob_links, blob_links.c.digest), (manifest_blobs, manifest_blobs.c.blob)):
        rows = connection.execute(select(table.c.repository, table.c.size).where(column == digest).limit(_PLACES_MAX))
        sizes.update((row.repository, int(row.size)) for row in rows)
    return [_of_blob(connection, repository, digest, sizes[repository]) for repository in sorted(sizes)]


def _of_blob(connection: Connection, repository: str, digest: str, size: int) -> Place:
    # What makes it visible there: any manifest that names it, or its own link.
    manifest = members.a_manifest_naming(connection, repository, digest)
    kind, named = (MANIFEST.name, manifest) if manifest is not None else (BLOB.name, digest)
    return Place(repository=repository, records=[(kind, content_key(repository, named))], blobs=[(digest, size)])


def _of_manifest(connection: Connection, repository: str, digest: str) -> Place:
    due, seen = [digest], {digest}
    while due:
        for child in members.children_of_manifest(connection, repository, due.pop()):
            if child not in seen:
                seen.add(child)
                due.append(child)
    if content.is_proxied(connection, project_of(repository)):
        # Of what came from another registry, indexes list what nobody has pulled yet.
        seen &= content.visible_manifests(connection, repository, seen).keys()
    return Place(
        repository=repository,
        records=[(MANIFEST.name, content_key(repository, manifest)) for manifest in sorted(seen)],
        blobs=members.all_blobs_of(connection, repository, digest),
    )
