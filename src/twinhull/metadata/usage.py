"""Queries for how much a project stores, and how much it may."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import Connection, select

from twinhull.metadata.documents import find
from twinhull.metadata.statement import Statement
from twinhull.metadata.tables.content import blob_links, manifest_blobs, manifests
from twinhull.metadata.tables.usage import project_usage
from twinhull.records.kinds import QUOTA, document_key

UNLIMITED: Final = -1
_LIMIT: Final = Statement("SELECT body FROM documents WHERE kind = 'quota' AND key = :key")


class Quota(NamedTuple):
    """A project's limit, -1 for none, and what it uses of it, in bytes."""

    hard: int
    used: int


def used_by(connection: Connection, projects: Iterable[str]) -> dict[str, int]:
    """Return the bytes that each of these projects stores; those that store nothing are left out."""
    query = select(project_usage.c.project, project_usage.c.bytes).where(project_usage.c.project.in_(list(projects)))
    return {str(row[0]): int(row[1]) for row in connection.execute(query) if row[1]}


def hard_limit(connection: Connection, project: str) -> int:
    """Return the bytes that a project may store, or -1."""
    document = find(connection, QUOTA, document_key(project, ""))
    limit = document.fields.get("storage") if document is not None else None
    return limit if isinstance(limit, int) else UNLIMITED


def may_be_limited(connection: Connection, project: str) -> bool:
    """Tell whether a project may have a limit, inside a writing transaction, at a tenth of what `hard_limit` costs.

    Asked at every push; what it says of an earlier project of that name is settled by `hard_limit`.
    """
    row = _LIMIT.first(connection, {"key": document_key(project, "")})
    return row is not None and msgspec.json.decode(row[0], type=dict[str, object]).get("storage") != UNLIMITED


def quota_of(connection: Connection, project: str) -> Quota:
    """Return a project's limit and usage."""
    return Quota(hard_limit(connection, project), used_by(connection, [project]).get(project, 0))


def is_in_project(connection: Connection, project: str, digest: str) -> bool:
    """Tell whether a blob or manifest is counted in the project already."""
    prefix = f"{project}/"
    columns = (
        (blob_links.c.repository, blob_links.c.digest),
        (manifests.c.repository, manifests.c.digest),
        (manifest_blobs.c.repository, manifest_blobs.c.blob),
    )
    found = (
        select(repository).where(content == digest, repository.startswith(prefix, autoescape=True))
        for repository, content in columns
    )
    return any(connection.execute(query.limit(1)).first() is not None for query in found)
