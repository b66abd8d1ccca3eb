"""Passwords and tokens at every door; what is taken from somebody is gone at once, and what the node says of itself."""

from __future__ import annotations

import asyncio
import base64

import pytest

from tests.support.accounts import (
    PASSWORD,
    AccountsNode,
    Api,
    add_member,
    claims_of,
    make_project,
    make_user,
    names,
    site,
    user_body,
)
from twinhull.records.kinds import MEMBER, NODE, USER, member_key

__all__ = ["site"]


class TestTokens:
    async def test_access_is_what_the_role_gives_whatever_is_asked(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        await make_user(site, "dev")
        await add_member(site, project, "dev", 2)
        dev = site.user("dev", PASSWORD)
        scopes = "repository:team/app:pull", "repository:nosuch/app:pull", "registry:catalog:*", "bogus:x:y"
        claims = claims_of(await dev.token(*scopes))
        assert claims["sub"] == "dev"
        assert claims["access"] == [
            {"type": "repository", "name": "team/app", "actions": ["pull", "push"]},
            {"type": "repository", "name": "nosuch/app", "actions": []},
            {"type": "registry", "name": "catalog", "actions": ["*"]},
            {"type": "bogus", "name": "x", "actions": []},
        ]
        admin = claims_of(await site.admin.token("repository:team/app:pull"))
        assert admin["access"] == [{"type": "repository", "name": "team/app", "actions": ["pull", "push", "delete", "*"]}]

    async def test_answer_has_harbors_shape(self, site: AccountsNode) -> None:
        shown = await site.admin.ok(200, "GET", "/service/token?service=harbor-registry")
        assert sorted(shown) == ["access_token", "expires_in", "issued_at", "token"]
        assert shown["access_token"] == ""
        assert shown["expires_in"] == 1800
        assert claims_of(shown["token"])["access"] is None

    async def test_wrong_password_gets_an_anonymous_token_with_a_scope_and_401_without(self, site: AccountsNode) -> None:
        wrong = site.user("admin", "Wrong12345")
        assert (await wrong("GET", "/service/token?service=harbor-registry")).status == 401
        claims = claims_of(await wrong.token("repository:library/app:pull,push"))
        assert "sub" not in claims
        assert claims["access"] == [{"type": "repository", "name": "library/app", "actions": ["pull"]}]
        assert (await site.anonymous("GET", "/service/token?service=harbor-registry")).status == 401

    async def test_unknown_service_and_other_methods_are_refused(self, site: AccountsNode) -> None:
        reply = await site.admin("GET", "/service/token?service=nosuch")
        assert (reply.status, reply.body) == (400, b"Unable to handle service: nosuch")
        assert (await site.admin("POST", "/service/token?service=harbor-registry")).status == 405

    async def test_token_cannot_be_turned_into_another_or_manage_anything(self, site: AccountsNode) -> None:
        bearer = Api(site, f"Bearer {await site.admin.token('repository:library/app:pull')}")
        assert (await bearer("GET", "/service/token?service=harbor-registry")).status == 401
        assert (await bearer("GET", "/users")).status == 403
        assert (await bearer("POST", "/projects", {"project_name": "x"})).status == 403
        assert (await bearer("DELETE", "/projects/library")).status == 403
        assert (await bearer("PUT", "/users/1/password", {"new_password": "Passw0rd9"})).status == 403
        assert (await bearer("GET", "/users/current")).json()["username"] == "admin"

    async def test_token_is_good_for_what_it_was_asked_for_only(self, site: AccountsNode) -> None:
        bearer = Api(site, f"Bearer {await site.admin.token('repository:library/app:pull,push')}")
        assert await bearer.starts_upload("library/app") == 202
        assert await bearer.starts_upload("library/other") == 401
        assert (await Api(site, "Bearer forged")("GET", "/v2/")).status == 401

    async def test_what_is_taken_is_gone_before_the_token_runs_out(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        user = await make_user(site, "alice")
        member = await add_member(site, project, "alice", 2)
        bearer = Api(site, f"Bearer {await site.user('alice', PASSWORD).token('repository:team/app:pull,push')}")
        members = f"/projects/{project}/members"
        assert await bearer.starts_upload("team/app") == 202
        await site.admin.ok(200, "PUT", f"{members}/{member}", {"role_id": 3})
        assert await bearer.starts_upload("team/app") == 401
        await site.admin.ok(200, "PUT", f"{members}/{member}", {"role_id": 2})
        assert await bearer.starts_upload("team/app") == 202
        await site.admin.ok(200, "DELETE", f"{members}/{member}")
        assert await bearer.starts_upload("team/app") == 401
        await add_member(site, project, "alice", 2)
        assert await bearer.starts_upload("team/app") == 202
        await site.admin.ok(200, "PUT", f"/users/{user}/password", {"new_password": "Passw0rd2"})
        assert await bearer.starts_upload("team/app") == 401

    async def test_token_of_a_node_that_left_is_refused(self, site: AccountsNode) -> None:
        bearer = Api(site, f"Bearer {await site.admin.token('repository:library/app:pull,push')}")
        assert await bearer.starts_upload("library/app") == 202
        with site.store.write() as transaction:
            transaction.delete(NODE, site.store.node)
        assert await bearer.starts_upload("library/app") == 401


class TestLogins:
    async def test_repeated_wrong_passwords_are_slowed_down_and_the_right_one_of_others_works(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        await make_user(site, "bob")
        await site.user("alice", PASSWORD).ok(200, "GET", "/users/current")
        statuses = [(await site.user("bob", f"wrong{n}")("GET", "/users/current")).status for n in range(6)]
        assert statuses == [401, 401, 401, 401, 401, 429]
        slowed = await site.user("bob", PASSWORD)("GET", "/v2/")
        assert slowed.status == 429
        assert int(slowed["retry-after"]) >= 1
        await site.user("alice", PASSWORD).ok(200, "GET", "/users/current")
        await site.admin.ok(200, "GET", "/users/current")

    @pytest.mark.parametrize(
        "header",
        ["Basic", "Basic !!!", "Basic " + base64.b64encode(b"nocolon").decode(), "Basic " + "A" * 40_000, "Digest x", "x"],
    )
    async def test_credentials_that_are_none_are_anonymous(self, site: AccountsNode, header: str) -> None:
        assert (await Api(site, header)("GET", "/users/current")).status == 401
        assert (await Api(site, header)("GET", "/v2/")).status == 401
        assert await names(Api(site, header), "/projects") == ["library"]

    async def test_name_and_password_beyond_ascii_work(self, site: AccountsNode) -> None:
        await site.admin.create("/users", user_body("müller", "Pässw0rd:1", email="m@x.io"))
        await site.user("müller", "Pässw0rd:1").ok(200, "GET", "/users/current")

    @pytest.mark.parametrize("name", ["alice", "nosuch", "robot$nosuch", "a\x00b"])
    async def test_wrong_credentials_of_any_kind_are_refused(self, site: AccountsNode, name: str) -> None:
        await make_user(site, "alice")
        assert (await site.user(name, "Wrong1234")("GET", "/users/current")).status == 401

    async def test_account_that_is_disabled_is_refused(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        await alice.ok(200, "GET", "/users/current")
        with site.store.write() as transaction:
            transaction.put(USER, "alice", {"disabled": True})
        assert (await alice("GET", "/users/current")).status == 401

    async def test_rights_read_while_they_change_are_not_kept(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        await make_user(site, "alice")
        await add_member(site, project, "alice", 2)
        alice = await site.guard.subject("alice")
        role = 2

        async def ask() -> None:
            for _ in range(30):
                await site.guard.allowance(alice, "team")

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        for number in range(20):
            role = 3 if number % 2 else 2
            with site.store.write() as transaction:
                transaction.put(MEMBER, member_key("team", "u", "alice"), {"role": role})
            allowance = await site.guard.allowance(alice, "team")
            assert ("push" in allowance.actions) is (role == 2)
        await asyncio.gather(*asking)


class TestSystem:
    async def test_ping_health_and_version(self, site: AccountsNode) -> None:
        assert (await site.anonymous("GET", "/ping")).body == b'"Pong"'
        health = await site.anonymous.ok(200, "GET", "/health")
        assert health["status"] == "healthy"
        assert [entry["name"] for entry in health["components"]] == [
            "core", "database", "jobservice", "portal", "redis", "registry", "registryctl",
        ]  # fmt: skip
        assert (await site.anonymous("GET", "/api/version")).json() == {"version": "v2.0"}

    async def test_systeminfo_says_more_to_those_who_are_logged_in(self, site: AccountsNode) -> None:
        assert await site.anonymous.ok(200, "GET", "/systeminfo") == {
            "auth_mode": "db_auth",
            "harbor_version": "v2.16.0-0",
            "primary_auth_mode": False,
            "self_registration": False,
        }
        shown = await site.admin.ok(200, "GET", "/systeminfo")
        assert shown["external_url"] == "http://registry.example:8443"
        assert shown["registry_url"] == "registry.example:8443"
        assert len(shown) == 14

    async def test_unknown_paths_and_methods_are_answered_as_harbor_does(self, site: AccountsNode) -> None:
        missing = await site.admin("GET", "/nosuch")
        assert (missing.status, missing.json()) == (
            404,
            {"errors": [{"code": "NOT_FOUND", "message": "path /api/v2.0/nosuch was not found"}]},
        )
        refused = await site.admin("PATCH", "/ping")
        assert (refused.status, refused.json()) == (
            405,
            {"errors": [{"code": "METHOD_NOT_ALLOWED", "message": "method PATCH is not allowed, but [GET] are"}]},
        )
        assert refused["allow"] == "GET"
        assert (await site.admin("HEAD", "/systeminfo")).status == 405
