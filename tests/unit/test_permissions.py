"""The role matrix is Harbor's, and decisions follow from it."""

from __future__ import annotations

import pytest

from twinhull.auth.permissions import (
    MATRIX,
    PUBLIC,
    Grant,
    RobotPermission,
    Role,
    allow_robot,
    allow_user,
    token_actions,
    weaker,
)

PULL_AND_PUSH = frozenset({Grant("repository", "pull"), Grant("repository", "push")})


@pytest.mark.parametrize(
    ("role", "actions"),
    [
        (Role.PROJECT_ADMIN, ["pull", "push", "delete", "*"]),
        (Role.MAINTAINER, ["pull", "push", "delete", "*"]),
        (Role.DEVELOPER, ["pull", "push"]),
        (Role.GUEST, ["pull"]),
        (Role.LIMITED_GUEST, ["pull"]),
    ],
)
def test_registry_actions_of_a_member_follow_from_the_role(role: Role, actions: list[str]) -> None:
    assert token_actions(allow_user(is_admin=False, role=role, is_public=False).actions) == actions


def test_system_administrator_may_do_everything_without_being_a_member() -> None:
    allowance = allow_user(is_admin=True, role=None, is_public=False)
    assert token_actions(allowance.actions) == ["pull", "push", "delete", "*"]
    assert allowance.listed == MATRIX[Role.PROJECT_ADMIN]


def test_stranger_reads_a_public_project_and_nothing_of_a_private_one() -> None:
    public = allow_user(is_admin=False, role=None, is_public=True)
    assert token_actions(public.actions) == ["pull"]
    assert public.listed == PUBLIC
    assert not public.may("member", "list")
    private = allow_user(is_admin=False, role=None, is_public=False)
    assert not private.actions
    assert not private.grants


def test_limited_guest_of_a_public_project_has_what_everybody_has_too() -> None:
    assert allow_user(is_admin=False, role=Role.LIMITED_GUEST, is_public=True).may("label", "list")
    assert not allow_user(is_admin=False, role=Role.LIMITED_GUEST, is_public=False).may("label", "list")


@pytest.mark.parametrize(
    ("role", "resource", "action", "allowed"),
    [
        (Role.PROJECT_ADMIN, "member", "create", True),
        (Role.MAINTAINER, "member", "create", False),
        (Role.MAINTAINER, ".", "delete", False),
        (Role.MAINTAINER, "robot", "create", False),
        (Role.DEVELOPER, "tag", "create", True),
        (Role.DEVELOPER, "tag", "delete", False),
        (Role.DEVELOPER, "repository", "delete", False),
        (Role.GUEST, "robot", "list", True),
        (Role.LIMITED_GUEST, "robot", "list", False),
        (Role.LIMITED_GUEST, "member", "list", False),
    ],
)
def test_management_rights_follow_from_the_role(role: Role, resource: str, action: str, *, allowed: bool) -> None:
    assert allow_user(is_admin=False, role=role, is_public=False).may(resource, action) is allowed


def test_numbers_of_grants_are_those_that_harbor_shows() -> None:
    assert [len(MATRIX[role]) for role in (Role.PROJECT_ADMIN, Role.MAINTAINER, Role.GUEST)] == [77, 58, 23]
    assert len(PUBLIC) == 15


def test_robot_may_do_what_its_list_says_of_that_project_only() -> None:
    permissions = [RobotPermission("app", PULL_AND_PUSH)]
    assert token_actions(allow_robot(permissions, project="app", is_public=False).actions) == ["pull", "push"]
    assert not allow_robot(permissions, project="app2", is_public=False).actions
    assert token_actions(allow_robot(permissions, project="open", is_public=True).actions) == ["pull"]


def test_robot_of_all_projects_reaches_each() -> None:
    permissions = [RobotPermission("*", PULL_AND_PUSH)]
    assert token_actions(allow_robot(permissions, project="any", is_public=False).actions) == ["pull", "push"]


@pytest.mark.parametrize("resource", ["artifact", "repository"])
def test_robot_may_delete_by_either_of_harbors_two_grants(resource: str) -> None:
    permissions = [RobotPermission("app", frozenset({Grant(resource, "delete")}))]
    assert token_actions(allow_robot(permissions, project="app", is_public=False).actions) == ["delete"]


def test_unknown_grants_of_a_robot_open_nothing() -> None:
    permissions = [RobotPermission("app", frozenset({Grant("bogus", "pull"), Grant("*", "pull")}))]
    assert not allow_robot(permissions, project="app", is_public=False).actions


def test_weaker_role_is_the_one_with_less_power_not_the_smaller_number() -> None:
    assert weaker(Role.MAINTAINER, Role.DEVELOPER) is Role.DEVELOPER
    assert weaker(Role.GUEST, Role.LIMITED_GUEST) is Role.LIMITED_GUEST
    assert weaker(Role.PROJECT_ADMIN, Role.MAINTAINER) is Role.MAINTAINER
