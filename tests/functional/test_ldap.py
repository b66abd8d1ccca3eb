"""People of a real OpenLDAP directory sign in, with their groups, and are found and imported at Harbor's paths."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.accounts import AccountsNode, make_project, rows, site
from tests.support.directory import BASE, PASSWORDS, SEARCH_DN, SEARCH_PASSWORD, DirectoryServer, running_directory

__all__ = ["site"]

ALICE, BOB = PASSWORDS["alice"], PASSWORDS["bob"]
DEVS = f"cn=devs,ou=groups,{BASE}"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectoryServer]:
    """A directory with alice, bob and two groups."""
    with running_directory(tmp_path_factory.mktemp("ldap")) as server:
        yield server


@pytest.fixture
async def signing_in(site: AccountsNode, directory: DirectoryServer) -> AccountsNode:
    """A node whose people sign in by the directory."""
    await site.admin.ok(200, "PUT", "/configurations", directory.settings)
    return site


class TestSignIn:
    async def test_people_sign_in_with_what_the_directory_knows(self, signing_in: AccountsNode) -> None:
        shown = await signing_in.user("bob", BOB).ok(200, "GET", "/users/current")
        assert (shown["username"], shown["realname"], shown["email"]) == ("bob", "Bob", "b@example.org")
        assert (shown["sysadmin_flag"], shown["admin_role_in_auth"]) == (False, False)
        for name, password in (("bob", "wrong"), ("bob", ""), ("nobody", "Builder123"), ("*", BOB), ("bob)(uid=*", BOB)):
            assert (await signing_in.user(name, password)("GET", "/users/current")).status == 401
        odd = await signing_in.user("o(b)ob*", PASSWORDS["o(b)ob*"]).ok(200, "GET", "/users/current")
        assert odd["username"] == "o(b)ob*"

    async def test_built_in_administrator_signs_in_without_the_directory(self, signing_in: AccountsNode) -> None:
        await signing_in.admin.ok(200, "PUT", "/configurations", {"ldap_url": "ldap://127.0.0.1:1"})
        await signing_in.admin.ok(200, "GET", "/users/current")
        assert (await signing_in.user("bob", BOB)("GET", "/users/current")).status == 503

    async def test_rights_come_with_groups_of_the_directory(self, signing_in: AccountsNode) -> None:
        project = await make_project(signing_in.admin, "team")
        member = {"role_id": 2, "member_group": {"ldap_group_dn": DEVS}}
        await signing_in.admin.create(f"/projects/{project}/members", member)
        assert await signing_in.user("bob", BOB).starts_upload("team/app") == 202
        assert (await signing_in.admin("POST", f"/projects/{project}/members", member)).status == 409
        (group,) = [one for one in rows(await signing_in.admin("GET", "/usergroups")) if one["group_name"] == "devs"]
        assert (group["group_type"], group["ldap_group_dn"]) == (1, DEVS)

    async def test_members_of_the_administrators_group_are_administrators(self, signing_in: AccountsNode) -> None:
        alice = signing_in.user("alice", ALICE)
        assert (await alice.ok(200, "GET", "/users/current"))["admin_role_in_auth"] is True
        await alice.ok(200, "GET", "/configurations")
        assert (await signing_in.user("bob", BOB)("GET", "/configurations")).status == 403

    async def test_people_are_made_members_before_they_come(self, signing_in: AccountsNode) -> None:
        project = await make_project(signing_in.admin, "team")
        path = f"/projects/{project}/members"
        await signing_in.admin.create(path, {"role_id": 2, "member_user": {"username": "bob"}})
        assert (await signing_in.admin("POST", path, {"role_id": 2, "member_user": {"username": "nobody"}})).status == 400
        assert await signing_in.user("bob", BOB).starts_upload("team/app") == 202

    async def test_accounts_are_not_made_here_and_passwords_not_changed(self, signing_in: AccountsNode) -> None:
        bob = signing_in.user("bob", BOB)
        number = (await bob.ok(200, "GET", "/users/current"))["user_id"]
        body = {"username": "x", "email": "x@x.io", "realname": "x", "password": "Passw0rd1"}
        assert (await signing_in.admin("POST", "/users", body)).status == 403
        changed = await bob("PUT", f"/users/{number}/password", {"old_password": BOB, "new_password": "An0therOne"})
        assert changed.status == 403
        await signing_in.admin.ok(200, "DELETE", f"/users/{number}")
        # Who is in the directory comes as somebody new.
        assert (await bob.ok(200, "GET", "/users/current"))["user_id"] != number


class TestPaths:
    async def test_people_and_groups_are_found(self, signing_in: AccountsNode) -> None:
        found = await signing_in.admin.ok(200, "GET", "/ldap/users/search?username=bob")
        assert found == [{"username": "bob", "realname": "Bob", "email": "b@example.org"}]
        assert len(await signing_in.admin.ok(200, "GET", "/ldap/users/search")) == len(PASSWORDS)
        group = {"group_name": "devs", "group_type": 1, "ldap_group_dn": DEVS}
        assert await signing_in.admin.ok(200, "GET", "/ldap/groups/search?groupname=dev") == [group]
        assert await signing_in.admin.ok(200, "GET", f"/ldap/groups/search?groupdn={DEVS}") == [group]
        assert await signing_in.admin.ok(200, "GET", "/ldap/groups/search?groupname=nosuch") == []

    async def test_people_are_imported_and_failures_named(self, signing_in: AccountsNode) -> None:
        await signing_in.admin.ok(200, "POST", "/ldap/users/import", {"ldap_uid_list": ["bob"]})
        assert [one["username"] for one in rows(await signing_in.admin("GET", "/users"))] == ["bob"]
        again = await signing_in.admin("POST", "/ldap/users/import", {"ldap_uid_list": ["bob", "nobody"]})
        assert again.status == 404
        assert rows(again) == [{"uid": "bob", "error": "duplicate_user"}, {"uid": "nobody", "error": "unknown_user"}]
        assert (await signing_in.admin("POST", "/ldap/users/import", {})).status == 400

    async def test_ping_tells_whether_settings_are_right(self, signing_in: AccountsNode, directory: DirectoryServer) -> None:
        assert await signing_in.admin.ok(200, "POST", "/ldap/ping") == {"success": True, "message": ""}
        good = {"ldap_url": directory.url, "ldap_search_dn": SEARCH_DN, "ldap_search_password": SEARCH_PASSWORD}
        assert (await signing_in.admin.ok(200, "POST", "/ldap/ping", good))["success"] is True
        # The password that is kept goes to the address that it is kept for alone.
        for changed in ({"ldap_search_password": ""}, {"ldap_url": "ldap://127.0.0.1:1"}, {"ldap_url": "ftp://x"}):
            shown = await signing_in.admin.ok(200, "POST", "/ldap/ping", {**good, **changed})
            assert (shown["success"], bool(shown["message"])) == (False, True)

    async def test_group_that_the_directory_does_not_have_is_not_made(self, signing_in: AccountsNode) -> None:
        body = {"group_name": "g", "group_type": 1, "ldap_group_dn": f"cn=nosuch,ou=groups,{BASE}"}
        assert (await signing_in.admin("POST", "/usergroups", body)).status == 400
        assert (await signing_in.admin("POST", "/usergroups", {**body, "ldap_group_dn": DEVS})).status == 201

    async def test_only_administrators_ask(self, site: AccountsNode) -> None:
        paths = (("POST", "/ldap/ping"), ("GET", "/ldap/users/search"), ("GET", "/ldap/groups/search"))
        for method, path in (*paths, ("POST", "/ldap/users/import")):
            assert (await site.anonymous(method, path)).status == 401
        assert (await site.admin("GET", "/ldap/users/search")).status == 400
