"""Queries for documents: labels, rules, policies, endpoints and the like, read whole, whatever their kind.

Documents of a deleted project are in their table still, since a push from elsewhere may bring the project back; every
query here leaves them out until it does, and for good once a project of that name is made anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, RowMapping, Select, func, select, text

from twinhull.metadata.accounts import resolve_id
from twinhull.metadata.filtering import ANYTHING, EVERYTHING, Fields, Slice, Wanted, count, equals
from twinhull.metadata.lives import in_living_project
from twinhull.metadata.tables.accounts import id_aliases
from twinhull.metadata.tables.documents import artifact_labels, documents, pulls
from twinhull.records.kinds import LABEL, document_key
from twinhull.records.merge import Kind

_FIELDS: Final = Fields(
    {
        "id": documents.c.id,
        "name": documents.c.name,
        "creation_time": documents.c.created_ms,
        "update_time": documents.c.updated_ms,
    },
    order=(documents.c.name, documents.c.key),
)


_ANY: Final = text("SELECT 1 FROM documents WHERE kind = :kind LIMIT 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document as the log has it. What its kind calls secret is in its fields as it was written: sealed."""

    kind: str
    key: str
    id: int
    # Empty for what the whole cluster has.
    project: str
    # Empty where a project, or the cluster, has one only.
    name: str
    # Everything but ids and times; what is None was left out.
    fields: Mapping[str, Any]
    created_ms: int
    updated_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PullCount:
    """How often something was pulled, on all nodes together, and when last; 0: never."""

    pulls: int = 0
    last_ms: int = 0


def _living(kind: Kind) -> Select[Any]:
    return select(documents).where(
        documents.c.kind == kind.name, in_living_project(documents.c.project, documents.c.project_id)
    )


def _document(row: RowMapping) -> Document:
    fields = {name: row[name] for name in ("kind", "key", "id", "project", "name", "created_ms", "updated_ms")}
    return Document(fields=msgspec.json.decode(row["body"], type=dict[str, Any]), **fields)


def has_any(connection: Connection, kind: Kind) -> bool:
    """Tell whether there may be a document of that kind; those of deleted projects count."""
    return connection.execute(_ANY, {"kind": kind.name}).first() is not None


def find(connection: Connection, kind: Kind, key: str) -> Document | None:
    """Return the document with this key (records.kinds.document_key)."""
    row = connection.execute(_living(kind).where(equals(documents.c.key, key))).mappings().first()
    return _document(row) if row is not None else None


def find_by_id(connection: Connection, kind: Kind, number: int) -> Document | None:
    """Return the document with that id, or with that other id."""
    row = connection.execute(_living(kind).where(documents.c.id == number).order_by(documents.c.key)).mappings().first()
    if row is not None:
        return _document(row)
    key = resolve_id(connection, kind.name, number)
    return find(connection, kind, key) if key is not None else None


def find_by_ids(connection: Connection, kind: Kind, numbers: Iterable[int]) -> dict[int, Document]:
    """Return the documents with these ids, or other ids, each under the number asked for; who is not there is left out."""
    wanted = {*numbers}
    if not wanted:
        return {}
    aliases = select(id_aliases.c.id, id_aliases.c.key).where(id_aliases.c.kind == kind.name, id_aliases.c.id.in_(wanted))
    by_alias = {row.id: row.key for row in connection.execute(aliases)}
    either = documents.c.id.in_(wanted) | documents.c.key.in_({*by_alias.values()})
    found = [_document(row) for row in connection.execute(_living(kind).where(either).order_by(documents.c.key)).mappings()]
    by_key, by_id = {one.key: one for one in found}, {one.id: one for one in reversed(found)}
    resolved = {number: by_id.get(number) or by_key.get(by_alias.get(number, "")) for number in sorted(wanted)}
    return {number: one for number, one in resolved.items() if one is not None}


def ids_of(connection: Connection, document: Document) -> list[int]:
    """Return the document's id and its other ids: whatever refers to it may have any of them."""
    query = select(id_aliases.c.id).where(id_aliases.c.kind == document.kind, id_aliases.c.key == document.key)
    return [document.id, *(int(row[0]) for row in connection.execute(query.order_by(id_aliases.c.id)))]


