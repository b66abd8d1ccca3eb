"""Queries for users, robots, members and projects: who may be who, on the tables that the log keeps right.

Members and robots of a deleted project, and members whose user is deleted, are in their tables still, since a push
from elsewhere may bring the project back; every query here leaves them out until it does, and for good once a project or
user of that name is made anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, String, and_, false, func, literal, or_, select

from twinhull.metadata import account_fields
from twinhull.metadata.filtering import ANYTHING, EVERYTHING, Fields, Slice, Wanted, contains, count, equals
from twinhull.metadata.lives import in_living_project, is_living_member
from twinhull.metadata.named_projects import Listed, still_meant
from twinhull.metadata.tables.accounts import id_aliases, members, nodes, projects, robots, settings, users
from twinhull.metadata.tables.content import repositories
from twinhull.metadata.tables.documents import documents
from twinhull.metadata.tables.log import records
from twinhull.records.kinds import MEMBER, PROJECT, ROBOT, USER, USER_GROUP

# One consistent state of the tables, as Store.read gives it: what the queries below are asked of.
Snapshot = Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user as the log has it."""

    name: str
    id: int
    email: str
    realname: str
    comment: str
    password_hash: str
    sysadmin: bool
    disabled: bool
    created_ms: int
    updated_ms: int
    # How they sign in: "" for a password of ours, else what vouches for them, and who they are there.
    source: str
    external_id: str
    groups: Sequence[str]
    cli_secret: str = field(repr=False)
    admin_in_auth: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project as the log has it."""

    name: str
    id: int
    owner: str
    metadata: Mapping[str, str]
    public: bool
    created_ms: int
    updated_ms: int
    # The name of the registry whose content it stands for; empty for all others.
    registry: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of a project."""

    project: str
    entity_type: str
    entity: str
    id: int
    role: int
    # The user's id, or the group's.
    entity_id: int
    created_ms: int
    updated_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Robot:
    """A robot account; its name is without the prefix that people see."""

    name: str
    id: int
    level: str
    project: str
    description: str
    permissions: Sequence[Mapping[str, Any]]
    disable: bool
    secret_hash: str
    duration_days: int
    expires_at_s: int
    created_ms: int
    updated_ms: int


def resolve_id(connection: Connection, kind: str, number: int) -> str | None:
    """Return the key that another id of the same thing resolves to: both sides made it while they were apart."""
    query = select(id_aliases.c.key).where(id_aliases.c.kind == kind, id_aliases.c.id == number)
    key = connection.execute(query).scalar()
    return str(key) if key is not None else None


# -- users ---------------------------------------------------------------------------------------------------------


def _user(row: RowMapping) -> User:
    return User(**{**row, "groups": tuple(msgspec.json.decode(row["groups"], type=list[str]))})


def find_user(connection: Connection, name: str) -> User | None:
    """Return the user of that name."""
    row = connection.execute(select(users).where(equals(users.c.name, name))).mappings().first()
    return _user(row) if row is not None else None


def find_user_by_id(connection: Connection, number: int) -> User | None:
    """Return the user with that id, or with that other id."""
    row = connection.execute(select(users).where(users.c.id == number).order_by(users.c.name)).mappings().first()
    if row is not None:
        return _user(row)
    name = resolve_id(connection, USER.name, number)
    return find_user(connection, name) if name is not None else None


def find_user_by_email(connection: Connection, email: str) -> User | None:
    """Return a user with that address."""
    row = connection.execute(select(users).where(equals(users.c.email, email)).order_by(users.c.id)).mappings().first()
    return _user(row) if row is not None else None


def list_users(
    connection: Connection, *, name_part: str = "", without: str = "", wanted: Wanted = ANYTHING, part: Slice = EVERYTHING
) -> tuple[list[User], int]:
    """Return that part of the wanted users, by name, and how many there are in all."""
    query = account_fields.USERS.select(select(users), wanted)
    if name_part:
        query = query.where(contains(users.c.name, name_part))
    if without:
        query = query.where(users.c.name != without)
    return [_user(row) for row in connection.execute(part.of(query)).mappings()], count(connection, query)


def has_users_beside(connection: Connection, name: str) -> bool:
    """Tell whether there is any user but that one."""
    return connection.execute(select(literal(1)).where(users.c.name != name).limit(1)).scalar() is not None


