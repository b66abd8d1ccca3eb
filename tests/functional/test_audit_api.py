"""What is done is written down with it, by whom it was done, and shown to those who may see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from tests.support.accounts import (
    ADMIN_PASSWORD,
    PASSWORD,
    AccountsNode,
    Api,
    add_member,
    make_project,
    make_user,
    push_image,
    robot_body,
    rows,
    site,
    user_body,
)
from tests.support.single import running_node
from tools.walk.client import Client
from twinhull.records.kinds import USER

__all__ = ["site"]

Deeds = Sequence[tuple[str, str, str, str]]


async def deeds(api: Api, path: str) -> Deeds:
    found = await api.ok(200, "GET", path)
    return [(one["username"], one["operation"], one["resource_type"], one["resource"]) for one in found]


async def digest_of(site: AccountsNode, repository: str, tag: str) -> str:
    return (await site.admin("HEAD", f"/v2/{repository}/manifests/{tag}"))["docker-content-digest"]


class TestContent:
    async def test_what_is_done_to_content_is_written_down_once(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        robot = await site.admin.ok(201, "POST", "/robots", robot_body("ci", "team", "pull", "push"))
        await push_image(site.user(robot["name"], robot["secret"]), "team/app")
        # Pushed again, nothing is new.
        await push_image(site.admin, "team/app")
        digest = await digest_of(site, "team/app", "v1")
        await site.admin.ok(202, "DELETE", f"/v2/team/app/manifests/{digest}")
        await site.admin.ok(200, "DELETE", "/projects/team/repositories/app")
        await site.admin.ok(200, "DELETE", "/projects/team")
        assert await deeds(site.admin, "/audit-logs") == [
            ("admin", "delete", "project", "team"),
            ("admin", "delete", "repository", "team/app"),
            ("admin", "delete", "artifact", f"team/app:{digest}"),
            (robot["name"], "create", "artifact", "team/app:v1"),
            ("admin", "create", "project", "team"),
        ]

    async def test_tag_that_moves_is_written_down(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        await push_image(site.admin, "team/app")
        digest = await digest_of(site, "team/app", "v1")
        await site.admin.ok(202, "DELETE", "/v2/team/app/manifests/v1")
        await site.admin.ok(201, "POST", f"/projects/team/repositories/app/artifacts/{digest}/tags", {"name": "v2"})
        assert (await deeds(site.admin, "/projects/team/logs"))[:2] == [
            ("admin", "create", "tag", "team/app:v2"),
            ("admin", "delete", "tag", "team/app:v1"),
        ]

    async def test_what_fails_is_not_written_down(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        before = await deeds(site.admin, "/auditlog-exts")
        assert (await site.admin("POST", "/projects", {"project_name": "team"})).status == 409
        assert (await site.admin("DELETE", "/v2/team/app/manifests/v1")).status == 404
        assert await deeds(site.admin, "/auditlog-exts") == before

    async def test_lists_are_filtered_and_paged(self, site: AccountsNode) -> None:
        for name in ("one", "two", "three"):
            await make_project(site.admin, name)
        reply = await site.admin("GET", "/audit-logs?page=1&page_size=2")
        assert ([one["resource"] for one in rows(reply)], reply["x-total-count"]) == (["three", "two"], "3")
        found = await site.admin.ok(200, "GET", "/audit-logs?q=resource%3D~wo")
        assert [one["resource"] for one in found] == ["two"]
        long_ago = "/audit-logs?q=op_time%3D%5B2020-01-01%2000:00:00~2021-01-01%2000:00:00%5D"
        assert await site.admin.ok(200, "GET", long_ago) == []
        assert (await site.admin("GET", "/audit-logs?q=bogus")).status == 400


class TestAccounts:
    async def test_newest_log_tells_of_accounts_too_and_the_older_does_not(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        number = await site.admin.create("/users", user_body("alice"))
        member = await add_member(site, project, "alice", 3)
        await site.admin.ok(200, "PUT", f"/projects/{project}/members/{member}", {"role_id": 2})
        await site.admin.ok(200, "DELETE", f"/projects/{project}/members/{member}")
        await site.admin.ok(200, "PUT", f"/users/{number}/sysadmin", {"sysadmin_flag": True})
        robot = await site.admin.ok(201, "POST", "/robots", robot_body("ci", "team"))
        await site.admin.ok(200, "DELETE", f"/robots/{robot['id']}")
        await site.admin.ok(200, "DELETE", f"/users/{number}")
        await site.admin.ok(200, "PUT", "/configurations", {"token_expiration": 40})
        found = await deeds(site.admin, "/auditlog-exts?page_size=50")
        assert [(operation, kind, resource) for _, operation, kind, resource in found] == [
            ("update", "configuration", "token_expiration"),
            ("delete", "user", "alice"),
            ("delete", "robot", "team+ci"),
            ("create", "robot", "team+ci"),
            ("update", "user", "alice"),
            ("delete", "member", "alice"),
            ("update", "member", "alice"),
            ("create", "member", "alice"),
            ("create", "user", "alice"),
            ("create", "project", "team"),
        ]
        assert [kind for _, _, kind, _ in await deeds(site.admin, "/audit-logs")] == ["project"]
        of_project = await deeds(site.admin, "/projects/team/auditlog-exts")
        assert {kind for _, _, kind, _ in of_project} == {"robot", "member", "project"}
        known = {one["event_type"] for one in await site.admin.ok(200, "GET", "/auditlog-exts/events")}
        assert {f"{operation}_{kind}" for _, operation, kind, _ in found} <= known

    async def test_no_secret_is_written_down(self, site: AccountsNode) -> None:
        number = await site.admin.create("/users", user_body("alice"))
        body = {"new_password": "An0therSecret", "old_password": ""}
        await site.admin.ok(200, "PUT", f"/users/{number}/password", body)
        reply = await site.admin("GET", "/auditlog-exts")
        assert b"has another password" in reply.body
        assert b"An0therSecret" not in reply.body
        assert PASSWORD.encode() not in reply.body


class TestWhoSees:
    async def test_members_see_the_log_of_their_projects_and_administrators_all(self, site: AccountsNode) -> None:
        for name in ("alice", "bob", "carol"):
            await make_user(site, name)
        mine = await make_project(site.admin, "mine")
        await make_project(site.admin, "theirs")
        await add_member(site, mine, "alice", 3)
        # A limited guest may see the project, and not its log.
        await add_member(site, mine, "bob", 5)
        alice, bob, carol = (site.user(name, PASSWORD) for name in ("alice", "bob", "carol"))
        assert [resource for *_, resource in await deeds(alice, "/audit-logs")] == ["mine"]
        assert await deeds(bob, "/audit-logs") == []
        assert await deeds(carol, "/auditlog-exts") == []
        await alice.ok(200, "GET", "/projects/mine/logs")
        for user in (bob, carol):
            assert (await user("GET", "/projects/mine/logs")).status == 403
            assert (await user("GET", "/projects/mine/auditlog-exts")).status == 403
        assert (await alice("GET", "/auditlog-exts/events")).status == 403
        for path in ("/audit-logs", "/auditlog-exts", "/projects/mine/logs"):
            assert (await site.anonymous("GET", path)).status == 401

    async def test_members_through_a_group_and_robots_see_the_log_too(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        with site.store.write() as transaction:
            transaction.put(USER, "alice", {"groups": ["devs"]})
        number = await make_project(site.admin, "mine")
        await make_project(site.admin, "theirs", public=True)
        member = {"role_id": 3, "member_group": {"group_name": "devs", "group_type": 3}}
        await site.admin.create(f"/projects/{number}/members", member)
        assert ("admin", "create", "member", "devs") in await deeds(site.admin, "/auditlog-exts")
        body = robot_body("ci", "mine", "pull")
        body["permissions"][0]["access"].append({"resource": "log", "action": "list"})
        robot = await site.admin.ok(201, "POST", "/robots", body)
        for seeing in (site.user("alice", PASSWORD), site.user(robot["name"], robot["secret"])):
            assert [resource for *_, resource in await deeds(seeing, "/audit-logs")] == ["mine"]


def test_each_of_many_requests_at_once_is_written_down_under_its_own_name(tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(6)]
    passwords = {"admin": ADMIN_PASSWORD, **dict.fromkeys(names, PASSWORD)}

    def send(address: str, user: str, path: str, body: object = None) -> bytes:
        client = Client(address, passwords)
        headers = {"Content-Type": "application/json", **client.authorization(user)}
        method = "GET" if body is None else "POST"
        reply = client.send(method, f"/api/v2.0{path}", headers, None if body is None else json.dumps(body).encode())
        client.close()
        assert reply.status in (200, 201), reply
        return reply.content

    async def all_at_once(address: str) -> None:
        bodies = [(name, {"project_name": f"{name}-{number}"}) for name in names for number in range(4)]
        await asyncio.gather(*(asyncio.to_thread(send, address, name, "/projects", body) for name, body in bodies))

    with running_node(tmp_path) as node:
        for name in names:
            send(node.address, "admin", "/users", user_body(name))
        asyncio.run(all_at_once(node.address))
        found = json.loads(send(node.address, "admin", "/audit-logs?page_size=100"))
    assert len(found) == 24
    assert all(one["resource"].startswith(one["username"] + "-") for one in found)
