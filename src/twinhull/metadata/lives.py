"""Whether what hangs on something was hung on the thing of that name that lives now, or on an earlier one that is deleted."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, and_, literal, or_, select

from twinhull.metadata.tables.accounts import id_aliases, members, projects, users
from twinhull.metadata.tables.documents import documents
from twinhull.records.kinds import PROJECT, USER, USER_GROUP

# What was hung on no life in particular hangs on any.
ANY_LIFE: Final = 0
# Under names of their own, so that a query about the same tables can have these conditions.
_ALIASES: Final = id_aliases.alias("life_aliases")
_PROJECTS: Final = projects.alias("life_projects")
_USERS: Final = users.alias("life_users")
_GROUPS: Final = documents.alias("life_groups")


def is_of_this_life(
    number: ColumnElement[int], kind: str, *, living: ColumnElement[int], key: ColumnElement[str]
) -> ColumnElement[bool]:
    """Return the condition that `number` is the id, or another id, of the thing with that `living` id and that key."""
    is_alias = and_(_ALIASES.c.kind == kind, _ALIASES.c.id == number, _ALIASES.c.key == key)
    return or_(number == ANY_LIFE, number == living, select(literal(1)).where(is_alias).exists())


def in_living_project(project: ColumnElement[Any], number: ColumnElement[int]) -> ColumnElement[bool]:
    """Return the condition that a thing is the whole cluster's, or of a project that lives, and was made for that very one."""
    same_life = is_of_this_life(number, PROJECT.name, living=_PROJECTS.c.id, key=_PROJECTS.c.name)
    return or_(project == "", select(literal(1)).where(_PROJECTS.c.name == project, same_life).exists())


def is_living_member() -> ColumnElement[bool]:
    """Return the condition that a row of `members` is of a project and of a user or group that live, and of those very ones."""
    of_user = and_(
        _USERS.c.name == members.c.entity,
        is_of_this_life(members.c.entity_life, USER.name, living=_USERS.c.id, key=_USERS.c.name),
    )
    of_group = and_(
        *(_GROUPS.c.kind == USER_GROUP.name, _GROUPS.c.project == "", _GROUPS.c.name == members.c.entity),
        is_of_this_life(members.c.entity_life, USER_GROUP.name, living=_GROUPS.c.id, key=_GROUPS.c.key),
    )
    return and_(
        in_living_project(members.c.project, members.c.project_life),
        or_(
            and_(members.c.entity_type == "u", select(literal(1)).where(of_user).exists()),
            and_(members.c.entity_type == "g", select(literal(1)).where(of_group).exists()),
        ),
    )
