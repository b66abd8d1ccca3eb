"""What a role, a robot's permission list or a public project lets one do: pure data and pure decisions.

Roles and their lists are those of Harbor 2.2, in Harbor's order, which `GET /users/current/permissions` shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, NamedTuple


class Role(IntEnum):
    """A member's role in a project; the numbers are Harbor's and say nothing about power."""

    PROJECT_ADMIN = 1
    DEVELOPER = 2
    GUEST = 3
    MAINTAINER = 4
    LIMITED_GUEST = 5


# Strongest first. Of two concurrent role changes the weaker wins, so the order is part of the merge rules.
BY_POWER: Final = (Role.PROJECT_ADMIN, Role.MAINTAINER, Role.DEVELOPER, Role.GUEST, Role.LIMITED_GUEST)


class Grant(NamedTuple):
    """Leave to do one action on one kind of thing in a project; the project itself is the resource "."."""

    resource: str
    action: str


def grants_of(text: str) -> tuple[Grant, ...]:
    """Return the grants that are written down as `resource: action action`, one resource a line."""
    lines = (line.split(":") for line in text.split("\n") if line.strip())
    return tuple(Grant(resource.strip(), action) for resource, actions in lines for action in actions.split())


_PROJECT_ADMIN: Final = grants_of("""
    .: read update delete
    member: create read update delete list
    metadata: create read update delete
    log: list
    label: create read update delete list
    quota: read
    repository: create read update delete list pull push
    tag-retention: create read update delete list operate
    immutable-tag: create update delete list
    helm-chart: create read delete list
    helm-chart-version: create read delete list
    helm-chart-version-label: create delete
    configuration: read update
    robot: create read update delete list
    notification-policy: create update delete list read
    scan: create read
    scanner: read create
    artifact: create read delete list
    artifact-addition: read
    tag: list create delete
    artifact-label: create delete
    preheat-policy: create read update delete list
""")

_MAINTAINER: Final = grants_of("""
    .: read
    member: read list
    metadata: create read update delete
    log: list
    label: create read update delete list
    quota: read
    repository: create read update delete list pull push
    tag-retention: create read update delete list operate
    immutable-tag: create update delete list
    helm-chart: create read delete list
    helm-chart-version: create read delete list
    helm-chart-version-label: create delete
    configuration: read
    robot: read list
    notification-policy: list
    scan: create read
    scanner: read
    artifact: create read delete list
    artifact-addition: read
    tag: list create delete
    artifact-label: create delete
""")

_DEVELOPER: Final = grants_of("""
    .: read
    member: read list
    log: list
    label: read list
    quota: read
    repository: create read update list pull push
    helm-chart: create read list
    helm-chart-version: create read list
    helm-chart-version-label: create delete
    configuration: read
    robot: read list
    scan: read
    scanner: read
    artifact: create read list
    artifact-addition: read
    tag: list create
    artifact-label: create delete
""")

_GUEST: Final = grants_of("""
    .: read
    member: read list
    log: list
    label: read list
    quota: read
    repository: read list pull
    helm-chart: read list
    helm-chart-version: read list
    configuration: read
    robot: read list
    scan: read
    scanner: read
    artifact: read list
    artifact-addition: read
    tag: list
""")

_LIMITED_GUEST: Final = grants_of("""
    .: read
    quota: read
    repository: list pull
    helm-chart: read list
    helm-chart-version: read list
    configuration: read
    scan: read
    scanner: read
    artifact: read list
    artifact-addition: read
    tag: list
""")

# What everybody may do in a public project, logged in or not.
PUBLIC: Final = grants_of("""
    .: read
    label: read list
    repository: list pull
    helm-chart: read list
    helm-chart-version: read list
    scan: read
    scanner: read
    artifact: read list
    artifact-addition: read
    tag: list
