"""What the query tables say about content: manifests, tags, blobs, referrers. For the catalog; reads only.

Functions that list in pages return entries after a name, sorted by bytes, at most `limit` of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import Connection, TextClause, bindparam, text

from twinhull.kit.errors import Denied, ProjectUnknown
from twinhull.metadata.summaries import is_content

# As many digests as one statement asks for; SQLite takes at most 32,766 parameters.
_BATCH: Final = 500

_COUNT_MANIFESTS: Final = text("SELECT count(*) FROM manifests")
_PROJECT: Final = text("SELECT registry FROM projects WHERE name = :project")
_REPOSITORY: Final = text("SELECT 1 FROM repositories WHERE name = :repository")
_TAG: Final = text("SELECT digest FROM tags WHERE repository = :repository AND name = :tag")
_MANIFEST: Final = text(
    "SELECT manifests.media_type, manifest_contents.content FROM manifests"
    " JOIN manifest_contents ON manifest_contents.digest = manifests.digest"
    " WHERE manifests.repository = :repository AND manifests.digest = :digest"
)
_VISIBLE_BLOB: Final = text(
    "SELECT size, linked_ms FROM blob_links WHERE repository = :repository AND digest = :digest"
    " UNION ALL SELECT size, -1 FROM manifest_blobs WHERE repository = :repository AND blob = :digest AND required"
    " ORDER BY linked_ms LIMIT 1"
)
_BLOB_NAMED: Final = text(
    "SELECT manifest FROM manifest_blobs WHERE repository = :repository AND blob = :digest ORDER BY manifest LIMIT 1"
)
_BLOB_HOMES: Final = text(
    "SELECT repository, size FROM blob_links WHERE digest = :digest"
    " UNION SELECT repository, size FROM manifest_blobs WHERE blob = :digest AND required"
    " ORDER BY repository LIMIT :limit"
)
_VISIBLE_BLOBS: Final = text(
    "SELECT digest, size FROM blob_links WHERE repository = :repository AND digest IN :digests"
    " UNION SELECT blob, size FROM manifest_blobs WHERE repository = :repository AND blob IN :digests AND required"
).bindparams(bindparam("digests", expanding=True))
_VISIBLE_MANIFESTS: Final = text(
    "SELECT digest, manifest_bytes FROM manifests WHERE repository = :repository AND digest IN :digests"
).bindparams(bindparam("digests", expanding=True))
_PARENT: Final = text(
    "SELECT parent FROM manifest_children WHERE repository = :repository AND child = :digest ORDER BY parent LIMIT 1"
)
_TAGS_OF: Final = text("SELECT name FROM tags WHERE repository = :repository AND digest = :digest ORDER BY name")
_TAGS: Final = text("SELECT name FROM tags WHERE repository = :repository AND name > :last ORDER BY name LIMIT :limit")
_REPOSITORIES: Final = text("SELECT name FROM repositories WHERE name > :last ORDER BY name LIMIT :limit")
_REPOSITORIES_OF: Final = text(
    "SELECT name FROM repositories WHERE project IN :projects AND name > :last ORDER BY name LIMIT :limit"
).bindparams(bindparam("projects", expanding=True))
_REFERRERS: Final = text(
    "SELECT digest, media_type, artifact_type, manifest_bytes, annotations FROM manifests"
    " WHERE repository = :repository AND subject = :subject AND digest > :last ORDER BY digest LIMIT :limit"
)
_REFERRERS_OF_TYPE: Final = text(
    "SELECT digest, media_type, artifact_type, manifest_bytes, annotations FROM manifests"
    " WHERE repository = :repository AND subject = :subject AND artifact_type = :artifact_type AND digest > :last"
    " ORDER BY digest LIMIT :limit"
)


class VisibleBlob(NamedTuple):
    """A blob as one repository sees it."""

    size: int
    # When it was linked last, if a link is all by which it is visible; None: a manifest names it.
    linked_ms: int | None


class Referrer(NamedTuple):
    """A manifest that names another as its subject."""

    digest: str
    media_type: str
    artifact_type: str
    size: int
    annotations: dict[str, str]


def require_pushable(connection: Connection, project: str) -> None:
    """Raise ProjectUnknown unless the project lives, Denied when it stands for another registry's content."""
    found = connection.execute(_PROJECT, {"project": project}).first()
    if found is None:
        raise ProjectUnknown(f"project {project!r} not found")
    if found[0]:
        raise Denied(f"denied: can not push artifact to a proxy project: {project}")


def is_proxied(connection: Connection, project: str) -> bool:
    """Tell whether the project lives and stands for another registry's content."""
    found = connection.execute(_PROJECT, {"project": project}).first()
    return found is not None and bool(found[0])


def require_proxied(connection: Connection, project: str) -> None:
    """Raise ProjectUnknown unless the project lives and stands for another registry's content."""
    if not is_proxied(connection, project):
        raise ProjectUnknown(f"proxy project {project!r} not found")


