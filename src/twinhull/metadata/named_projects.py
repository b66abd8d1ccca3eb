"""The projects that robots' lists of permissions name: whether a name means what it meant when it was written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, select

from twinhull.metadata.tables.accounts import id_aliases, projects
from twinhull.records.kinds import LIFE, PROJECT, number_of_life

# As many names as are looked up at once.
_NAMES_AT_ONCE: Final = 500
# Nodes whose clocks are further apart than that do not take each other's changes.
_CLOCKS_APART_MS: Final = 5 * 60 * 1000

Permission = dict[str, Any]


class Listed(NamedTuple):
    """What a robot's row says."""

    # Empty: the robot is the system's. A project's own robot lives and dies with it, whatever its list says.
    project: str
    permissions: Sequence[Permission]
    updated_ms: int


class _Living(NamedTuple):
    ids: set[int]
    created_ms: int


def still_meant(connection: Connection, robots: Sequence[Listed]) -> list[list[Permission]]:
    """Return what is left of each list: without what named a project that was deleted since, also if its name has another."""
    named = {str(one.get("namespace", "")) for robot in robots if not robot.project for one in _of_projects(robot.permissions)}
    living = _living(connection, sorted(named)) if named else {}
    return [
        [
            {name: value for name, value in one.items() if name != LIFE}
            for one in robot.permissions
            if robot.project
            or not _is_of_project(one)
            or _is_meant(one, living.get(one.get("namespace", "")), robot.updated_ms)
        ]
        for robot in robots
    ]


def _is_of_project(permission: Mapping[str, Any]) -> bool:
    return permission.get("kind", "project") == "project" and permission.get("namespace") != "*"


def _of_projects(permissions: Iterable[Permission]) -> Iterable[Permission]:
    return (one for one in permissions if _is_of_project(one))


def _is_meant(permission: Permission, living: _Living | None, updated_ms: int) -> bool:
    if living is None:
        return False
    number = number_of_life(permission.get(LIFE))
    # Written by a release that did not say which project it meant: none that was made later.
    return number in living.ids if number else living.created_ms <= updated_ms + _CLOCKS_APART_MS


def _living(connection: Connection, names: Sequence[str]) -> dict[str, _Living]:
    found: dict[str, _Living] = {}
    for start in range(0, len(names), _NAMES_AT_ONCE):
        page = names[start : start + _NAMES_AT_ONCE]
        of_page = select(projects.c.name, projects.c.id, projects.c.created_ms).where(projects.c.name.in_(page))
        found.update({row.name: _Living({row.id}, row.created_ms) for row in connection.execute(of_page)})
        aliases = select(id_aliases.c.key, id_aliases.c.id).where(id_aliases.c.kind == PROJECT.name, id_aliases.c.key.in_(page))
        for key, number in connection.execute(aliases):
            if key in found:
                found[key].ids.add(number)
    return found
