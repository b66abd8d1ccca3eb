"""Keeps, while records become rows, how much is stored in each project; see metadata/tables/usage.py."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from twinhull.kit.reference import project_of
from twinhull.metadata.statement import Statement

_LINK: Final = Statement("SELECT size FROM blob_links WHERE repository = :repository AND digest = :digest")
_LINK_ELSEWHERE: Final = Statement(
    "SELECT 1 FROM blob_links WHERE digest = :digest AND repository <> :repository"
    " AND substr(repository, 1, :length) = :prefix LIMIT 1"
)
_MANIFEST: Final = Statement("SELECT manifest_bytes FROM manifests WHERE repository = :repository AND digest = :digest")
_MANIFEST_ELSEWHERE: Final = Statement(
    "SELECT 1 FROM manifests WHERE digest = :digest AND repository <> :repository"
    " AND substr(repository, 1, :length) = :prefix LIMIT 1"
)
_ADD: Final = Statement(
    "INSERT INTO project_usage (project, bytes) VALUES (:project, :bytes)"
    " ON CONFLICT (project) DO UPDATE SET bytes = project_usage.bytes + excluded.bytes"
)


def count_link(connection: Connection, repository: str, digest: str, size: int | None) -> None:
    """Count a blob that comes into a repository, or goes from it (None); to be called before its row does."""
    _count(connection, (_LINK, _LINK_ELSEWHERE), repository, digest, size)


def count_manifest(connection: Connection, repository: str, digest: str, size: int | None) -> None:
    """Count a manifest that comes into a repository, or goes from it (None); to be called before its row does."""
    _count(connection, (_MANIFEST, _MANIFEST_ELSEWHERE), repository, digest, size)


def _count(
    connection: Connection, statements: tuple[Statement, Statement], repository: str, digest: str, size: int | None
) -> None:
    here, elsewhere = statements
    named = {"repository": repository, "digest": digest}
    row = here.first(connection, named)
    if (row is None) == (size is None):
        # It is as it was: most writes of a blob that is there only renew it.
        return
    project = project_of(repository)
    prefix = f"{project}/"
    if elsewhere.first(connection, {**named, "prefix": prefix, "length": len(prefix)}) is None:
        _ADD.run(connection, {"project": project, "bytes": size if size is not None else -(row[0] if row is not None else 0)})