def has_repository(connection: Connection, repository: str) -> bool:
    """Tell whether anything was pushed to the repository and it was not deleted."""
    return connection.execute(_REPOSITORY, {"repository": repository}).first() is not None


def digest_of_tag(connection: Connection, repository: str, tag: str) -> str | None:
    """Return the digest that the tag names, or None."""
    return connection.execute(_TAG, {"repository": repository, "tag": tag}).scalar()


def manifest(connection: Connection, repository: str, digest: str) -> tuple[str, bytes] | None:
    """Return the media type and exact bytes of a manifest of the repository, or None if they are not here.

    Bytes that were changed behind the node's back are as good as none: a peer has the right ones.
    """
    row = connection.execute(_MANIFEST, {"repository": repository, "digest": digest}).first()
    return (row[0], row[1]) if row is not None and is_content(digest, row[1]) else None


def visible_blob(connection: Connection, repository: str, digest: str) -> VisibleBlob | None:
    """Return a blob that is visible in the repository, or None."""
    row = connection.execute(_VISIBLE_BLOB, {"repository": repository, "digest": digest}).first()
    return None if row is None else VisibleBlob(row[0], row[1] if row[1] >= 0 else None)


def manifest_naming_blob(connection: Connection, repository: str, digest: str) -> str | None:
    """Return the digest of a manifest of the repository that names the blob, or None."""
    return connection.execute(_BLOB_NAMED, {"repository": repository, "digest": digest}).scalar()


def homes_of_blob(connection: Connection, digest: str, limit: int) -> list[tuple[str, int]]:
    """Return repositories in which the blob is visible, with its size."""
    return [(row[0], row[1]) for row in connection.execute(_BLOB_HOMES, {"digest": digest, "limit": limit})]


def visible_blobs(connection: Connection, repository: str, digests: Iterable[str]) -> dict[str, int]:
    """Return those of the digests that are blobs visible in the repository, with their sizes."""
    return _sizes(connection, _VISIBLE_BLOBS, repository, list(digests))


def visible_manifests(connection: Connection, repository: str, digests: Iterable[str]) -> dict[str, int]:
    """Return those of the digests that are manifests of the repository, with their own sizes."""
    return _sizes(connection, _VISIBLE_MANIFESTS, repository, list(digests))


def _sizes(connection: Connection, query: TextClause, repository: str, wanted: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(wanted), _BATCH):
        values = {"repository": repository, "digests": list(wanted[start : start + _BATCH])}
        found.update((row[0], row[1]) for row in connection.execute(query, values))
    return found


def index_naming(connection: Connection, repository: str, digest: str) -> str | None:
    """Return the digest of an index of the repository that lists the manifest, or None."""
    return connection.execute(_PARENT, {"repository": repository, "digest": digest}).scalar()


def tags_of(connection: Connection, repository: str, digest: str) -> list[str]:
    """Return all tags of the repository that name the digest."""
    return [row[0] for row in connection.execute(_TAGS_OF, {"repository": repository, "digest": digest})]


def tags_page(connection: Connection, repository: str, last: str, limit: int) -> list[str]:
    """Return names of the repository's tags after `last`."""
    values = {"repository": repository, "last": last, "limit": limit}
    return [row[0] for row in connection.execute(_TAGS, values)]


def repositories_page(connection: Connection, last: str, limit: int, *, projects: Iterable[str] | None = None) -> list[str]:
    """Return names of repositories after `last`, of these projects or of all."""
    if projects is None:
        return [row[0] for row in connection.execute(_REPOSITORIES, {"last": last, "limit": limit})]
    # All repositories of one project come before those of the next, in this order: so batch after batch fills the page.
    ordered = sorted(projects, key=lambda project: f"{project}/")
    names: list[str] = []
    for start in range(0, len(ordered), _BATCH):
        if len(names) >= limit:
            break
        values = {"projects": ordered[start : start + _BATCH], "last": last, "limit": limit - len(names)}
        names.extend(row[0] for row in connection.execute(_REPOSITORIES_OF, values))
    return names


def referrers_page(
    connection: Connection, repository: str, subject: str, *, artifact_type: str, last: str, limit: int
) -> list[Referrer]:
    """Return manifests that name the subject, after the digest `last`; only those of the artifact type unless it is empty."""
    values = {"repository": repository, "subject": subject, "last": last, "limit": limit}
    if artifact_type:
        rows = connection.execute(_REFERRERS_OF_TYPE, {**values, "artifact_type": artifact_type})
    else:
        rows = connection.execute(_REFERRERS, values)
    return [Referrer(row[0], row[1], row[2], row[3], msgspec.json.decode(row[4], type=dict[str, str])) for row in rows]


def count_manifests(connection: Connection) -> int:
    """Return how many manifests there are in all repositories together."""
    return int(connection.execute(_COUNT_MANIFESTS).scalar_one())
