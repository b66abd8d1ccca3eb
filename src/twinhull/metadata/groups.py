"""Queries for user groups and what their members may do through them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, select

from twinhull.metadata.accounts import User, find_user
from twinhull.metadata.documents import Document, find, list_documents
from twinhull.metadata.lives import is_living_member
from twinhull.metadata.tables.accounts import members, users
from twinhull.records.kinds import USER_GROUP, document_key


def find_group(connection: Connection, name: str) -> Document | None:
    """Return the group of that name."""
    return find(connection, USER_GROUP, document_key("", name))


def find_group_by_dn(connection: Connection, dn: str) -> Document | None:
    """Return the group that stands for that entry of a directory; there are few groups."""
    groups, _ = list_documents(connection, USER_GROUP, project="")
    return next((one for one in groups if dn and str(one.fields.get("ldap_group_dn", "")).lower() == dn.lower()), None)


def group_roles(connection: Connection, names: Iterable[str], projects: Iterable[str]) -> dict[str, list[int]]:
    """Return the roles that members of these groups have in each of these projects; those without one are left out."""
    wanted = list(names)
    if not wanted:
        return {}
    query = select(members.c.project, members.c.role).where(
        members.c.entity_type == "g",
        members.c.entity.in_(wanted),
        members.c.project.in_(list(projects)),
        is_living_member(),
    )
    found: dict[str, list[int]] = {}
    for row in connection.execute(query):
        found.setdefault(str(row[0]), []).append(int(row[1]))
    return found


def find_user_by_external_id(connection: Connection, source: str, external_id: str) -> User | None:
    """Return the user whom that source knows by that name of its own."""
    query = select(users.c.name).where(users.c.external_id == external_id, users.c.source == source).order_by(users.c.id)
    name = connection.execute(query).scalar()
    return find_user(connection, str(name)) if name is not None else None


def is_member_of(connection: Connection, project: str, entity_type: str, entity: str) -> bool:
    """Tell whether a user or group is a member of a project."""
    of_it = (members.c.project == project, members.c.entity_type == entity_type, members.c.entity == entity)
    return connection.execute(select(members.c.id).where(*of_it, is_living_member())).first() is not None


def has_role_anywhere(connection: Connection, user: str, role: int) -> bool:
    """Tell whether a user has that role in any project that lives."""
    mine = (members.c.entity == user, members.c.entity_type == "u", members.c.role == role)
    return connection.execute(select(members.c.id).where(*mine, is_living_member()).limit(1)).first() is not None


def projects_of_group(connection: Connection, name: str) -> list[str]:
    """Return the project of each membership of a group, hidden ones too."""
    query = select(members.c.project).where(members.c.entity == name, members.c.entity_type == "g")
    return [str(row[0]) for row in connection.execute(query.order_by(members.c.project))]


def users_of_group(connection: Connection, quoted: str) -> Sequence[str]:
    """Return the names of the users in whose list of groups that JSON text stands."""
    query = select(users.c.name).where(users.c.groups.contains(quoted, autoescape=True)).order_by(users.c.name)
    return [str(row[0]) for row in connection.execute(query)]
