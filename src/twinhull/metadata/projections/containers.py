"""Projects and repositories: they live while any artifact in them does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection

from twinhull.kit.reference import project_of
from twinhull.metadata.projections.rows import Projection, Values, json_of, remove, text_of, times_of
from twinhull.metadata.statement import Statement
from twinhull.metadata.summaries import is_whole
from twinhull.metadata.tables.accounts import projects
from twinhull.metadata.tables.columns import upsert
from twinhull.metadata.tables.content import repositories
from twinhull.records import kinds
from twinhull.records.kinds import id_and_aliases
from twinhull.records.merge import decode, values_of

_IS_DEAD: Final = Statement("SELECT 1 FROM records WHERE kind = :kind AND key = :key AND dead")
_RECORD: Final = Statement("SELECT record, summary FROM records WHERE kind = :kind AND key = :key")
_ANY_IN_REPOSITORY: Final = Statement("SELECT 1 FROM manifests WHERE repository = :name LIMIT 1")
_ANY_IN_PROJECT: Final = Statement(
    "SELECT 1 FROM repositories WHERE project = :name"
    " AND EXISTS (SELECT 1 FROM manifests WHERE manifests.repository = repositories.name) LIMIT 1"
)


def _project(connection: Connection, key: str, values: Values | None) -> None:
    if values is None:
        if _ANY_IN_PROJECT.first(connection, {"name": key}) is None:
            return remove(connection, projects, name=key)
        values = _last_values(connection, kinds.PROJECT.name, key)
    described = values.get("metadata")
    # Each metadata item is a field of its own ("metadata.public"), so that different items merge one by one.
    items = {name[9:]: value for name, value in values.items() if name.startswith("metadata.") and value is not None}
    items.update(described if isinstance(described, dict) else {})
    row = {
        "name": key,
        "id": id_and_aliases(values.get("ids"))[0],
        "owner": text_of(values.get("owner")),
        "metadata": json_of(dict(sorted(items.items()))),
        "public": items.get("public") == "true",
        "registry": text_of(values.get("registry")),
        **times_of(values),
    }
    upsert(projects).run(connection, row)
    return None


def _repository(connection: Connection, key: str, values: Values | None) -> None:
    project = project_of(key)
    if values is None:
        if _ANY_IN_REPOSITORY.first(connection, {"name": key}) is None:
            remove(connection, repositories, name=key)
            return _touch(connection, kinds.PROJECT.name, project)
        values = _last_values(connection, kinds.REPOSITORY.name, key)
    row = {
        "name": key,
        "project": project,
        "id": id_and_aliases(values.get("ids"))[0],
        "description": text_of(values.get("description")),
        **times_of(values),
    }
    upsert(repositories).run(connection, row)
    # Its artifacts may have come before it.
    return _touch(connection, kinds.PROJECT.name, project)


def _last_values(connection: Connection, kind: str, key: str) -> Values:
    row = _RECORD.first(connection, {"kind": kind, "key": key})
    # A damaged record says nothing until it is mended, and its rows are made anew then.
    return values_of(kinds.KINDS[kind], decode(row[0])) if row is not None and is_whole(key, row[0], row[1]) else {}


def touch_containers(connection: Connection, repository: str) -> None:
    """Bring back, or let go, a repository and project whose records are dead, now that an artifact came or went."""
    _touch(connection, kinds.REPOSITORY.name, repository)
    _touch(connection, kinds.PROJECT.name, project_of(repository))


def _touch(connection: Connection, kind: str, key: str) -> None:
    if _IS_DEAD.first(connection, {"kind": kind, "key": key}) is not None:
        CONTAINERS[kind](connection, key, None)


CONTAINERS: Final[Mapping[str, Projection]] = {"project": _project, "repository": _repository}
