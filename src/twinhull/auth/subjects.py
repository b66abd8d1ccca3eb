"""Subjects: users and robots as a decision needs them, read from the tables that the log keeps right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from twinhull.auth.passwords import fingerprint
from twinhull.auth.permissions import EVERYTHING, Allowance, Grant, RobotPermission, Role, strongest
from twinhull.config.durability import NO_WISH, Wish
from twinhull.metadata import accounts
from twinhull.metadata.groups import group_roles

READING: Final = frozenset({Grant("repository", "pull"), Grant("repository", "list")})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A user or a robot, as the log has them now; a change makes a new one, so identity tells whether it is still right."""

    # A robot's with its prefix.
    name: str
    id: int
    is_robot: bool
    is_admin: bool
    # What is stored of the password or secret, and its short name, which tokens carry.
    stored: str = field(repr=False)
    credential: str
    # Users only: the groups that they are in.
    groups: tuple[str, ...] = ()
    # Robots only.
    permissions: tuple[RobotPermission, ...] = ()
    # What its list says of the system as a whole.
    system_grants: frozenset[Grant] = frozenset()
    expires_at_s: int = -1
    project: str = ""


@dataclass(slots=True, kw_only=True, eq=False)
class ProjectFacts:
    """What is known of a project, and of those who came by."""

    exists: bool
    public: bool
    # Deleted, and alive only through an artifact: it goes when the artifact goes, without a change of its own.
    revived: bool
    # What its writes wait for.
    durability: Wish = NO_WISH
    # It stands for another registry's content, and whether it goes on with what that has no more.
    proxied: bool = False
    serves_deleted: bool = False
    roles: dict[str, Role | None] = field(default_factory=dict)
    robots: dict[Subject, Allowance] = field(default_factory=dict)


def record_of(name: str, prefix: str) -> tuple[str, str]:
    """Return the kind and key of the record that a login name stands for: robots have a prefix."""
    return ("robot", name[len(prefix) :]) if prefix and name.startswith(prefix) else ("user", name)


def read_subject(connection: Connection, name: str, prefix: str) -> Subject | None:
    """Return who has that login name, unless there is nobody or the account is disabled."""
    kind, key = record_of(name, prefix)
    return _read_user(connection, name) if kind == "user" else _read_robot(connection, name, key)


def _read_user(connection: Connection, name: str) -> Subject | None:
    user = accounts.find_user(connection, name)
    if user is None or user.disabled:
        return None
    return Subject(
        name=name,
        id=user.id,
        is_robot=False,
        is_admin=user.sysadmin or user.admin_in_auth,
        groups=tuple(user.groups),
        stored=user.password_hash,
        credential=fingerprint(user.password_hash),
    )


def _read_robot(connection: Connection, name: str, key: str) -> Subject | None:
    robot = accounts.find_robot(connection, key)
    if robot is None or robot.disable:
        return None
    return Subject(
        name=name,
        id=robot.id,
        is_robot=True,
        is_admin=False,
        stored=robot.secret_hash,
        credential=fingerprint(robot.secret_hash),
        permissions=tuple(permission_of(item) for item in robot.permissions),
        system_grants=frozenset[Grant]().union(*(grants_of_system(item) for item in robot.permissions)),
        expires_at_s=robot.expires_at_s,
        project=robot.project,
    )


def permission_of(described: Mapping[str, Any]) -> RobotPermission:
    """Return an entry of a robot's list as the decision needs it; what is no plain leave grants nothing."""
    is_of_project = described.get("kind", "project") == "project"
    return RobotPermission(str(described.get("namespace", "")) if is_of_project else "", _grants_in(described))


def grants_of_system(described: Mapping[str, Any]) -> frozenset[Grant]:
    """Return what an entry of a robot's list lets it do in the system as a whole."""
    return _grants_in(described) if described.get("kind") == "system" else frozenset()


def _grants_in(described: Mapping[str, Any]) -> frozenset[Grant]:
    return frozenset(
        Grant(str(item.get("resource", "")), str(item.get("action", "")))
        for item in described.get("access") or []
        # Harbor 2.2 knows an effect "deny" in words only; here it is no grant at all.
        if item.get("effect", "") in ("", "allow")
    )


def read_facts(connection: Connection, name: str) -> ProjectFacts:
    """Return what the tables say of a project, members left out."""
    project = accounts.find_project(connection, name)
    if project is None:
        return ProjectFacts(exists=False, public=False, revived=False)
    return ProjectFacts(
        exists=True,
        public=project.public,
        revived=accounts.is_revived(connection, name),
        durability=Wish(project.metadata.get("durability", ""), project.metadata.get("on_peer_loss", "")),
        proxied=bool(project.registry),
        serves_deleted=project.metadata.get("proxy_cache_local_on_not_found") == "true",
    )


def read_role(connection: Connection, project: str, user: Subject) -> Role | None:
    """Return a user's role in a project: the strongest that they have themselves or through a group."""
    own = accounts.find_role(connection, project, user.name)
    found = [own, *group_roles(connection, user.groups, [project]).get(project, [])]
    return strongest(role for role in found if role is not None)


def visible_to(subject: Subject | None, robots_need: frozenset[Grant] = READING) -> accounts.ProjectFilter:
    """Return the filter for the projects that somebody may see: public ones, their own, those that a robot's list names.

    A robot's list names one if it has any of these grants there.
    """
    if subject is None:
        return accounts.ProjectFilter(visible_only=True)
    if not subject.is_robot:
        return accounts.ProjectFilter(visible_only=not subject.is_admin, member=subject.name, groups=subject.groups)
    needed = robots_need | {EVERYTHING}
    named = tuple(permission.namespace for permission in subject.permissions if permission.grants & needed)
    return accounts.ProjectFilter(visible_only="*" not in named, named=named)
