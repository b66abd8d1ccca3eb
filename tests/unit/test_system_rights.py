"""What a path of the management API asks of a robot."""

from __future__ import annotations

import pytest

from twinhull.harbor.system_rights import needed_grant


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/registries", ("registry", "list")),
        ("GET", "/registries/5", ("registry", "read")),
        ("POST", "/registries", ("registry", "create")),
        ("PUT", "/registries/5", ("registry", "update")),
        ("DELETE", "/registries/5", ("registry", "delete")),
        ("GET", "/systeminfo/volumes", ("system-volumes", "read")),
        ("GET", "/audit-logs", ("audit-log", "list")),
        ("GET", "/replication/adapters", ("replication-adapter", "list")),
        ("GET", "/configurations", ("configuration", "read")),
        ("DELETE", "/configurations", None),
        ("GET", "/usersx", None),
        ("PUT", "/users/5/sysadmin", None),
        ("PUT", "/users/5/password", None),
        ("GET", "/nosuch", None),
    ],
)
def test_right_follows_from_method_and_path(method: str, path: str, needed: tuple[str, str] | None) -> None:
    assert needed_grant(method, path) == needed