""")

MATRIX: Final[Mapping[Role, tuple[Grant, ...]]] = {
    Role.PROJECT_ADMIN: _PROJECT_ADMIN,
    Role.MAINTAINER: _MAINTAINER,
    Role.DEVELOPER: _DEVELOPER,
    Role.GUEST: _GUEST,
    Role.LIMITED_GUEST: _LIMITED_GUEST,
}

# The registry's own actions, in the order in which Harbor's token service lists them, and what each of them needs.
PULL: Final = "pull"
PUSH: Final = "push"
DELETE: Final = "delete"
ALL: Final = "*"
_NEEDED: Final = (
    (PULL, Grant("repository", "pull")),
    (PUSH, Grant("repository", "push")),
    (DELETE, Grant("artifact", "delete")),
)
_REPOSITORY_DELETE: Final = Grant("repository", "delete")
# Robots' lists are not checked when they are written, in Harbor as here: any pair may be in them. This one stands for all.
EVERYTHING: Final = Grant("*", "*")

ANY_PROJECT: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What somebody may do in one project: the grants, and the registry actions that follow from them."""

    grants: frozenset[Grant]
    actions: frozenset[str]
    listed: tuple[Grant, ...]

    def may(self, resource: str, action: str) -> bool:
        """Tell whether the action on that kind of resource is allowed."""
        return (resource, action) in self.grants


def _allowance(listed: Iterable[Grant]) -> Allowance:
    ordered = tuple(dict.fromkeys(listed))
    grants = frozenset(ordered)
    actions = {action for action, needed in _NEEDED if needed in grants}
    if _REPOSITORY_DELETE in grants:
        actions.add(DELETE)
    if {PULL, PUSH, DELETE} <= actions:
        actions.add(ALL)
    return Allowance(grants=grants, actions=frozenset(actions), listed=ordered)


NOTHING: Final = _allowance(())
_OF_PUBLIC: Final = _allowance(PUBLIC)
_OF_ADMIN: Final = _allowance(_PROJECT_ADMIN)
# In a project that is not there an administrator is shown all rights, as in Harbor; the registry has nothing to act on.
_OF_ADMIN_IN_NONE: Final = replace(_OF_ADMIN, actions=frozenset())
_OF_ROLE: Final = {role: _allowance(grants) for role, grants in MATRIX.items()}
_OF_ROLE_IN_PUBLIC: Final = {role: _allowance((*grants, *PUBLIC)) for role, grants in MATRIX.items()}


def allow_user(*, is_admin: bool, role: Role | None, is_public: bool, exists: bool = True) -> Allowance:
    """Return what a user, or anonymous (no role), may do in a project; a system administrator may do everything."""
    if is_admin:
        return _OF_ADMIN if exists else _OF_ADMIN_IN_NONE
    if role is None:
        return _OF_PUBLIC if is_public else NOTHING
    return _OF_ROLE_IN_PUBLIC[role] if is_public else _OF_ROLE[role]


class RobotPermission(NamedTuple):
    """Grants for one project, or for all of them (`*`), in a robot's permission list."""

    namespace: str
    grants: frozenset[Grant]


def allow_robot(permissions: Iterable[RobotPermission], *, project: str, is_public: bool) -> Allowance:
    """Return what a robot may do in a project: what its list says of it, and what everybody may in a public one."""
    granted: set[Grant] = set(PUBLIC) if is_public else set()
    for permission in permissions:
        if permission.namespace in (project, ANY_PROJECT):
            granted |= permission.grants
    if EVERYTHING in granted:
        return _OF_ADMIN
    return _allowance(sorted(granted)) if granted else NOTHING


def weaker(first: Role, second: Role) -> Role:
    """Return the role with less power."""
    return max(first, second, key=BY_POWER.index)


def strongest(roles: Iterable[int]) -> Role | None:
    """Return the role with the most power of these, which may be numbers that are no role; None if there is none."""
    found = [Role(role) for role in roles if role in Role._value2member_map_]
    return min(found, key=BY_POWER.index) if found else None


def token_actions(actions: frozenset[str]) -> list[str]:
    """Return the actions in the order in which a token lists them."""
    return [action for action in (PULL, PUSH, DELETE, ALL) if action in actions]
