"""Users at Harbor's paths: made, shown, changed and deleted, in Harbor's words."""

from __future__ import annotations

import json

import pytest

from tests.support.accounts import (
    PASSWORD,
    WEAK,
    AccountsNode,
    Api,
    add_member,
    make_project,
    make_user,
    robot_body,
    rows,
    site,
    user_body,
)

__all__ = ["site"]


class TestUsers:
    async def test_user_that_was_made_is_shown_without_a_trace_of_the_password(self, site: AccountsNode) -> None:
        reply = await site.admin("POST", "/users", user_body("alice"))
        assert reply.status == 201
        assert reply.body == b""
        assert reply["twinhull-durability"] == "local"
        assert reply["location"].startswith("/api/v2.0/users/")
        shown = await site.admin.ok(200, "GET", reply["location"])
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
        self, site: AccountsNode, changed: dict[str, object], status: int, message: str
    ) -> None:
        await make_user(site, "alice")
        reply = await site.admin("POST", "/users", {**user_body("bob"), **changed})
        assert reply.status == status
        assert reply.json()["errors"][0]["message"] == message

    async def test_users_are_for_administrators(self, site: AccountsNode) -> None:
        number = await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        other = await make_user(site, "bob")
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
            reply = await site.anonymous("GET", path)
            assert (reply.status, reply.json()) == (401, {"errors": [{"code": "UNAUTHORIZED", "message": "UnAuthorize"}]})
        assert (await alice.ok(200, "GET", f"/users/{number}"))["username"] == "alice"

    async def test_users_that_are_not_there_are_not_found_by_anybody_who_may_search_them(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        for api in (site.admin, site.user("alice", PASSWORD)):
            for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("PUT", "/sysadmin"), ("PUT", "/password")):
                assert (await api(method, f"/users/99999{path}", {})).status == 404
            assert (await api("GET", "/users/x")).status == 400
        assert (await site.anonymous("GET", "/users/99999")).status == 401

    async def test_whoever_asks_is_a_user_like_others(self, site: AccountsNode) -> None:
        number = await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        profile = {"email": "alice@y.io", "realname": "Alice"}
        await alice.ok(200, "PUT", "/users/current", profile)
        assert (await alice.ok(200, "GET", "/users/current"))["email"] == "alice@y.io"
        assert (await alice("DELETE", "/users/current")).status == 403
        own = await alice.ok(200, "GET", f"/users/{number}/permissions?scope=/project/1")
        assert own == await alice.ok(200, "GET", "/users/current/permissions?scope=/project/1")
        assert (await site.admin("GET", f"/users/{number}/permissions")).status == 403

    async def test_a_robot_is_not_the_user_who_has_the_same_id(self, site: AccountsNode) -> None:
        number = await make_user(site, "alice")
        while True:
            made = await site.admin.ok(201, "POST", "/robots", robot_body(f"r{number}", "library"))
            if made["id"] >= number:
                break
            await site.admin.ok(200, "DELETE", f"/robots/{made['id']}")
        assert made["id"] == number
        robot = site.user(made["name"], made["secret"])
        for method, path in (("GET", ""), ("PUT", ""), ("PUT", "/password"), ("GET", "/permissions"), ("DELETE", "")):
            assert (await robot(method, f"/users/{number}{path}", {})).status == 403

    async def test_list_has_pages_filters_and_no_built_in_administrator(self, site: AccountsNode) -> None:
        for name in ("dev1", "dev2", "guest_x", "guestyx"):
            await make_user(site, name)
        reply = await site.admin("GET", "/users?page=2&page_size=1")
        assert [user["username"] for user in rows(reply)] == ["dev2"]
        assert reply["x-total-count"] == "4"
        assert reply["link"] == (
            '</api/v2.0/users?page=1&page_size=1>; rel="prev", </api/v2.0/users?page=3&page_size=1>; rel="next"'
        )
        names = [user["username"] for user in await site.admin.ok(200, "GET", "/users?username=guest_&page_size=100")]
        assert names == ["guest_x"]
        for query, wanted in (
            ("q=username%3Ddev2", ["dev2"]),
            ("q=username%3D~DEV&sort=-username", ["dev2", "dev1"]),
            ("q=email%3D~guest&sort=-creation_time", ["guestyx", "guest_x"]),
            ("q=sysadmin_flag%3Dtrue", []),
            ("q=username%3D~dev&email=2@", ["dev2"]),
        ):
            assert [user["username"] for user in await site.admin.ok(200, "GET", f"/users?{query}")] == wanted, query
        # Harbor 2.2 had no `q` here, and passed over whatever came.
        assert len(rows(await site.admin("GET", "/users?q=username"))) == 4
        found = await site.user("dev1", PASSWORD).ok(200, "GET", "/users/search?username=dev")
        assert [sorted(user) for user in found] == [["user_id", "username"]] * 2
        for query in ("page=0", "page=x", "page_size=0", "page_size=-1"):
            assert (await site.admin("GET", f"/users?{query}")).status == 400
        assert rows(await site.admin("GET", "/users?page=999999999999999999")) == []

    async def test_profile_is_changed_by_its_owner_and_keeps_addresses_unique(self, site: AccountsNode) -> None:
        number = await make_user(site, "alice")
        await make_user(site, "bob")
        alice = site.user("alice", PASSWORD)
        await alice.ok(200, "PUT", f"/users/{number}", {"email": "new@x.io", "realname": "Alice", "comment": "c"})
        assert (await alice.ok(200, "GET", "/users/current"))["email"] == "new@x.io"
        taken = await alice("PUT", f"/users/{number}", {"email": "bob@x.io", "realname": "z"})
        assert (taken.status, taken.json()["errors"][0]["message"]) == (409, "email has already been used")
        assert (await site.admin("PUT", "/users/99999", {"email": "q@q.io", "realname": "z"})).status == 404
        assert (await site.admin("GET", "/users/abc")).status == 400

    async def test_password_is_changed_with_the_old_one_or_by_an_administrator(self, site: AccountsNode) -> None:
        number = await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        path = f"/users/{number}/password"
        assert (await alice("PUT", path, {"new_password": "Passw0rd2"})).status == 400
        assert (await alice("PUT", path, {"old_password": "wrong", "new_password": "Passw0rd2"})).status == 401
        await alice.ok(200, "PUT", path, {"old_password": PASSWORD, "new_password": "Passw0rd2"})
        assert (await alice("GET", "/users/current")).status == 401
        await site.user("alice", "Passw0rd2").ok(200, "GET", "/users/current")
        same = await site.admin("PUT", path, {"new_password": "Passw0rd2"})
        assert (same.status, same.json()["errors"][0]["message"]) == (
            400,
            "the new password can not be same with the old one",
        )
        await site.admin.ok(200, "PUT", path, {"new_password": "Passw0rd3"})
        await site.user("alice", "Passw0rd3").ok(200, "GET", "/users/current")

    async def test_built_in_administrator_can_be_neither_deleted_nor_stripped(self, site: AccountsNode) -> None:
        number = await make_user(site, "root2")
        await site.admin.ok(200, "PUT", f"/users/{number}/sysadmin", {"sysadmin_flag": True})
        other = site.user("root2", PASSWORD)
        reply = await other("DELETE", "/users/1")
        assert reply.status == 403
        assert "User with ID: 1 cannot be removed" in reply.json()["errors"][0]["message"]
        assert (await other("PUT", "/users/1/sysadmin", {"sysadmin_flag": False})).status == 403
        await site.admin.ok(200, "PUT", f"/users/{number}/sysadmin", {"sysadmin_flag": False})
        assert (await other("GET", "/users")).status == 403

    async def test_deleted_user_is_gone_and_the_name_is_free_without_its_rights(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        number = await make_user(site, "alice")
        await add_member(site, project, "alice", 1)
        token = await site.user("alice", PASSWORD).token("repository:team/app:pull,push")
        await site.admin.ok(200, "DELETE", f"/users/{number}")
        assert (await site.admin("GET", f"/users/{number}")).status == 404
        assert (await site.user("alice", PASSWORD)("GET", "/users/current")).status == 401
        assert [m["entity_name"] for m in await site.admin.ok(200, "GET", f"/projects/{project}/members")] == ["admin"]
        await make_user(site, "alice")
        assert await site.user("alice", PASSWORD).starts_upload("team/app") == 401
        assert await Api(site, f"Bearer {token}").starts_upload("team/app") == 401

    async def test_permissions_of_whoever_asks_are_listed_as_harbor_does(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        await make_user(site, "alice")
        await add_member(site, project, "alice", 3)
        alice = site.user("alice", PASSWORD)
        listed = await alice.ok(200, "GET", f"/users/current/permissions?scope=/project/{project}&relative=true")
        assert len(listed) == 23
        assert listed[0] == {"action": "read", "resource": "."}
        whole = await site.admin.ok(200, "GET", "/users/current/permissions?scope=/project/9999")
        assert len(whole) == 77
        assert whole[3] == {"action": "create", "resource": "/project/9999/member"}
        assert await alice.ok(200, "GET", "/users/current/permissions?scope=bogus") == []
