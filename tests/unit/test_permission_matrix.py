"""Who may do what in a project: every cell of Harbor's matrix, written down here once more and on its own.

Columns: system administrator, project administrator, maintainer, developer, guest, limited guest; and of a public project
whoever comes by. `x` may, `-` may not.
"""

from __future__ import annotations

from typing import Final

import pytest

from twinhull.auth.permissions import MATRIX, PUBLIC, Allowance, Role, allow_user

COLUMNS: Final[dict[str, Allowance]] = {
    "system administrator": allow_user(is_admin=True, role=None, is_public=False),
    "project administrator": allow_user(is_admin=False, role=Role.PROJECT_ADMIN, is_public=False),
    "maintainer": allow_user(is_admin=False, role=Role.MAINTAINER, is_public=False),
    "developer": allow_user(is_admin=False, role=Role.DEVELOPER, is_public=False),
    "guest": allow_user(is_admin=False, role=Role.GUEST, is_public=False),
    "limited guest": allow_user(is_admin=False, role=Role.LIMITED_GUEST, is_public=False),
    "anybody in a public project": allow_user(is_admin=False, role=None, is_public=True),
    "anybody in a private project": allow_user(is_admin=False, role=None, is_public=False),
}

TABLE: Final = """
    .                         read     x x x x x x x -
    .                         update   x x - - - - - -
    .                         delete   x x - - - - - -
    member                    create   x x - - - - - -
    member                    read     x x x x x - - -
    member                    update   x x - - - - - -
    member                    delete   x x - - - - - -
    member                    list     x x x x x - - -
    metadata                  create   x x x - - - - -
    metadata                  read     x x x - - - - -
    metadata                  update   x x x - - - - -
    metadata                  delete   x x x - - - - -
    log                       list     x x x x x - - -
    label                     create   x x x - - - - -
    label                     read     x x x x x - x -
    label                     update   x x x - - - - -
    label                     delete   x x x - - - - -
    label                     list     x x x x x - x -
    quota                     read     x x x x x x - -
    repository                create   x x x x - - - -
    repository                read     x x x x x - - -
    repository                update   x x x x - - - -
    repository                delete   x x x - - - - -
    repository                list     x x x x x x x -
    repository                pull     x x x x x x x -
    repository                push     x x x x - - - -
    tag-retention             create   x x x - - - - -
    tag-retention             read     x x x - - - - -
    tag-retention             update   x x x - - - - -
    tag-retention             delete   x x x - - - - -
    tag-retention             list     x x x - - - - -
    tag-retention             operate  x x x - - - - -
    immutable-tag             create   x x x - - - - -
    immutable-tag             update   x x x - - - - -
    immutable-tag             delete   x x x - - - - -
    immutable-tag             list     x x x - - - - -
    helm-chart                create   x x x x - - - -
    helm-chart                read     x x x x x x x -
    helm-chart                delete   x x x - - - - -
    helm-chart                list     x x x x x x x -
    helm-chart-version        create   x x x x - - - -
    helm-chart-version        read     x x x x x x x -
    helm-chart-version        delete   x x x - - - - -
    helm-chart-version        list     x x x x x x x -
    helm-chart-version-label  create   x x x x - - - -
    helm-chart-version-label  delete   x x x x - - - -
    configuration             read     x x x x x x - -
    configuration             update   x x - - - - - -
    robot                     create   x x - - - - - -
    robot                     read     x x x x x - - -
    robot                     update   x x - - - - - -
    robot                     delete   x x - - - - - -
    robot                     list     x x x x x - - -
    notification-policy       create   x x - - - - - -
    notification-policy       read     x x - - - - - -
    notification-policy       update   x x - - - - - -
    notification-policy       delete   x x - - - - - -
    notification-policy       list     x x x - - - - -
    scan                      create   x x x - - - - -
    scan                      read     x x x x x x x -
    scanner                   create   x x - - - - - -
    scanner                   read     x x x x x x x -
    artifact                  create   x x x x - - - -
    artifact                  read     x x x x x x x -
    artifact                  delete   x x x - - - - -
    artifact                  list     x x x x x x x -
    artifact-addition         read     x x x x x x x -
    artifact-label            create   x x x x - - - -
    artifact-label            delete   x x x x - - - -
    tag                       create   x x x x - - - -
    tag                       delete   x x x - - - - -
    tag                       list     x x x x x x x -
    preheat-policy            create   x x - - - - - -
    preheat-policy            read     x x - - - - - -
    preheat-policy            update   x x - - - - - -
    preheat-policy            delete   x x - - - - - -
    preheat-policy            list     x x - - - - - -
"""

ROWS: Final = [line.split() for line in TABLE.splitlines() if line.strip()]
CELLS: Final = [
    pytest.param(who, row[0], row[1], mark == "x", id=f"{who}: {row[1]} {row[0]}")
    for row in ROWS
    for who, mark in zip(COLUMNS, row[2:], strict=True)
]


@pytest.mark.parametrize(("who", "resource", "action", "allowed"), CELLS)
def test_cell_is_as_harbor_has_it(who: str, resource: str, action: str, *, allowed: bool) -> None:
    assert COLUMNS[who].may(resource, action) is allowed


def test_table_has_every_grant_that_anybody_has() -> None:
    granted = {grant for grants in (*MATRIX.values(), PUBLIC) for grant in grants}
    assert granted == {(row[0], row[1]) for row in ROWS}


@pytest.mark.parametrize("role", Role)
def test_members_of_a_public_project_have_their_role_and_what_everybody_has(role: Role) -> None:
    allowance = allow_user(is_admin=False, role=role, is_public=True)
    assert allowance.grants == {*MATRIX[role], *PUBLIC}
