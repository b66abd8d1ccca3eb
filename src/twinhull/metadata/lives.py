"""Whether what hangs on something was hung on the thing of that name that lives now, or on an earlier one that is deleted."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, literal, or_, select

from twinhull.metadata.tables.accounts import id_aliases, projects
from twinhull.records.kinds import PROJECT

# What was hung on no life in particular hangs on any.
ANY_LIFE = 0


def is_of_this_life(
    number: ColumnElement[int], kind: str, *, living: ColumnElement[int], key: ColumnElement[str]
) -> ColumnElement[bool]:
    """Return the condition that `number` is the id, or another id, of the thing with that `living` id and that key."""
    is_alias = and_(id_aliases.c.kind == kind, id_aliases.c.id == number, id_aliases.c.key == key)
    return or_(number == ANY_LIFE, number == living, select(literal(1)).where(is_alias).exists())


def in_living_project(project: ColumnElement[Any], number: ColumnElement[int]) -> ColumnElement[bool]:
    """Return the condition that a thing is the whole cluster's, or of a project that lives, and was made for that very one."""
    same_life = is_of_this_life(number, PROJECT.name, living=projects.c.id, key=projects.c.name)
    return or_(project == "", select(literal(1)).where(projects.c.name == project, same_life).exists())
