"""Harbor 2.2's API is of two generations, which refuse in different ways what can't be right; so does this one."""

from __future__ import annotations

import pytest

from tests.support.accounts import AccountsNode, make_project, site

__all__ = ["site"]


@pytest.mark.parametrize("path", ["immutabletagrules", "webhook/policies"])
async def test_what_is_no_json_is_a_bad_request_to_the_older_operations(site: AccountsNode, path: str) -> None:
    project = await make_project(site.admin, "team")
    reply = await site.admin("POST", f"/projects/{project}/{path}", b"{")
    assert (reply.status, reply.json()["errors"][0]["message"]) == (400, "Invalid json request")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/labels/x", 404),
        ("GET", "/quotas/x", 404),
        ("GET", "/projects/1/members/x", 404),
        ("DELETE", "/projects/1/immutabletagrules/x", 404),
        ("GET", "/replication/policies/x", 404),
        ("GET", "/registries/x", 404),
        ("GET", "/users/x", 400),
        ("GET", "/robots/x", 422),
        ("GET", "/system/gc/x", 422),
        ("GET", "/retentions/x", 422),
    ],
)
async def test_id_that_is_none_is_refused_as_the_operations_generation_does(
    site: AccountsNode, method: str, path: str, status: int
) -> None:
    assert (await site.admin(method, path)).status == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/registries/", 404),
        ("PATCH", "/users", 404),
        ("POST", "/quotas", 404),
        ("PATCH", "/labels/1", 404),
        ("PUT", "/projects", 405),
        ("DELETE", "/robots", 405),
        ("DELETE", "/search", 405),
        ("PATCH", "/usergroups", 405),
    ],
)
async def test_method_that_is_not_there_is_refused_as_the_operations_generation_does(
    site: AccountsNode, method: str, path: str, status: int
) -> None:
    assert (await site.admin(method, path, {})).status == status
