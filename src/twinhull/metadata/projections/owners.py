"""Which record a row of a query table tells of: a row that should be otherwise is made anew from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import Row, Table

from twinhull.records import kinds
from twinhull.records.kinds import artifact_label_key, content_key, member_key, owned_key, pulls_key, tag_key

# Given a row by its columns, the kind and key of its record.
_OWNERS: Final[Mapping[str, Callable[[Any], tuple[str, str]]]] = {
    "nodes": lambda row: (kinds.NODE.name, row.id),
    "settings": lambda row: (kinds.SETTING.name, row.name),
    "users": lambda row: (kinds.USER.name, row.name),
    "projects": lambda row: (kinds.PROJECT.name, row.name),
    "members": lambda row: (kinds.MEMBER.name, member_key(row.project, row.entity_type, row.entity)),
    "robots": lambda row: (kinds.ROBOT.name, row.name),
    "ended_sessions": lambda row: (kinds.SESSION_END.name, row.id),
    "id_aliases": lambda row: (row.kind, row.key),
    "repositories": lambda row: (kinds.REPOSITORY.name, row.name),
    "manifests": lambda row: (kinds.MANIFEST.name, content_key(row.repository, row.digest)),
    "manifest_blobs": lambda row: (kinds.MANIFEST.name, content_key(row.repository, row.manifest)),
    "manifest_children": lambda row: (kinds.MANIFEST.name, content_key(row.repository, row.parent)),
    "tags": lambda row: (kinds.TAG.name, tag_key(row.repository, row.name)),
    "blob_links": lambda row: (kinds.BLOB.name, content_key(row.repository, row.digest)),
    "documents": lambda row: (row.kind, row.key),
    "artifact_labels": lambda row: (kinds.ARTIFACT_LABEL.name, artifact_label_key(row.repository, row.digest, row.label)),
    "pulls": lambda row: (kinds.PULLS.name, pulls_key(row.repository, row.digest, row.node)),
    "progress": lambda row: (kinds.PROGRESS.name, row.node),
    "executions": lambda row: (kinds.EXECUTION.name, owned_key(row.node, row.id)),
    "tasks": lambda row: (kinds.TASK.name, owned_key(row.node, row.id)),
    "audit_records": lambda row: (kinds.AUDIT.name, owned_key(row.node, row.id)),
}
TABLES: Final = frozenset(_OWNERS)


def record_of_row(table: Table, row: Row[Any]) -> tuple[str, str]:
    """Return the kind and key of the record that the row of a derived table was made from, or would be."""
    return _OWNERS[table.name](row)
