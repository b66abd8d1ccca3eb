"""The dictionary between Harbor's words and ours: what the management API shows of users, projects, members and robots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from twinhull.auth.permissions import Grant, Role
from twinhull.catalog.projects import SHOWN_KEYS
from twinhull.kit.clock import rfc3339
from twinhull.metadata.accounts import Member, Project, Robot, User
from twinhull.metadata.documents import Document
from twinhull.metadata.usage import Quota

Json = dict[str, Any]

ROLE_NAMES: Final[Mapping[int, str]] = {
    Role.PROJECT_ADMIN: "projectAdmin",
    Role.DEVELOPER: "developer",
    Role.GUEST: "guest",
    Role.MAINTAINER: "maintainer",
    Role.LIMITED_GUEST: "limitedGuest",
}
_SUMMARY_COUNTS: Final[Mapping[int, str]] = {
    Role.PROJECT_ADMIN: "project_admin_count",
    Role.MAINTAINER: "maintainer_count",
    Role.DEVELOPER: "developer_count",
    Role.GUEST: "guest_count",
    Role.LIMITED_GUEST: "limited_guest_count",
}
NEVER_TIME: Final = "0001-01-01T00:00:00.000Z"


def time_of(at_ms: object) -> str:
    """Return a moment as Harbor writes it, also the one that has not come: 0 or None."""
    return rfc3339(at_ms) if isinstance(at_ms, int) and at_ms > 0 else NEVER_TIME


def user_view(user: User) -> Json:
    """Return a user; passwords are never shown, in no form."""
    return {
        "user_id": user.id,
        "username": user.name,
        "email": user.email,
        "password": "",
        "password_version": "argon2id",
        "realname": user.realname,
        "comment": user.comment,
        "deleted": False,
        "role_name": "",
        "role_id": 0,
        "sysadmin_flag": user.sysadmin,
        "admin_role_in_auth": user.admin_in_auth,
        "reset_uuid": "",
        "creation_time": rfc3339(user.created_ms),
        "update_time": rfc3339(user.updated_ms),
    }


def oidc_user_view(user: User, secret: str) -> Json:
    """Return what is added for somebody who signs in at a provider, to themselves: their secret for command-line clients."""
    if user.source != "oidc":
        return {}
    created, updated = rfc3339(user.created_ms), rfc3339(user.updated_ms)
    meta = {"id": user.id, "user_id": user.id, "subiss": user.external_id, "secret": secret}
    return {"oidc_user_meta": {**meta, "creation_time": created, "update_time": updated}}


def found_user_view(user: User) -> Json:
    """Return a user as search shows it to everybody."""
    return {"user_id": user.id, "username": user.name}


def project_view(
    project: Project,
    *,
    owner_id: int,
    roles: Sequence[int],
    repositories: int,
    allowlist: Document | None,
    registry: Document | None,
    detailed: bool = True,
) -> Json:
    """Return a project, as somebody with these roles sees it, the strongest first."""
    view: Json = {"creation_time": rfc3339(project.created_ms)}
    if roles:
        view["current_user_role_id"] = roles[0]
    view["current_user_role_ids"] = list(roles) or None
    view["cve_allowlist"] = (
        _allowlist_view(project, allowlist)
        if detailed
        else {"creation_time": NEVER_TIME, "items": None, "update_time": NEVER_TIME}
    )
    if detailed:
        view["metadata"] = {key: value for key, value in sorted(project.metadata.items()) if key in SHOWN_KEYS}
        view["owner_name"] = project.owner
    view |= {"name": project.name, "owner_id": owner_id, "project_id": project.id}
    if registry is not None:
        view["registry_id"] = registry.id
    # Harbor 2.2 left zeros out; what is newer never does.
    view["repo_count"] = repositories
    view["update_time"] = rfc3339(project.updated_ms)
    return view


def _allowlist_view(project: Project, allowlist: Document | None) -> Json:
    """Return the CVEs that do not stand in the way of a pull from the project; an empty list while nobody has set it."""
    made_ms = allowlist.created_ms if allowlist is not None else project.created_ms
    view: Json = {
        "creation_time": rfc3339(made_ms),
        "id": allowlist.id if allowlist is not None else project.id,
        "items": allowlist.fields.get("items", []) if allowlist is not None else [],
        "project_id": project.id,
        "update_time": rfc3339(allowlist.updated_ms if allowlist is not None else made_ms),
    }
    if allowlist is not None and allowlist.fields.get("expires_at") is not None:
        view["expires_at"] = allowlist.fields["expires_at"]
    return view


def summary_view(roles: Mapping[int, int] | None, *, repositories: int, quota: Quota | None) -> Json:
    """Return a project's summary; members are counted for those who may list them (else None), zero counts of them left out."""
    view: Json = {"repo_count": repositories}
    for role, name in _SUMMARY_COUNTS.items():
        if roles is not None and roles.get(role):
            view[name] = roles[role]
    if quota is not None:
        view["quota"] = {"hard": {"storage": quota.hard}, "used": {"storage": quota.used}}
    return view


def member_view(member: Member, project: Project) -> Json:
    """Return a member."""
    return {
        "id": member.id,
        "project_id": project.id,
        "entity_name": member.entity,
        "role_name": ROLE_NAMES.get(member.role, ""),
        "role_id": member.role,
        "entity_id": member.entity_id,
        "entity_type": member.entity_type,
    }


def robot_view(robot: Robot, prefix: str) -> Json:
    """Return a robot account; its secret is shown once, when it is made."""
    return {
        "creation_time": rfc3339(robot.created_ms),
        "description": robot.description,
        "disable": robot.disable,
        "duration": robot.duration_days,
        "editable": True,
        "expires_at": robot.expires_at_s,
        "id": robot.id,
        "level": robot.level,
        "name": prefix + robot.name,
        "permissions": list(robot.permissions),
        "update_time": rfc3339(robot.updated_ms),
    }


def grants_view(grants: tuple[Grant, ...], *, project_id: int, relative: bool) -> list[Json]:
    """Return what somebody may do in a project: resources below the project, or relative to it."""
    root = "" if relative else f"/project/{project_id}"
    return [{"action": grant.action, "resource": _resource(root, grant.resource)} for grant in grants]


def _resource(root: str, resource: str) -> str:
    if not root:
        return resource
    return root if resource == "." else f"{root}/{resource}"
