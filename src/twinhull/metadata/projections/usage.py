"""Keeps, while records become rows, how much is stored in each project; see metadata/tables/usage.py.

A blob is in a project when a repository of it has a link to it, or a manifest in it names it: a copied artifact brings no
links. Each function is called before the rows that it counts come or go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import Connection

from twinhull.kit.reference import project_of
from twinhull.metadata.statement import Statement

# The character after "/" by its code; names are compared by their bytes.
_AFTER_SLASH: Final = "0"

_LINK: Final = Statement("SELECT size FROM blob_links WHERE repository = :repository AND digest = :digest")
LINK_ELSEWHERE: Final = Statement(
    "SELECT 1 FROM blob_links WHERE digest = :digest AND repository <> :repository"
    " AND repository >= :first AND repository < :beyond LIMIT 1"
)
NAMED_ELSEWHERE: Final = Statement(
    "SELECT 1 FROM manifest_blobs WHERE blob = :digest AND NOT (repository = :repository AND manifest = :manifest)"
    " AND repository >= :first AND repository < :beyond LIMIT 1"
)
_BLOBS: Final = Statement(
    "SELECT blob, size, required FROM manifest_blobs WHERE repository = :repository AND manifest = :manifest"
)
_MANIFEST: Final = Statement("SELECT manifest_bytes FROM manifests WHERE repository = :repository AND digest = :digest")
MANIFEST_ELSEWHERE: Final = Statement(
    "SELECT 1 FROM manifests WHERE digest = :digest AND repository <> :repository"
    " AND repository >= :first AND repository < :beyond LIMIT 1"
)
_ADD: Final = Statement(
    "INSERT INTO project_usage (project, bytes) VALUES (:project, :bytes)"
    " ON CONFLICT (project) DO UPDATE SET bytes = project_usage.bytes + excluded.bytes"
)


# Each blob and manifest of the project once.
_RECOUNT: Final = Statement(
    "INSERT INTO project_usage (project, bytes) SELECT CAST(:project AS VARCHAR(255)),"
    " (SELECT coalesce(sum(size), 0) FROM (SELECT digest, max(size) AS size FROM (SELECT digest, size FROM blob_links"
    " WHERE repository >= :first AND repository < :beyond UNION ALL SELECT blob AS digest, size FROM manifest_blobs"
    " WHERE required AND repository >= :first AND repository < :beyond) AS named GROUP BY digest) AS blobs)"
    " + (SELECT coalesce(sum(size), 0) FROM (SELECT digest, max(manifest_bytes) AS size FROM manifests"
    " WHERE repository >= :first AND repository < :beyond GROUP BY digest) AS held)"
    " WHERE (1 = 1) ON CONFLICT (project) DO UPDATE SET bytes = excluded.bytes"
)


def recount(connection: Connection, project: str) -> None:
    """Count all that is in the project anew; takes time by what is stored, so it is for mending alone."""
    _RECOUNT.run(connection, {"project": project, **_within(project)})


def count_link(connection: Connection, repository: str, digest: str, size: int | None) -> None:
    """Count a blob's link that comes into a repository, or goes from it (None)."""
    row = _LINK.first(connection, {"repository": repository, "digest": digest})
    # Most writes of a link that is there only renew it.
    if (row is None) == (size is None) or _is_held(connection, repository, digest):
        return
    _add(connection, repository, size if size is not None else -(row[0] if row is not None else 0))


def count_manifest(
    connection: Connection, repository: str, digest: str, size: int, blobs: Iterable[Mapping[str, object]]
) -> None:
    """Count a manifest that comes into a repository, with the blobs that it names, as rows of manifest_blobs."""
    if _MANIFEST.first(connection, {"repository": repository, "digest": digest}) is not None:
        return
    added = 0 if _is_elsewhere(connection, repository, digest) else size
    for row in blobs:
        if row["required"] and not _is_needed_anyhow(connection, repository, str(row["blob"]), digest):
            added += int(str(row["size"]))
    _add(connection, repository, added)


def uncount_manifest(connection: Connection, repository: str, digest: str) -> None:
    """Count a manifest out that goes from a repository, with the blobs that nothing else in the project needs."""
    row = _MANIFEST.first(connection, {"repository": repository, "digest": digest})
    if row is None:
        return
    removed = 0 if _is_elsewhere(connection, repository, digest) else int(row[0])
    for blob, size, required in _BLOBS.all(connection, {"repository": repository, "manifest": digest}):
        if required and not _is_needed_anyhow(connection, repository, blob, digest):
            removed += size
    _add(connection, repository, -removed)


def _is_needed_anyhow(connection: Connection, repository: str, blob: str, manifest: str) -> bool:
    """Tell whether a blob is in the project without this manifest."""
    is_linked = _LINK.first(connection, {"repository": repository, "digest": blob}) is not None
    return is_linked or _is_held(connection, repository, blob, manifest)


def _is_held(connection: Connection, repository: str, blob: str, manifest: str = "") -> bool:
    """Tell whether another repository of the project has a link to a blob, or a manifest but that one names it."""
    row = {"repository": repository, "digest": blob, **_within(project_of(repository))}
    if LINK_ELSEWHERE.first(connection, row) is not None:
        return True
    return NAMED_ELSEWHERE.first(connection, {**row, "manifest": manifest}) is not None


def _is_elsewhere(connection: Connection, repository: str, digest: str) -> bool:
    row = {"repository": repository, "digest": digest, **_within(project_of(repository))}
    return MANIFEST_ELSEWHERE.first(connection, row) is not None


def _within(project: str) -> dict[str, str]:
    """Return between which names those of a project's repositories are: an index finds them among thousands of others."""
    return {"first": f"{project}/", "beyond": f"{project}{_AFTER_SLASH}"}


def _add(connection: Connection, repository: str, size: int) -> None:
    if size:
        _ADD.run(connection, {"project": project_of(repository), "bytes": size})