def ids_of_users(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return the ids of these users; those who are not there are left out."""
    query = select(users.c.name, users.c.id).where(users.c.name.in_(list(names)))
    return {row[0]: row[1] for row in connection.execute(query)}


# -- projects ------------------------------------------------------------------------------------------------------


def _project(row: RowMapping) -> Project:
    fields = dict(row)
    fields["metadata"] = msgspec.json.decode(fields["metadata"], type=dict[str, str])
    return Project(**fields)


def find_project(connection: Connection, name: str) -> Project | None:
    """Return the project of that name."""
    row = connection.execute(select(projects).where(equals(projects.c.name, name))).mappings().first()
    return _project(row) if row is not None else None


def find_projects(connection: Connection, names: Iterable[str]) -> dict[str, Project]:
    """Return those of the projects that live, by name."""
    query = select(projects).where(projects.c.name.in_(list(names)))
    return {row["name"]: _project(row) for row in connection.execute(query).mappings()}


def find_project_by_id(connection: Connection, number: int) -> Project | None:
    """Return the project with that id, or with that other id."""
    row = connection.execute(select(projects).where(projects.c.id == number).order_by(projects.c.name)).mappings().first()
    if row is not None:
        return _project(row)
    name = resolve_id(connection, PROJECT.name, number)
    return find_project(connection, name) if name is not None else None


def is_revived(connection: Connection, project: str) -> bool:
    """Tell whether a project is deleted, and lives only as long as an artifact in it does."""
    query = select(records.c.dead).where(records.c.kind == PROJECT.name, records.c.key == project)
    return bool(connection.execute(query).scalar())


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFilter:
    """Which projects are wanted."""

    name_part: str = ""
    owner: str = ""
    public: bool | None = None
    query: Wanted = ANYTHING
    # What somebody sees who is no administrator: public ones, unless their being public is no reason, those of a member, and
    # named ones.
    visible_only: bool = False
    with_public: bool = True
    member: str = ""
    groups: tuple[str, ...] = ()
    named: tuple[str, ...] = ()


def _visible(wanted: ProjectFilter) -> ColumnElement[bool]:
    seen: list[ColumnElement[bool]] = [projects.c.public.is_(True) if wanted.with_public else false()]
    if wanted.member:
        of_member = select(members.c.project).where(members.c.entity == wanted.member, members.c.entity_type == "u")
        seen.append(projects.c.name.in_(of_member.where(is_living_member())))
    if wanted.groups:
        of_group = select(members.c.project).where(members.c.entity.in_(wanted.groups), members.c.entity_type == "g")
        seen.append(projects.c.name.in_(of_group.where(is_living_member())))
    if wanted.named:
        seen.append(projects.c.name.in_(wanted.named))
    return or_(*seen)


def list_projects(connection: Connection, wanted: ProjectFilter, *, part: Slice = EVERYTHING) -> tuple[list[Project], int]:
    """Return that part of the wanted projects, by name, and how many there are in all."""
    query = account_fields.PROJECTS.select(select(projects), wanted.query)
    if wanted.name_part:
        query = query.where(contains(projects.c.name, wanted.name_part))
    if wanted.owner:
        query = query.where(equals(projects.c.owner, wanted.owner))
    if wanted.public is not None:
        query = query.where(projects.c.public.is_(wanted.public))
    if wanted.visible_only:
        query = query.where(_visible(wanted))
    return [_project(row) for row in connection.execute(part.of(query)).mappings()], count(connection, query)


def count_repositories(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return how many repositories each of these projects has; those without are left out."""
    query = (
        select(repositories.c.project, func.count())
        .where(repositories.c.project.in_(list(names)))
        .group_by(repositories.c.project)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


# -- members -------------------------------------------------------------------------------------------------------


_is_group = and_(documents.c.kind == USER_GROUP.name, documents.c.project == "")


def _living_members() -> Select[Any]:
    shown = [column for column in members.c if not column.name.endswith("_life")]
    return (
        select(*shown, func.coalesce(users.c.id, documents.c.id, 0).label("entity_id"))
        .outerjoin(users, and_(users.c.name == members.c.entity, members.c.entity_type == "u"))
        .outerjoin(documents, and_(_is_group, documents.c.name == members.c.entity, members.c.entity_type == "g"))
        .where(is_living_member())
    )


def _member(row: RowMapping) -> Member:
    return Member(**row)


def find_role(connection: Connection, project: str, user: str) -> int | None:
    """Return the role of a user in a project."""
    of_user = (members.c.project == project, members.c.entity_type == "u", members.c.entity == user)
    query = select(members.c.role).where(*of_user, is_living_member())
    role = connection.execute(query).scalar()
    return int(role) if role is not None else None


def find_member(connection: Connection, project: str, number: int) -> Member | None:
    """Return the member of a project with that id, or with that other id."""
    query = _living_members().where(members.c.project == project)
    row = connection.execute(query.where(members.c.id == number)).mappings().first()
    if row is None and (key := resolve_id(connection, MEMBER.name, number)) is not None:
        full_key = members.c.project + "/" + members.c.entity_type + "/" + members.c.entity
        row = connection.execute(query.where(full_key == key)).mappings().first()
    return _member(row) if row is not None else None


def list_members(
    connection: Connection, project: str, *, name_part: str = "", part: Slice = EVERYTHING
) -> tuple[list[Member], int]:
    """Return that part of a project's members, by name, and how many there are in all."""
    query = _living_members().where(members.c.project == project).order_by(members.c.entity, members.c.entity_type)
    if name_part:
        query = query.where(contains(members.c.entity, name_part))
    return [_member(row) for row in connection.execute(part.of(query)).mappings()], count(connection, query)


def roles_of(connection: Connection, user: str, names: Iterable[str]) -> dict[str, int]:
    """Return the user's role in each of these projects; those without one are left out."""
    query = select(members.c.project, members.c.role).where(
        members.c.entity == user, members.c.entity_type == "u", members.c.project.in_(list(names)), is_living_member()
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def count_roles(connection: Connection, project: str) -> dict[int, int]:
    """Return how many members of a project have each role."""
    living = _living_members().where(members.c.project == project).subquery()
    query = select(living.c.role, func.count()).group_by(living.c.role)
    return {row[0]: row[1] for row in connection.execute(query)}


def member_keys(connection: Connection, *, project: str = "", user: str = "") -> list[str]:
    """Return the keys of all members of a project, or of all memberships of a user, hidden ones too."""
    key = members.c.project + "/" + members.c.entity_type + "/" + members.c.entity
    query = select(key).order_by(members.c.project)
    if project:
        query = query.where(members.c.project == project)
    if user:
        query = query.where(members.c.entity == user, members.c.entity_type == "u")
    return [str(row[0]) for row in connection.execute(query)]


# -- robots --------------------------------------------------------------------------------------------------------


def _living_robots() -> Select[Any]:
    shown = [column for column in robots.c if not column.name.endswith("_life")]
    return select(*shown).where(in_living_project(robots.c.project, robots.c.project_life))


def _robots(connection: Connection, query: Select[Any]) -> list[Robot]:
    rows = connection.execute(query).mappings().all()
    decoded = [msgspec.json.decode(row["permissions"], type=list[dict[str, Any]]) for row in rows]
    lists = [Listed(row["project"], permissions, row["updated_ms"]) for row, permissions in zip(rows, decoded, strict=True)]
    meant = still_meant(connection, lists)
    return [Robot(**{**row, "permissions": permissions}) for row, permissions in zip(rows, meant, strict=True)]


def find_robot(connection: Connection, name: str) -> Robot | None:
    """Return the robot of that name (without prefix)."""
    return next(iter(_robots(connection, _living_robots().where(equals(robots.c.name, name)))), None)


def find_robot_by_id(connection: Connection, number: int) -> Robot | None:
    """Return the robot with that id, or with that other id."""
    found = _robots(connection, _living_robots().where(robots.c.id == number).order_by(robots.c.name).limit(1))
    if found:
        return found[0]
    name = resolve_id(connection, ROBOT.name, number)
    return find_robot(connection, name) if name is not None else None


def list_robots(
    connection: Connection, *, project: str, wanted: Wanted = ANYTHING, part: Slice = EVERYTHING
) -> tuple[list[Robot], int]:
    """Return that part of a project's robots (system robots: an empty name), newest first, and how many there are in all."""
    fields = Fields(
        {
            # People filter by the robot's own name: what stands behind the project.
            "name": func.substr(robots.c.name, len(project) + 2 if project else 1, type_=String),
            "id": robots.c.id,
            "description": robots.c.description,
            "disabled": robots.c.disable,
            "creation_time": robots.c.created_ms,
            "update_time": robots.c.updated_ms,
        },
        order=(robots.c.created_ms.desc(), robots.c.id.desc()),
    )
    query = fields.select(_living_robots().where(robots.c.project == project), wanted)
    return _robots(connection, part.of(query)), count(connection, query)


def robot_keys(connection: Connection, project: str) -> list[str]:
    """Return the keys of all robots of a project, hidden ones too."""
    query = select(robots.c.name).where(robots.c.project == project).order_by(robots.c.name)
    return [str(row[0]) for row in connection.execute(query)]


# -- what accounts need of the rest --------------------------------------------------------------------------------


def find_setting(connection: Connection, name: str) -> object:
    """Return a cluster-wide setting, or None when nobody has set it."""
    value = connection.execute(select(settings.c.value).where(settings.c.name == name)).scalar()
    return msgspec.json.decode(value) if value is not None else None


def list_settings(connection: Connection) -> dict[str, Any]:
    """Return all cluster-wide settings that somebody has set."""
    return {row[0]: msgspec.json.decode(row[1]) for row in connection.execute(select(settings.c.name, settings.c.value))}


def list_token_keys(connection: Connection) -> list[dict[str, str]]:
    """Return the public keys with which the members of the cluster sign tokens."""
    found: list[dict[str, str]] = []
    for row in connection.execute(select(nodes.c.token_keys)):
        found += msgspec.json.decode(row[0], type=list[dict[str, str]])
    return found
