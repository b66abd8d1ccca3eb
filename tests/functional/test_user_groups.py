"""User groups at Harbor's paths, and what people may do through them."""

from __future__ import annotations

import pytest

from tests.support.accounts import PASSWORD, AccountsNode, add_member, make_project, make_user, rows, site
from twinhull.records.kinds import USER

__all__ = ["site"]

DEVELOPER, GUEST, ADMIN = 2, 3, 1


async def make_group(site: AccountsNode, name: str, group_type: int = 3, dn: str = "") -> int:
    return await site.admin.create("/usergroups", {"group_name": name, "group_type": group_type, "ldap_group_dn": dn})


def put_into(site: AccountsNode, user: str, *groups: str, admin: bool = False) -> None:
    """Say that a user was in these groups when they last signed in."""
    with site.store.write() as transaction:
        transaction.put(USER, user, {"groups": list(groups), "admin_in_auth": admin})


class TestUserGroups:
    async def test_group_is_shown_as_it_was_made(self, site: AccountsNode) -> None:
        number = await make_group(site, " admins ", 1, "cn=admins,dc=x")
        shown = {"id": number, "group_name": "admins", "group_type": 1, "ldap_group_dn": "cn=admins,dc=x"}
        assert await site.admin.ok(200, "GET", f"/usergroups/{number}") == shown
        other = await make_group(site, "devs", 2)
        assert await site.admin.ok(200, "GET", "/usergroups") == [shown, {"id": other, "group_name": "devs", "group_type": 2}]
        assert len(rows(await site.admin("GET", "/usergroups?page=2&page_size=1"))) == 1
        assert [one["id"] for one in rows(await site.admin("GET", "/usergroups?ldap_group_dn=CN=admins,dc=x"))] == [number]
        assert [one["id"] for one in rows(await site.admin("GET", "/usergroups?group_name=dev"))] == [other]

    @pytest.mark.parametrize(
        ("body", "status", "message"),
        [
            ({"group_name": "", "group_type": 1}, 400, "User group name can not be empty!"),
            ({"group_name": "x", "group_type": 9}, 400, "invalid user group type: 9"),
            ({"group_name": "x", "group_type": 1, "ldap_group_dn": "nonsense"}, 400, "Failed to parse LDAP DN"),
            ({"group_name": "x" * 256, "group_type": 2}, 400, "user group name is too long or contains illegal characters"),
            ({"group_name": "g", "group_type": 2}, 409, "duplicated user group name g"),
            ({"group_name": "h", "group_type": 1, "ldap_group_dn": "CN=g,dc=x"}, 409, "duplicated user group dn CN=g,dc=x"),
        ],
    )
    async def test_group_is_refused_in_harbors_words(
        self, site: AccountsNode, body: dict[str, object], status: int, message: str
    ) -> None:
        await make_group(site, "g", 1, "cn=g,dc=x")
        reply = await site.admin("POST", "/usergroups", body)
        assert (reply.status, reply.json()["errors"][0]["message"]) == (status, message)

    async def test_groups_are_seen_by_users_and_written_by_administrators(self, site: AccountsNode) -> None:
        number = await make_group(site, "g")
        await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        assert len(rows(await alice("GET", "/usergroups"))) == 1
        assert await alice.ok(200, "GET", "/usergroups/search?groupname=G") == [
            {"id": number, "group_name": "g", "group_type": 3}
        ]
        assert (await alice.ok(200, "GET", f"/usergroups/{number}"))["group_name"] == "g"
        assert (await site.anonymous("GET", f"/usergroups/{number}")).status == 401
        for method, path in (("POST", ""), ("PUT", f"/{number}"), ("DELETE", f"/{number}")):
            assert (await alice(method, f"/usergroups{path}", {"group_name": "x", "group_type": 2})).status == 403
        for path in ("/usergroups", "/usergroups/search?groupname=g"):
            assert (await site.anonymous("GET", path)).status == 401
        assert (await alice("GET", "/usergroups/search")).status == 400
        assert (await site.admin("GET", "/usergroups/99999")).status == 404
        assert (await site.admin("PUT", "/usergroups/99999", {"group_name": "x"})).status == 404
        await site.admin.ok(200, "DELETE", "/usergroups/99999")


class TestGroupMembers:
    async def test_members_of_a_group_have_its_role_until_it_goes(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        project = await make_project(site.admin, "team")
        number = await make_group(site, "devs")
        body = {"role_id": DEVELOPER, "member_group": {"id": number}}
        member = await site.admin.create(f"/projects/{project}/members", body)
        assert (await site.admin("POST", f"/projects/{project}/members", body)).status == 409
        shown = await site.admin.ok(200, "GET", f"/projects/{project}/members/{member}")
        assert (shown["entity_name"], shown["entity_type"], shown["entity_id"]) == ("devs", "g", number)
        assert await alice.starts_upload("team/app") == 401
        put_into(site, "alice", "devs", "others")
        assert await alice.starts_upload("team/app") == 202
        assert [one["name"] for one in rows(await alice("GET", "/projects?name=team"))] == ["team"]
        assert (await alice.ok(200, "GET", "/projects/team"))["current_user_role_ids"] == [DEVELOPER]
        await site.admin.ok(200, "DELETE", f"/usergroups/{number}")
        assert await alice.starts_upload("team/app") == 401
        assert len(rows(await site.admin("GET", f"/projects/{project}/members"))) == 1
        await make_group(site, "devs")
        assert await alice.starts_upload("team/app") == 401

    async def test_strongest_role_holds(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        project = await make_project(site.admin, "team")
        await add_member(site, project, "alice", GUEST)
        group = {"role_id": ADMIN, "member_group": {"group_name": "leads", "group_type": 3}}
        await site.admin.create(f"/projects/{project}/members", group)
        assert (await alice("POST", f"/projects/{project}/members", {})).status == 403
        put_into(site, "alice", "leads")
        assert (await alice.ok(200, "GET", "/projects/team"))["current_user_role_ids"] == [ADMIN, GUEST]
        assert (await alice("POST", f"/projects/{project}/members", {})).status == 400

    async def test_group_that_is_renamed_keeps_memberships_and_members(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        project = await make_project(site.admin, "team")
        number = await make_group(site, "devs")
        await site.admin.create(f"/projects/{project}/members", {"role_id": DEVELOPER, "member_group": {"id": number}})
        put_into(site, "alice", "devs")
        await site.admin.ok(200, "PUT", f"/usergroups/{number}", {"group_name": "developers"})
        assert (await site.admin.ok(200, "GET", f"/usergroups/{number}"))["group_name"] == "developers"
        assert await site.user("alice", PASSWORD).starts_upload("team/app") == 202
        await make_group(site, "devs")
        assert (await site.admin("PUT", f"/usergroups/{number}", {"group_name": "devs"})).status == 409

    async def test_administrator_by_a_group_is_one_as_long_as_that_holds(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        put_into(site, "alice", "leads", admin=True)
        assert (await alice.ok(200, "GET", "/users/current"))["admin_role_in_auth"] is True
        await alice.ok(200, "GET", "/configurations")
        put_into(site, "alice", "leads")
        assert (await alice("GET", "/configurations")).status == 403