def find_of_projects(connection: Connection, kind: Kind, names: Iterable[str]) -> dict[str, Document]:
    """Return the one document of that kind that each of these projects has, by project; those without are left out."""
    return {one.project: one for one in _with_keys(connection, kind, [document_key(name, "") for name in names])}


def find_named(connection: Connection, kind: Kind, names: Iterable[str]) -> dict[str, Document]:
    """Return those of the whole cluster's documents with these names, by name; those that are not there are left out."""
    return {one.name: one for one in _with_keys(connection, kind, [document_key("", name) for name in names])}


def _with_keys(connection: Connection, kind: Kind, keys: Sequence[str]) -> list[Document]:
    if not keys:
        return []
    return [_document(row) for row in connection.execute(_living(kind).where(documents.c.key.in_(keys))).mappings()]


def list_documents(
    connection: Connection, kind: Kind, *, project: str | None = None, wanted: Wanted = ANYTHING, part: Slice = EVERYTHING
) -> tuple[list[Document], int]:
    """Return that part of the wanted documents, by name, and how many there are in all.

    `project` is one project's name, empty for those of the whole cluster, None for both. Lists can be filtered and sorted by
    id, name, creation_time and update_time.
    """
    query = _living(kind) if project is None else _living(kind).where(equals(documents.c.project, project))
    query = _FIELDS.select(query, wanted)
    return [_document(row) for row in connection.execute(part.of(query)).mappings()], count(connection, query)


def keys_of_project(connection: Connection, project: str) -> list[tuple[str, str]]:
    """Return kind and key of all documents of a project, hidden ones too."""
    query = select(documents.c.kind, documents.c.key).where(documents.c.project == project)
    return [(row.kind, row.key) for row in connection.execute(query.order_by(documents.c.kind, documents.c.key))]


# -- labels on artifacts -------------------------------------------------------------------------------------------


def labels_of(connection: Connection, repository: str, digests: Iterable[str]) -> dict[str, list[Document]]:
    """Return the labels of each of these artifacts, by name; those without are left out. Three queries, however many."""
    query = select(artifact_labels.c.digest, artifact_labels.c.label_id).where(
        artifact_labels.c.repository == repository, artifact_labels.c.digest.in_(list(digests))
    )
    attached = [(str(row.digest), int(row.label_id)) for row in connection.execute(query)]
    labels = find_by_ids(connection, LABEL, (number for _, number in attached))
    found: dict[str, dict[str, Document]] = {}
    for digest, number in attached:
        if (label := labels.get(number)) is not None:
            found.setdefault(digest, {})[label.key] = label
    return {digest: sorted(held.values(), key=lambda label: (label.name, label.key)) for digest, held in found.items()}


def label_keys(connection: Connection, repository: str, digest: str, *, numbers: Sequence[int] | None = None) -> list[str]:
    """Return the label part of the keys of an artifact's attachments, all or those of a label with these ids."""
    query = select(artifact_labels.c.label).where(
        artifact_labels.c.repository == repository, artifact_labels.c.digest == digest
    )
    if numbers is not None:
        query = query.where(artifact_labels.c.label_id.in_(numbers))
    return [str(row[0]) for row in connection.execute(query.order_by(artifact_labels.c.label))]


# -- pulls ---------------------------------------------------------------------------------------------------------


def pulls_of(connection: Connection, repository: str, digests: Iterable[str]) -> dict[str, PullCount]:
    """Return how often each of these artifacts was pulled; those that never were are left out."""
    query = (
        select(pulls.c.digest, func.sum(pulls.c.pulls), func.max(pulls.c.last_ms))
        .where(pulls.c.repository == repository, pulls.c.digest.in_(list(digests)))
        .group_by(pulls.c.digest)
    )
    return {row[0]: PullCount(pulls=int(row[1]), last_ms=int(row[2])) for row in connection.execute(query)}


def pulls_of_repositories(connection: Connection, names: Iterable[str]) -> dict[str, PullCount]:
    """Return how often anything in each of these repositories was pulled; those of which nothing was are left out."""
    query = (
        select(pulls.c.repository, func.sum(pulls.c.pulls), func.max(pulls.c.last_ms))
        .where(pulls.c.repository.in_(list(names)), pulls.c.digest == "")
        .group_by(pulls.c.repository)
    )
    return {row[0]: PullCount(pulls=int(row[1]), last_ms=int(row[2])) for row in connection.execute(query)}
