"""Queries for repositories as people see them: with counts, filtered, sorted, in pages. Pulls need none of this."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, Select, func, select

from twinhull.metadata.accounts import resolve_id
from twinhull.metadata.filtering import ANYTHING, EVERYTHING, Fields, Slice, Wanted, contains, count, equals
from twinhull.metadata.tables.accounts import projects
from twinhull.metadata.tables.content import manifest_blobs, manifests, repositories
from twinhull.records.kinds import REPOSITORY

# As many names as one statement asks for; SQLite takes at most 32,766 parameters.
_NAMES_MAX: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository as the log has it, with what is in it."""

    name: str
    id: int
    project: str
    project_id: int
    public: bool
    description: str
    artifacts: int
    created_ms: int
    updated_ms: int


_FIELDS: Final = Fields(
    {
        "name": repositories.c.name,
        "id": repositories.c.id,
        "repository_id": repositories.c.id,
        "project_id": projects.c.id,
        "description": repositories.c.description,
        "creation_time": repositories.c.created_ms,
        "update_time": repositories.c.updated_ms,
    },
    order=(repositories.c.created_ms.desc(), repositories.c.id.desc()),
)


def _whole(names: Select[Any]) -> Select[Any]:
    """Return the query for all that is shown of the repositories whose names another query chooses."""
    chosen = names.with_only_columns(repositories.c.name).subquery()
    return (
        select(repositories, projects.c.id.label("project_id"), projects.c.public)
        .select_from(chosen)
        .join(repositories, repositories.c.name == chosen.c.name)
        .join(projects, projects.c.name == repositories.c.project)
    )


def _names(in_projects: Iterable[str] | None) -> Select[Any]:
    query = select(repositories.c.name)
    return query if in_projects is None else query.where(repositories.c.project.in_(list(in_projects)))


def find_repository(connection: Connection, name: str) -> Repository | None:
    """Return the repository of that name."""
    rows = connection.execute(_whole(_names(None).where(equals(repositories.c.name, name)))).mappings().all()
    return next(iter(_with_counts(connection, rows)), None)


def find_repository_name(connection: Connection, number: int) -> str | None:
    """Return the name of the repository with that id, or with that other id."""
    name = connection.execute(select(repositories.c.name).where(repositories.c.id == number)).scalar()
    return str(name) if name is not None else resolve_id(connection, REPOSITORY.name, number)


def list_repositories(
    connection: Connection, *, in_projects: Iterable[str] | None, wanted: Wanted = ANYTHING, part: Slice = EVERYTHING
) -> tuple[list[Repository], int]:
    """Return that part of the repositories of these projects or of all, newest first, and how many there are in all."""
    chosen = _names(in_projects)
    if "projectid" in wanted.conditions or any(key == "projectid" for key, _ in wanted.order):
        chosen = chosen.join(projects, projects.c.name == repositories.c.project)
    chosen = _FIELDS.filtered(chosen, wanted)
    # The page is found in an index that holds all it takes; only then are the rows read that are in it.
    page = part.of(chosen.order_by(*_FIELDS.ordering(wanted)))
    rows = connection.execute(_whole(page).order_by(*_FIELDS.ordering(wanted))).mappings().all()
    return _with_counts(connection, rows), count(connection, chosen)


def search_repositories(
    connection: Connection, name_part: str, *, in_projects: Iterable[str] | None, limit: int
) -> list[Repository]:
    """Return repositories whose name contains the text, by name, at most so many."""
    chosen = _names(in_projects).where(contains(repositories.c.name, name_part)).order_by(repositories.c.name).limit(limit)
    rows = connection.execute(_whole(chosen).order_by(repositories.c.name)).mappings().all()
    return _with_counts(connection, rows)


def count_repositories_by_visibility(connection: Connection, *, in_projects: Iterable[str] | None) -> dict[bool, int]:
    """Return how many repositories are in public projects (True) and in others, of these projects or of all."""
    query = (
        select(projects.c.public, func.count())
        .select_from(repositories.join(projects, projects.c.name == repositories.c.project))
        .group_by(projects.c.public)
    )
    if in_projects is not None:
        query = query.where(projects.c.name.in_(list(in_projects)))
    return {bool(row[0]): row[1] for row in connection.execute(query)}


def count_projects_by_visibility(connection: Connection, *, names: Iterable[str] | None) -> dict[bool, int]:
    """Return how many projects are public (True) and how many are not, of these or of all."""
    query = select(projects.c.public, func.count()).group_by(projects.c.public)
    if names is not None:
        query = query.where(projects.c.name.in_(list(names)))
    return {bool(row[0]): row[1] for row in connection.execute(query)}


def stored_bytes(connection: Connection) -> int:
    """Return how many bytes all that manifests name takes, each blob once."""
    # A blob has one size, whoever names it.
    blobs = select(manifest_blobs.c.blob, func.max(manifest_blobs.c.size).label("size")).group_by(manifest_blobs.c.blob)
    return int(connection.execute(select(func.coalesce(func.sum(blobs.subquery().c.size), 0))).scalar_one())


def _with_counts(connection: Connection, rows: Iterable[RowMapping]) -> list[Repository]:
    found = [dict(row) for row in rows]
    counts = count_artifacts(connection, [row["name"] for row in found])
    return [Repository(**row, artifacts=counts.get(row["name"], 0)) for row in found]


def count_artifacts(connection: Connection, names: list[str]) -> dict[str, int]:
    """Return how many artifacts of these repositories lists show; those without are left out."""
    counts: dict[str, int] = {}
    for start in range(0, len(names), _NAMES_MAX):
        query = (
            select(manifests.c.repository, func.count())
            .where(manifests.c.repository.in_(names[start : start + _NAMES_MAX]), manifests.c.listed.is_(True))
            .group_by(manifests.c.repository)
        )
        counts.update((row[0], row[1]) for row in connection.execute(query))
    return counts


def projects_for_registry(connection: Connection, registry: str) -> list[str]:
    """Return the names of the projects that stand for the content of the registry of that name."""
    return list(connection.execute(select(projects.c.name).where(equals(projects.c.registry, registry))).scalars())
