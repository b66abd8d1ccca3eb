"""Users, projects, members and robots at Harbor's paths, and that what is taken from somebody is gone at once."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import AccountsNode, Api
from tests.support.composed import Reply
from twinhull.kit.clock import SystemClock
from twinhull.records.kinds import MEMBER, NODE, ROBOT, SETTING, USER, member_key

PASSWORD = "Passw0rd1"
WEAK = "must longer than 8 chars with at least 1 uppercase letter, 1 lowercase letter and 1 number"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[AccountsNode]:
    made = AccountsNode(tmp_path)
    yield made
    made.close()


def user_body(name: str, password: str = PASSWORD, **changed: object) -> dict[str, object]:
    return {"username": name, "email": f"{name}@x.io", "realname": name, "password": password, "comment": "", **changed}


async def make_user(node: AccountsNode, name: str, password: str = PASSWORD) -> int:
    return await node.admin.create("/users", user_body(name, password))


async def make_project(api: Api, name: str, *, public: bool = False) -> int:
    return await api.create("/projects", {"project_name": name, "metadata": {"public": str(public).lower()}})


async def add_member(node: AccountsNode, project_id: int, name: str, role: int) -> int:
    body = {"role_id": role, "member_user": {"username": name}}
    return await node.admin.create(f"/projects/{project_id}/members", body)


def robot_body(name: str, project: str, *actions: str, level: str = "project", **changed: object) -> dict[str, Any]:
    access = [{"resource": "repository", "action": action} for action in actions or ("pull", "push")]
    permissions = [{"kind": "project", "namespace": project, "access": access}]
    return {"name": name, "level": level, "duration": -1, "description": "", "permissions": permissions, **changed}


class TestUsers:
    async def test_user_that_was_made_is_shown_without_a_trace_of_the_password(self, node: AccountsNode) -> None:
        reply = await node.admin("POST", "/users", user_body("alice"))
        assert reply.status == 201
        assert reply.body == b""
        assert reply["twinhull-durability"] == "local"
        assert reply["location"].startswith("/api/v2.0/users/")
        shown = await node.admin.ok(200, "GET", reply["location"])
        assert shown["username"] == "alice"
        assert shown["password"] == ""
        assert not shown["sysadmin_flag"]
        assert "argon2id$" not in json.dumps(shown)
        assert sorted(shown) == [
            "admin_role_in_auth", "comment", "creation_time", "deleted", "email", "password", "password_version", "realname",
            "reset_uuid", "role_id", "role_name", "sysadmin_flag", "update_time", "user_id", "username",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("changed", "status", "message"),
        [
            ({"username": "alice"}, 409, "username has already been used"),
            ({"email": "alice@x.io"}, 409, "email has already been used"),
            ({"email": "bad"}, 400, "register error:email with illegal format"),
            ({"email": ""}, 400, "register error:Email can't be empty"),
            ({"username": ""}, 400, "register error:username with illegal length"),
            ({"username": "x" * 256}, 400, "register error:username with illegal length"),
            ({"username": "a,b"}, 400, "register error:username contains illegal characters"),
            ({"username": "a:b"}, 400, "register error:username contains illegal characters"),
            ({"username": "robot$x"}, 400, "register error:username contains illegal characters"),
            ({"username": "a\r\nX-Evil: 1"}, 400, "register error:username contains illegal characters"),
            ({"realname": ""}, 400, "register error:realname with illegal length"),
            ({"comment": "x" * 31}, 400, "register error:comment with illegal length"),
            ({"password": "short1A"}, 400, f"register error:the password or secret {WEAK}"),
            ({"password": "alllowercase1"}, 400, f"register error:the password or secret {WEAK}"),
        ],
    )
    async def test_user_is_refused_in_harbors_words(
        self, node: AccountsNode, changed: dict[str, object], status: int, message: str
    ) -> None:
        await make_user(node, "alice")
        reply = await node.admin("POST", "/users", {**user_body("bob"), **changed})
        assert reply.status == status
        assert reply.json()["errors"][0]["message"] == message

    async def test_users_are_for_administrators(self, node: AccountsNode) -> None:
        number = await make_user(node, "alice")
        alice = node.user("alice", PASSWORD)
        other = await make_user(node, "bob")
        for method, path in (("GET", "/users"), ("GET", f"/users/{other}"), ("DELETE", f"/users/{number}")):
            reply = await alice(method, path)
            assert (reply.status, reply.json()) == (
                403,
                {"errors": [{"code": "FORBIDDEN", "message": "user does not have admin role"}]},
            )
        assert (await alice("POST", "/users", user_body("carol"))).status == 403
        assert (await alice("PUT", f"/users/{number}/sysadmin", {"sysadmin_flag": True})).status == 403
        assert (await alice("PUT", f"/users/{other}/password", {"new_password": "Passw0rd2"})).status == 403
        for path in ("/users", "/users/current", f"/users/{number}", "/users/search?username=x"):
            reply = await node.anonymous("GET", path)
            assert (reply.status, reply.json()) == (401, {"errors": [{"code": "UNAUTHORIZED", "message": "UnAuthorize"}]})
        assert (await alice.ok(200, "GET", f"/users/{number}"))["username"] == "alice"

    async def test_list_has_pages_filters_and_no_built_in_administrator(self, node: AccountsNode) -> None:
        for name in ("dev1", "dev2", "guest_x", "guestyx"):
            await make_user(node, name)
        reply = await node.admin("GET", "/users?page=2&page_size=1")
        assert [user["username"] for user in rows(reply)] == ["dev2"]
        assert reply["x-total-count"] == "4"
        assert reply["link"] == (
            '</api/v2.0/users?page=1&page_size=1>; rel="prev", </api/v2.0/users?page=3&page_size=1>; rel="next"'
        )
        names = [user["username"] for user in await node.admin.ok(200, "GET", "/users?username=guest_&page_size=100")]
        assert names == ["guest_x"]
        found = await node.user("dev1", PASSWORD).ok(200, "GET", "/users/search?username=dev")
        assert [sorted(user) for user in found] == [["user_id", "username"]] * 2
        assert (await node.admin("GET", "/users?page=0")).status == 400
        assert rows(await node.admin("GET", "/users?page=999999999999999999")) == []

    async def test_profile_is_changed_by_its_owner_and_keeps_addresses_unique(self, node: AccountsNode) -> None:
        number = await make_user(node, "alice")
        await make_user(node, "bob")
        alice = node.user("alice", PASSWORD)
        await alice.ok(200, "PUT", f"/users/{number}", {"email": "new@x.io", "realname": "Alice", "comment": "c"})
        assert (await alice.ok(200, "GET", "/users/current"))["email"] == "new@x.io"
        taken = await alice("PUT", f"/users/{number}", {"email": "bob@x.io", "realname": "z"})
        assert (taken.status, taken.json()["errors"][0]["message"]) == (409, "email has already been used")
        assert (await node.admin("PUT", "/users/99999", {"email": "q@q.io", "realname": "z"})).status == 404
        assert (await node.admin("GET", "/users/abc")).status == 400

    async def test_password_is_changed_with_the_old_one_or_by_an_administrator(self, node: AccountsNode) -> None:
        number = await make_user(node, "alice")
        alice = node.user("alice", PASSWORD)
        path = f"/users/{number}/password"
        assert (await alice("PUT", path, {"new_password": "Passw0rd2"})).status == 400
        assert (await alice("PUT", path, {"old_password": "wrong", "new_password": "Passw0rd2"})).status == 401
        await alice.ok(200, "PUT", path, {"old_password": PASSWORD, "new_password": "Passw0rd2"})
        assert (await alice("GET", "/users/current")).status == 401
        await node.user("alice", "Passw0rd2").ok(200, "GET", "/users/current")
        same = await node.admin("PUT", path, {"new_password": "Passw0rd2"})
        assert (same.status, same.json()["errors"][0]["message"]) == (
            400,
            "the new password can not be same with the old one",
        )
        await node.admin.ok(200, "PUT", path, {"new_password": "Passw0rd3"})
        await node.user("alice", "Passw0rd3").ok(200, "GET", "/users/current")

    async def test_built_in_administrator_can_be_neither_deleted_nor_stripped(self, node: AccountsNode) -> None:
        number = await make_user(node, "root2")
        await node.admin.ok(200, "PUT", f"/users/{number}/sysadmin", {"sysadmin_flag": True})
        other = node.user("root2", PASSWORD)
        reply = await other("DELETE", "/users/1")
        assert reply.status == 403
        assert "User with ID: 1 cannot be removed" in reply.json()["errors"][0]["message"]
        assert (await other("PUT", "/users/1/sysadmin", {"sysadmin_flag": False})).status == 403
        await node.admin.ok(200, "PUT", f"/users/{number}/sysadmin", {"sysadmin_flag": False})
        assert (await other("GET", "/users")).status == 403

    async def test_deleted_user_is_gone_and_the_name_is_free_without_its_rights(self, node: AccountsNode) -> None:
        project = await make_project(node.admin, "team")
        number = await make_user(node, "alice")
        await add_member(node, project, "alice", 1)
        token = await node.user("alice", PASSWORD).token("repository:team/app:pull,push")
        await node.admin.ok(200, "DELETE", f"/users/{number}")
        assert (await node.admin("GET", f"/users/{number}")).status == 404
        assert (await node.user("alice", PASSWORD)("GET", "/users/current")).status == 401
        assert [m["entity_name"] for m in await node.admin.ok(200, "GET", f"/projects/{project}/members")] == ["admin"]
        await make_user(node, "alice")
        assert await node.user("alice", PASSWORD).starts_upload("team/app") == 401
        assert await Api(node, f"Bearer {token}").starts_upload("team/app") == 401

    async def test_permissions_of_whoever_asks_are_listed_as_harbor_does(self, node: AccountsNode) -> None:
        project = await make_project(node.admin, "team")
        await make_user(node, "alice")
        await add_member(node, project, "alice", 3)
        alice = node.user("alice", PASSWORD)
        listed = await alice.ok(200, "GET", f"/users/current/permissions?scope=/project/{project}&relative=true")
        assert len(listed) == 23
        assert listed[0] == {"action": "read", "resource": "."}
        whole = await node.admin.ok(200, "GET", "/users/current/permissions?scope=/project/9999")
        assert len(whole) == 77
        assert whole[3] == {"action": "create", "resource": "/project/9999/member"}
        assert await alice.ok(200, "GET", "/users/current/permissions?scope=bogus") == []


class TestProjects:
    async def test_project_that_was_made_is_shown_as_harbor_shows_it(self, node: AccountsNode) -> None:
        number = await make_project(node.admin, "team", public=True)
        shown = await node.admin.ok(200, "GET", "/projects/team")
        assert await node.admin.ok(200, "GET", f"/projects/{number}") == shown
        created = shown["creation_time"]
        allowlist = {"creation_time": created, "id": number, "items": [], "project_id": number, "update_time": created}
        assert shown == {
            "creation_time": created,
            "current_user_role_id": 1,
            "current_user_role_ids": [1],
            "cve_allowlist": allowlist,
            "metadata": {"public": "true"},
            "name": "team",
            "owner_id": 1,
            "owner_name": "admin",
            "project_id": number,
            "update_time": created,
        }

    @pytest.mark.parametrize(
        ("body", "status", "message"),
        [
            ({"project_name": "library"}, 409, "The project named library already exists"),
            ({}, 400, "Project name  is illegal in length. (greater than 255 or less than 1)"),
            ({"project_name": "UPPER"}, 400, "project name is not in lower case or contains illegal characters"),
            ({"project_name": "../etc"}, 400, "project name is not in lower case or contains illegal characters"),
            ({"project_name": "a\nb"}, 400, "project name is not in lower case or contains illegal characters"),
            ({"project_name": "x", "storage_limit": -5}, 400, "bad request: invalid value for resource storage"),
        ],
    )
    async def test_project_is_refused_in_harbors_words(
        self, node: AccountsNode, body: dict[str, object], status: int, message: str
    ) -> None:
        reply = await node.admin("POST", "/projects", body)
        assert (reply.status, reply.json()["errors"][0]["message"]) == (status, message)

    @pytest.mark.parametrize(
        ("body", "content_type", "message"),
        [
            (b"{", "application/json", "validation failure list:\nparsing body failed"),
            (b'{"project_name": 5}', "application/json", "validation failure list:\nparsing body failed"),
            (b"\xff\xfe", "application/json", "validation failure list:\nparsing body failed"),
            (b"{}", "text/plain", 'unsupported media type "text/plain", only [application/json] are allowed'),
        ],
    )
    async def test_body_that_is_no_request_is_unprocessable(
        self, node: AccountsNode, body: bytes, content_type: str, message: str
    ) -> None:
        reply = await node.admin("POST", "/projects", body, content_type=content_type)
        assert (reply.status, reply.code) == (422, "UNPROCESSABLE_ENTITY")
        assert message in reply.json()["errors"][0]["message"]

    async def test_location_uses_the_name_where_it_is_asked_for(self, node: AccountsNode) -> None:
        reply = await node.admin("POST", "/projects", {"project_name": "team"}, x_resource_name_in_location="true")
        assert reply["location"] == "/api/v2.0/projects/team"

    async def test_numeric_name_is_an_id_unless_the_header_says_otherwise(self, node: AccountsNode) -> None:
        await make_project(node.admin, "77")
        assert (await node.admin("GET", "/projects/77")).status == 404
        assert (await node.admin.ok(200, "GET", "/projects/77", x_is_resource_name="true"))["name"] == "77"
        assert (await node.admin("GET", "/projects/1", x_is_resource_name="true")).status == 403

    async def test_project_that_is_not_there_is_refused_as_harbor_does(self, node: AccountsNode) -> None:
        await make_user(node, "alice")
        await make_project(node.admin, "secret")
        cases = [
            (node.admin, "/projects/nosuch", 403, "forbidden"),
            (node.admin, "/projects/99999", 404, "project 99999 not found"),
            (node.anonymous, "/projects/nosuch", 401, "unauthorized"),
            (node.anonymous, "/projects/99999", 401, "unauthorized"),
            (node.anonymous, "/projects/secret", 401, "unauthorized"),
            (node.user("alice", PASSWORD), "/projects/secret", 403, "forbidden"),
            (node.user("alice", PASSWORD), "/projects/nosuch", 403, "forbidden"),
        ]
        for api, path, status, message in cases:
            reply = await api("GET", path)
            assert (reply.status, reply.json()["errors"][0]["message"]) == (status, message)

    async def test_list_shows_each_what_is_theirs(self, node: AccountsNode) -> None:
        await make_user(node, "alice")
        alice = node.user("alice", PASSWORD)
        own = await make_project(alice, "own")
        await make_project(node.admin, "secret")
        await make_project(node.admin, "open", public=True)
        assert await names(node.admin, "/projects") == ["library", "open", "own", "secret"]
        assert await names(alice, "/projects") == ["library", "open", "own"]
        assert await names(node.anonymous, "/projects") == ["library", "open"]
        assert await names(node.anonymous, "/projects?public=false") == []
        assert await names(node.admin, "/projects?name=pe") == ["open"]
        assert await names(node.admin, "/projects?owner=alice") == ["own"]
        reply = await node.admin("GET", "/projects?page=2&page_size=3&name=")
        assert [project["name"] for project in rows(reply)] == ["secret"]
        assert reply["x-total-count"] == "4"
        assert reply["link"] == '</api/v2.0/projects?name=&page=1&page_size=3>; rel="prev"'
        assert (await node.admin("GET", "/projects?page_size=101")).status == 422
        assert (await node.admin("GET", "/projects?page=x")).status == 422
        shown = await alice.ok(200, "GET", f"/projects/{own}")
        assert shown["current_user_role_id"] == 1
        assert shown["owner_name"] == "alice"

    async def test_head_says_whether_a_name_is_taken(self, node: AccountsNode) -> None:
        assert (await node.admin("HEAD", "/projects?project_name=library")).status == 200
        missing = await node.admin("HEAD", "/projects?project_name=nosuch")
        assert (missing.status, missing.body) == (404, b"")

    async def test_metadata_is_changed_item_by_item(self, node: AccountsNode) -> None:
        await make_project(node.admin, "team")
        await node.admin.ok(200, "PUT", "/projects/team", {"metadata": {"auto_scan": "true", "unknown_key": "1"}})
        await node.admin.ok(200, "PUT", "/projects/team", {"metadata": {"public": "true"}})
        assert (await node.admin.ok(200, "GET", "/projects/team"))["metadata"] == {"auto_scan": "true", "public": "true"}
        assert (await node.anonymous("PUT", "/projects/team", {"metadata": {"public": "false"}})).status == 401

    async def test_project_with_repositories_is_not_deleted(self, node: AccountsNode) -> None:
        await make_project(node.admin, "team")
        assert await node.admin.ok(200, "GET", "/projects/team/_deletable") == {"deletable": True}
        await push_image(node.admin, "team/app")
        assert await node.admin.ok(200, "GET", "/projects/team/_deletable") == {
            "message": "the project contains repositories, can not be deleted"
        }
        reply = await node.admin("DELETE", "/projects/team")
        assert (reply.status, reply.json()) == (
            412,
            {
                "errors": [
                    {
                        "code": "PRECONDITION",
                        "message": "precondition failed: the project contains repositories, can not be deleted",
                    }
                ]
            },
        )
        assert (await node.admin.ok(200, "GET", "/projects/team"))["repo_count"] == 1

    async def test_project_made_anew_has_none_of_the_old_ones_members_robots_and_metadata(self, node: AccountsNode) -> None:
        project = await make_project(node.admin, "team", public=True)
        await node.admin.ok(200, "PUT", "/projects/team", {"metadata": {"auto_scan": "true"}})
        await make_user(node, "alice")
        await add_member(node, project, "alice", 1)
        robot = await node.admin.ok(201, "POST", "/robots", robot_body("ci", "team"))
        as_robot = node.user(robot["name"], robot["secret"])
        assert await as_robot.starts_upload("team/app") == 202
        await node.admin.ok(200, "DELETE", "/projects/team")
        assert await as_robot.starts_upload("team/app") == 401
        assert await node.user("alice", PASSWORD).starts_upload("team/app") == 401
        assert (await node.admin("GET", "/projects/team")).status == 403
        again = await make_project(node.admin, "team")
        assert again != project
        assert await node.user("alice", PASSWORD).starts_upload("team/app") == 401
        assert await as_robot.starts_upload("team/app") == 401
        assert (await node.admin("GET", f"/robots/{robot['id']}")).status == 404
        assert (await node.admin.ok(200, "GET", "/projects/team"))["metadata"] == {"public": "false"}
        assert [m["entity_name"] for m in await node.admin.ok(200, "GET", f"/projects/{again}/members")] == ["admin"]

    async def test_summary_shows_counts_to_those_who_may_see_them(self, node: AccountsNode) -> None:
        project = await make_project(node.admin, "team", public=True)
        for name, role in (("dev", 2), ("limited", 5)):
            await make_user(node, name)
            await add_member(node, project, name, role)
        quota = {"hard": {"storage": -1}, "used": {"storage": 0}}
        assert await node.user("dev", PASSWORD).ok(200, "GET", "/projects/team/summary") == {
            "developer_count": 1,
            "limited_guest_count": 1,
            "project_admin_count": 1,
            "quota": quota,
        }
        assert await node.user("limited", PASSWORD).ok(200, "GET", "/projects/team/summary") == {"quota": quota}
        assert await node.anonymous.ok(200, "GET", "/projects/team/summary") == {}

    async def test_only_administrators_make_projects_when_the_cluster_is_set_so(self, node: AccountsNode) -> None:
        await make_user(node, "alice")
        with node.store.write() as transaction:
            transaction.create(SETTING, "project_creation_restriction", {"value": "adminonly"})
        assert (await node.user("alice", PASSWORD)("POST", "/projects", {"project_name": "own"})).status == 403
        await make_project(node.admin, "own")


class TestMembers:
    async def test_member_is_added_shown_changed_and_removed(self, node: AccountsNode) -> None:
        project = await make_project(node.admin, "team")
        user = await make_user(node, "alice")
        member = await add_member(node, project, "alice", 2)
        path = f"/projects/{project}/members/{member}"
        expected = {
            "id": member,
            "project_id": project,
            "entity_name": "alice",
            "role_name": "developer",
            "role_id": 2,
            "entity_id": user,
            "entity_type": "u",
        }
        assert await node.admin.ok(200, "GET", path) == expected
        await node.admin.ok(200, "PUT", path, {"role_id": 4})
        assert (await node.admin.ok(200, "GET", path))["role_name"] == "maintainer"
        reply = await node.admin("GET", f"/projects/{project}/members?page_size=100")
        assert [entry["entity_name"] for entry in rows(reply)] == ["admin", "alice"]
        assert reply["x-total-count"] == "2"
        assert len(await node.admin.ok(200, "GET", f"/projects/{project}/members?entityname=lic")) == 1
        await node.admin.ok(200, "DELETE", path)
        assert (await node.admin("GET", path)).status == 404
        assert (await node.admin("DELETE", path)).status == 404

    async def test_member_is_added_by_id(self, node: AccountsNode) -> None:
        project = await make_project(node.admin, "team")
        user = await make_user(node, "alice")
        await node.admin.create(f"/projects/{project}/members", {"role_id": 3, "member_user": {"user_id": user}})

    @pytest.mark.parametrize(
        ("body", "status", "message"),
        [
            ({"role_id": 2, "member_user": {"username": "nosuch"}}, 400, "user nosuch not found"),
            ({"role_id": 9, "member_user": {"username": "alice"}}, 400, "Invalid role ID, role ID 9"),
            ({"role_id": 2}, 400, "neither a user nor a group is given"),
            (
                {"role_id": 2, "member_user": {"username": "admin"}},
                409,
                "Failed to add project member, already exist group or project member, groupMemberID:0",
            ),
            ({"role_id": 2, "member_group": {"ldap_group_dn": "cn=g1"}}, 404, "cn=g1 not found: not supported"),
        ],
    )
    async def test_member_is_refused_in_harbors_words(
        self, node: AccountsNode, body: dict[str, object], status: int, message: str
    ) -> None:
        project = await make_project(node.admin, "team")
        await make_user(node, "alice")
        reply = await node.admin("POST", f"/projects/{project}/members", body)
        assert (reply.status, reply.json()["errors"][0]["message"]) == (status, message)

    async def test_members_are_listed_to_members_and_written_by_project_administrators(self, node: AccountsNode) -> None:
        project = await make_project(node.admin, "team", public=True)
        await make_user(node, "alice")
        await make_user(node, "bob")
        alice = node.user("alice", PASSWORD)
        path = f"/projects/{project}/members"
        refused = await alice("GET", path)
        assert (refused.status, refused.json()["errors"][0]["message"]) == (403, "alice")
        member = await add_member(node, project, "alice", 4)
        await alice.ok(200, "GET", path)
        body = {"role_id": 2, "member_user": {"username": "bob"}}
        assert (await alice("POST", path, body)).status == 403
        await node.admin.ok(200, "PUT", f"{path}/{member}", {"role_id": 1})
        await alice.create(path, body)
        assert (await node.admin("GET", "/projects/team/members")).status == 404
        assert (await node.admin("GET", "/projects/99999/members")).status == 404
        assert (await node.anonymous("GET", path)).status == 401
        assert (await node.admin("PUT", f"{path}/{member}", {"role_id": 77})).status == 400


class TestRobots:
    async def test_robot_secret_is_shown_once_and_works_on_the_data_plane(self, node: AccountsNode) -> None:
        await make_project(node.admin, "team")
        made = await node.admin.ok(201, "POST", "/robots", robot_body("ci", "team"))
        assert made["name"] == "robot$team+ci"
        assert len(made["secret"]) == 32
        assert made["expires_at"] == -1
        shown = await node.admin.ok(200, "GET", f"/robots/{made['id']}")
        assert sorted(shown) == [
            "creation_time", "description", "disable", "duration", "editable", "expires_at", "id", "level", "name",
            "permissions", "update_time",
        ]  # fmt: skip
        assert shown["permissions"] == robot_body("ci", "team")["permissions"]
        robot = node.user(made["name"], made["secret"])
        assert (await robot("GET", "/v2/")).status == 200
        assert await robot.starts_upload("team/app") == 202
        assert await robot.starts_upload("library/app") == 401
        assert (await robot("GET", "/users/current")).status == 403
        assert (await robot("POST", "/projects", {"project_name": "x"})).status == 403
        assert await names(robot, "/projects") == ["library", "team"]
        assert (await node.user(made["name"], "wrong")("GET", "/v2/")).status == 401

    async def test_system_robot_reaches_all_projects(self, node: AccountsNode) -> None:
        await make_project(node.admin, "team")
        made = await node.admin.ok(201, "POST", "/robots", robot_body("sys", "*", level="system"))
        assert made["name"] == "robot$sys"
        robot = node.user(made["name"], made["secret"])
        assert await robot.starts_upload("team/app") == 202
        assert await robot.starts_upload("library/app") == 202
        assert await robot.starts_upload("nosuch/app") == 401

    @pytest.mark.parametrize(
        ("body", "status", "message"),
        [
            (robot_body("ci", "team"), 409, "already exists"),
            (robot_body("Bad Name", "team"), 400, "robot name is not in lower case or contains illegal characters"),
            (robot_body("x", "team", level="bogus"), 400, "bad request error level input: bogus"),
            (robot_body("x", "*"), 403, "forbidden"),
            (robot_body("x", "nosuch", level="system"), 404, "project nosuch not found"),
            (robot_body("x", "team", permissions=[]), 400, "bad request empty permission"),
            (
                robot_body("x", "team", permissions=[{"kind": "project", "namespace": "team", "access": []}]),
                400,
                "bad request empty access",
            ),
            (robot_body("x", "team", duration=-2), 400, "bad request error duration input"),
        ],
    )
    async def test_robot_is_refused_in_harbors_words(
        self, node: AccountsNode, body: dict[str, object], status: int, message: str
    ) -> None:
        await make_project(node.admin, "team")
        await node.admin.ok(201, "POST", "/robots", robot_body("ci", "team"))
        reply = await node.admin("POST", "/robots", body)
        assert reply.status == status
        assert message in reply.json()["errors"][0]["message"]

    async def test_lists_are_of_the_system_or_of_a_project(self, node: AccountsNode) -> None:
        project = await make_project(node.admin, "team")
        for name in ("one", "two"):
            await node.admin.ok(201, "POST", "/robots", robot_body(name, "team"))
        await node.admin.ok(201, "POST", "/robots", robot_body("sys", "*", level="system"))
        assert await names(node.admin, "/robots") == ["robot$sys"]
        of_project = f"/robots?q=Level%3Dproject%2CProjectID%3D{project}"
        assert sorted(await names(node.admin, of_project)) == ["robot$team+one", "robot$team+two"]
        assert await names(node.admin, f"{of_project}%2Cname%3D~w") == ["robot$team+two"]
        assert await names(node.admin, f"{of_project}%2Cname%3Done") == ["robot$team+one"]
        reply = await node.admin("GET", "/robots?q=Level%3Dproject")
        assert (reply.status, reply.json()["errors"][0]["message"]) == (
            400,
            "must with project ID when to query project robots",
        )
        assert (await node.admin("GET", "/robots?q=bogus")).status == 400
        assert (await node.anonymous("GET", "/robots")).status == 401

    async def test_project_administrator_manages_the_projects_robots_and_no_others(self, node: AccountsNode) -> None:
        project = await make_project(node.admin, "team")
        await make_user(node, "alice")
        member = await add_member(node, project, "alice", 3)
        alice = node.user("alice", PASSWORD)
        assert (await alice("POST", "/robots", robot_body("ci", "team"))).status == 403
        await node.admin.ok(200, "PUT", f"/projects/{project}/members/{member}", {"role_id": 1})
        made = await alice.ok(201, "POST", "/robots", robot_body("ci", "team"))
        await alice.ok(200, "GET", f"/robots?q=Level%3Dproject%2CProjectID%3D{project}")
        refused = await alice("GET", "/robots")
        assert (refused.status, refused.json()["errors"][0]["message"]) == (403, "alice")
        assert (await alice("POST", "/robots", robot_body("sys", "*", level="system"))).status == 403
        wider = {**robot_body("ci", "library"), "name": made["name"]}
        assert (await alice("PUT", f"/robots/{made['id']}", wider)).status == 400

    async def test_disabled_robot_is_refused_at_once_and_comes_back(self, node: AccountsNode) -> None:
        await make_project(node.admin, "team")
        made = await node.admin.ok(201, "POST", "/robots", robot_body("ci", "team"))
        robot = node.user(made["name"], made["secret"])
        bearer = Api(node, f"Bearer {await robot.token('repository:team/app:pull,push')}")
        assert await bearer.starts_upload("team/app") == 202
        shown = await node.admin.ok(200, "GET", f"/robots/{made['id']}")
        await node.admin.ok(200, "PUT", f"/robots/{made['id']}", {**shown, "disable": True})
        assert await robot.starts_upload("team/app") == 401
        assert await bearer.starts_upload("team/app") == 401
        await node.admin.ok(200, "PUT", f"/robots/{made['id']}", {**shown, "disable": False})
        assert await bearer.starts_upload("team/app") == 202
        await node.admin.ok(200, "DELETE", f"/robots/{made['id']}")
        assert await bearer.starts_upload("team/app") == 401
        assert (await node.admin("DELETE", f"/robots/{made['id']}")).status == 404

    async def test_new_secret_ends_the_old_one_and_tokens_that_it_got(self, node: AccountsNode) -> None:
        await make_project(node.admin, "team")
        made = await node.admin.ok(201, "POST", "/robots", robot_body("ci", "team"))
        robot = node.user(made["name"], made["secret"])
        bearer = Api(node, f"Bearer {await robot.token('repository:team/app:pull,push')}")
        fresh = await node.admin.ok(200, "PATCH", f"/robots/{made['id']}", {"secret": ""})
        assert await robot.starts_upload("team/app") == 401
        assert await bearer.starts_upload("team/app") == 401
        assert await node.user(made["name"], fresh["secret"]).starts_upload("team/app") == 202
        weak = await node.admin("PATCH", f"/robots/{made['id']}", {"secret": "weak"})
        assert (weak.status, weak.json()["errors"][0]["message"]) == (400, f"the secret {WEAK}")
        assert await node.admin.ok(200, "PATCH", f"/robots/{made['id']}", {"secret": "Chosen123"}) == {}
        assert await node.user(made["name"], "Chosen123").starts_upload("team/app") == 202

    async def test_robot_whose_time_is_over_is_refused(self, node: AccountsNode) -> None:
        await make_project(node.admin, "team")
        made = await node.admin.ok(201, "POST", "/robots", robot_body("ci", "team", duration=7))
        robot = node.user(made["name"], made["secret"])
        assert await robot.starts_upload("team/app") == 202
        now_s = SystemClock().unix_ms() // 1000
        assert 7 * 86_400 - 60 < made["expires_at"] - now_s <= 7 * 86_400
        with node.store.write() as transaction:
            transaction.put(ROBOT, "team+ci", {"expires_at_s": now_s - 1})
        assert await robot.starts_upload("team/app") == 401

    async def test_robot_cannot_give_another_more_than_it_has(self, node: AccountsNode) -> None:
        await make_project(node.admin, "team")
        pairs = (("robot", "create"), ("robot", "update"), ("repository", "pull"))
        access = [{"resource": resource, "action": action} for resource, action in pairs]
        permissions = [{"kind": "project", "namespace": "team", "access": access}]
        made = await node.admin.ok(201, "POST", "/robots", robot_body("maker", "team", permissions=permissions))
        maker = node.user(made["name"], made["secret"])
        assert (await maker("POST", "/robots", robot_body("wide", "team", "pull", "push"))).status == 403
        assert (await maker("POST", "/robots", robot_body("wide", "library", "pull"))).status == 403
        await maker.ok(201, "POST", "/robots", robot_body("narrow", "team", "pull"))
        wider = robot_body("maker", "team", "pull", "push")
        assert (await maker("PUT", f"/robots/{made['id']}", wider)).status == 403

    async def test_name_and_level_stay_as_they_are(self, node: AccountsNode) -> None:
        made = await node.admin.ok(201, "POST", "/robots", robot_body("sys", "*", level="system"))
        body = robot_body(made["name"], "*", level="system")
        await node.admin.ok(200, "PUT", f"/robots/{made['id']}", {**body, "description": "changed"})
        assert (await node.admin.ok(200, "GET", f"/robots/{made['id']}"))["description"] == "changed"
        assert (await node.admin("PUT", f"/robots/{made['id']}", {**body, "name": "robot$other"})).status == 400
        assert (await node.admin("PUT", f"/robots/{made['id']}", {**body, "level": "project"})).status == 403


class TestTokens:
    async def test_access_is_what_the_role_gives_whatever_is_asked(self, node: AccountsNode) -> None:
        project = await make_project(node.admin, "team")
        await make_user(node, "dev")
        await add_member(node, project, "dev", 2)
        dev = node.user("dev", PASSWORD)
        scopes = "repository:team/app:pull", "repository:nosuch/app:pull", "registry:catalog:*", "bogus:x:y"
        claims = claims_of(await dev.token(*scopes))
        assert claims["sub"] == "dev"
        assert claims["access"] == [
            {"type": "repository", "name": "team/app", "actions": ["pull", "push"]},
            {"type": "repository", "name": "nosuch/app", "actions": []},
            {"type": "registry", "name": "catalog", "actions": ["*"]},
            {"type": "bogus", "name": "x", "actions": []},
        ]
        admin = claims_of(await node.admin.token("repository:team/app:pull"))
        assert admin["access"] == [{"type": "repository", "name": "team/app", "actions": ["pull", "push", "delete", "*"]}]

    async def test_answer_has_harbors_shape(self, node: AccountsNode) -> None:
        shown = await node.admin.ok(200, "GET", "/service/token?service=harbor-registry")
        assert sorted(shown) == ["access_token", "expires_in", "issued_at", "token"]
        assert shown["access_token"] == ""
        assert shown["expires_in"] == 1800
        assert claims_of(shown["token"])["access"] is None

    async def test_wrong_password_gets_an_anonymous_token_with_a_scope_and_401_without(self, node: AccountsNode) -> None:
        wrong = node.user("admin", "Wrong12345")
        assert (await wrong("GET", "/service/token?service=harbor-registry")).status == 401
        claims = claims_of(await wrong.token("repository:library/app:pull,push"))
        assert "sub" not in claims
        assert claims["access"] == [{"type": "repository", "name": "library/app", "actions": ["pull"]}]
        assert (await node.anonymous("GET", "/service/token?service=harbor-registry")).status == 401

    async def test_unknown_service_and_other_methods_are_refused(self, node: AccountsNode) -> None:
        reply = await node.admin("GET", "/service/token?service=nosuch")
        assert (reply.status, reply.body) == (400, b"Unable to handle service: nosuch")
        assert (await node.admin("POST", "/service/token?service=harbor-registry")).status == 405

    async def test_token_cannot_be_turned_into_another_or_manage_anything(self, node: AccountsNode) -> None:
        bearer = Api(node, f"Bearer {await node.admin.token('repository:library/app:pull')}")
        assert (await bearer("GET", "/service/token?service=harbor-registry")).status == 401
        assert (await bearer("GET", "/users")).status == 403
        assert (await bearer("POST", "/projects", {"project_name": "x"})).status == 403
        assert (await bearer("DELETE", "/projects/library")).status == 403
        assert (await bearer("PUT", "/users/1/password", {"new_password": "Passw0rd9"})).status == 403
        assert (await bearer("GET", "/users/current")).json()["username"] == "admin"

    async def test_token_is_good_for_what_it_was_asked_for_only(self, node: AccountsNode) -> None:
        bearer = Api(node, f"Bearer {await node.admin.token('repository:library/app:pull,push')}")
        assert await bearer.starts_upload("library/app") == 202
        assert await bearer.starts_upload("library/other") == 401
        assert (await Api(node, "Bearer forged")("GET", "/v2/")).status == 401

    async def test_what_is_taken_is_gone_before_the_token_runs_out(self, node: AccountsNode) -> None:
        project = await make_project(node.admin, "team")
        user = await make_user(node, "alice")
        member = await add_member(node, project, "alice", 2)
        bearer = Api(node, f"Bearer {await node.user('alice', PASSWORD).token('repository:team/app:pull,push')}")
        members = f"/projects/{project}/members"
        assert await bearer.starts_upload("team/app") == 202
        await node.admin.ok(200, "PUT", f"{members}/{member}", {"role_id": 3})
        assert await bearer.starts_upload("team/app") == 401
        await node.admin.ok(200, "PUT", f"{members}/{member}", {"role_id": 2})
        assert await bearer.starts_upload("team/app") == 202
        await node.admin.ok(200, "DELETE", f"{members}/{member}")
        assert await bearer.starts_upload("team/app") == 401
        await add_member(node, project, "alice", 2)
        assert await bearer.starts_upload("team/app") == 202
        await node.admin.ok(200, "PUT", f"/users/{user}/password", {"new_password": "Passw0rd2"})
        assert await bearer.starts_upload("team/app") == 401

    async def test_token_of_a_node_that_left_is_refused(self, node: AccountsNode) -> None:
        bearer = Api(node, f"Bearer {await node.admin.token('repository:library/app:pull,push')}")
        assert await bearer.starts_upload("library/app") == 202
        with node.store.write() as transaction:
            transaction.delete(NODE, node.store.node)
        assert await bearer.starts_upload("library/app") == 401


class TestLogins:
    async def test_repeated_wrong_passwords_are_slowed_down_and_the_right_one_of_others_works(self, node: AccountsNode) -> None:
        await make_user(node, "alice")
        await make_user(node, "bob")
        await node.user("alice", PASSWORD).ok(200, "GET", "/users/current")
        statuses = [(await node.user("bob", f"wrong{n}")("GET", "/users/current")).status for n in range(6)]
        assert statuses == [401, 401, 401, 401, 401, 429]
        slowed = await node.user("bob", PASSWORD)("GET", "/v2/")
        assert slowed.status == 429
        assert int(slowed["retry-after"]) >= 1
        await node.user("alice", PASSWORD).ok(200, "GET", "/users/current")
        await node.admin.ok(200, "GET", "/users/current")

    @pytest.mark.parametrize(
        "header",
        ["Basic", "Basic !!!", "Basic " + base64.b64encode(b"nocolon").decode(), "Basic " + "A" * 40_000, "Digest x", "x"],
    )
    async def test_credentials_that_are_none_are_anonymous(self, node: AccountsNode, header: str) -> None:
        assert (await Api(node, header)("GET", "/users/current")).status == 401
        assert (await Api(node, header)("GET", "/v2/")).status == 401
        assert await names(Api(node, header), "/projects") == ["library"]

    async def test_name_and_password_beyond_ascii_work(self, node: AccountsNode) -> None:
        await node.admin.create("/users", user_body("müller", "Pässw0rd:1", email="m@x.io"))
        await node.user("müller", "Pässw0rd:1").ok(200, "GET", "/users/current")

    @pytest.mark.parametrize("name", ["alice", "nosuch", "robot$nosuch", "a\x00b"])
    async def test_wrong_credentials_of_any_kind_are_refused(self, node: AccountsNode, name: str) -> None:
        await make_user(node, "alice")
        assert (await node.user(name, "Wrong1234")("GET", "/users/current")).status == 401

    async def test_account_that_is_disabled_is_refused(self, node: AccountsNode) -> None:
        await make_user(node, "alice")
        alice = node.user("alice", PASSWORD)
        await alice.ok(200, "GET", "/users/current")
        with node.store.write() as transaction:
            transaction.put(USER, "alice", {"disabled": True})
        assert (await alice("GET", "/users/current")).status == 401

    async def test_rights_read_while_they_change_are_not_kept(self, node: AccountsNode) -> None:
        project = await make_project(node.admin, "team")
        await make_user(node, "alice")
        await add_member(node, project, "alice", 2)
        alice = await node.guard.subject("alice")
        role = 2

        async def ask() -> None:
            for _ in range(30):
                await node.guard.allowance(alice, "team")

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        for number in range(20):
            role = 3 if number % 2 else 2
            with node.store.write() as transaction:
                transaction.put(MEMBER, member_key("team", "u", "alice"), {"role": role})
            allowance = await node.guard.allowance(alice, "team")
            assert ("push" in allowance.actions) is (role == 2)
        await asyncio.gather(*asking)


class TestSystem:
    async def test_ping_health_and_version(self, node: AccountsNode) -> None:
        assert (await node.anonymous("GET", "/ping")).body == b'"Pong"'
        health = await node.anonymous.ok(200, "GET", "/health")
        assert health["status"] == "healthy"
        assert [entry["name"] for entry in health["components"]] == [
            "core", "database", "jobservice", "portal", "redis", "registry", "registryctl",
        ]  # fmt: skip
        assert (await node.anonymous("GET", "/api/version")).json() == {"version": "v2.0"}

    async def test_systeminfo_says_more_to_those_who_are_logged_in(self, node: AccountsNode) -> None:
        assert await node.anonymous.ok(200, "GET", "/systeminfo") == {
            "auth_mode": "db_auth",
            "harbor_version": "v2.2.4-1bc848b3",
            "self_registration": False,
        }
        shown = await node.admin.ok(200, "GET", "/systeminfo")
        assert shown["external_url"] == "http://registry.example:8443"
        assert shown["registry_url"] == "registry.example:8443"
        assert len(shown) == 12

    async def test_unknown_paths_and_methods_are_answered_as_harbor_does(self, node: AccountsNode) -> None:
        missing = await node.admin("GET", "/nosuch")
        assert (missing.status, missing.json()) == (
            404,
            {"errors": [{"code": "NOT_FOUND", "message": "path /api/v2.0/nosuch was not found"}]},
        )
        refused = await node.admin("PATCH", "/ping")
        assert (refused.status, refused.json()) == (
            405,
            {"errors": [{"code": "METHOD_NOT_ALLOWED", "message": "method PATCH is not allowed, but [GET] are"}]},
        )
        assert refused["allow"] == "GET"
        assert (await node.admin("HEAD", "/systeminfo")).status == 405


def rows(reply: Reply) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(reply.body)
    return listed


async def names(api: Api, path: str) -> list[str]:
    return [entry["name"] for entry in await api.ok(200, "GET", path)]


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


async def push_image(api: Api, repository: str) -> None:
    config = b"{}"
    digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    started = await api(
        "POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", config, content_type="application/octet-stream"
    )
    assert started.status == 201, started
    media_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2},
        "layers": [],
    }
    put = await api("PUT", f"/v2/{repository}/manifests/v1", manifest, content_type=media_type)
    assert put.status == 201, put
