"""The cluster-wide settings at Harbor's paths: shown, changed, and in force at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.accounts import AccountsNode, make_project, make_user, robot_body, site
from twinhull.metadata.accounts import find_setting

__all__ = ["site"]


async def configure(site: AccountsNode, **items: object) -> None:
    await site.admin.ok(200, "PUT", "/configurations", items)


async def shown(site: AccountsNode) -> dict[str, Any]:
    found: dict[str, Any] = await site.admin.ok(200, "GET", "/configurations")
    return found


def stored(site: AccountsNode, name: str) -> object:
    with site.store.read() as connection:
        return find_setting(connection, name)


class TestConfigurations:
    async def test_what_was_set_is_shown(self, site: AccountsNode) -> None:
        await configure(site, token_expiration=60, ldap_base_dn="dc=x", self_registration=True)
        found = await shown(site)
        assert found["token_expiration"] == {"value": 60, "editable": True}
        assert found["ldap_base_dn"]["value"] == "dc=x"
        assert found["self_registration"]["value"] is True
        assert found["email_port"]["value"] == 25
        assert await site.admin.ok(200, "GET", "/internalconfig") == found

    async def test_what_is_shown_can_be_sent_back_with_an_item_changed(self, site: AccountsNode) -> None:
        await configure(site, uaa_client_secret="uaa", ldap_search_password="hunter2")
        secrets = [stored(site, name) for name in ("uaa_client_secret", "ldap_search_password")]
        sent = {name: item["value"] for name, item in (await shown(site)).items()}
        await configure(site, **{**sent, "token_expiration": 66})
        now = {name: item["value"] for name, item in (await shown(site)).items()}
        assert now == {**sent, "token_expiration": 66}
        assert secrets == [stored(site, name) for name in ("uaa_client_secret", "ldap_search_password")]
        # What is not what it is now is looked at as ever.
        await configure(site, ldap_base_dn="dc=x")
        reply = await site.admin("PUT", "/configurations", {**sent, "token_expiration": 77})
        assert (reply.status, reply.json()["errors"][0]["message"]) == (
            400,
            "string value can not be empty, item name: ldap_base_dn",
        )

    async def test_object_is_shown_as_the_text_that_it_is_described_as(self, site: AccountsNode) -> None:
        assert (await shown(site))["oidc_extra_redirect_parms"]["value"] == "{}"
        for sent in ({"prompt": "login"}, '{"prompt": "login"}'):
            await configure(site, oidc_extra_redirect_parms=sent)
            assert (await shown(site))["oidc_extra_redirect_parms"]["value"] == '{"prompt": "login"}'
            await configure(site, oidc_extra_redirect_parms="{}")

    async def test_secret_is_sealed_and_never_shown(self, site: AccountsNode) -> None:
        await configure(site, ldap_search_password="hunter2", oidc_client_secret="s3cret", uaa_client_secret="uaa")
        reply = await site.admin("GET", "/configurations")
        assert not any(word in reply.body.decode() for word in ("hunter2", "s3cret", "ldap_search_password"))
        assert reply.json()["uaa_client_secret"]["value"] == ""
        assert str(stored(site, "ldap_search_password")).startswith("sealed:")

    async def test_bad_item_leaves_the_good_ones_unset(self, site: AccountsNode) -> None:
        reply = await site.admin("PUT", "/configurations", {"read_only": True, "token_expiration": "abc"})
        assert reply.status == 400
        assert reply.json()["errors"][0]["message"].endswith("item name: token_expiration")
        assert stored(site, "read_only") is None

    @pytest.mark.parametrize("body", [b"[]", b"{", b'"x"', b""])
    async def test_body_that_is_no_object_is_refused(self, site: AccountsNode, body: bytes) -> None:
        reply = await site.admin("PUT", "/configurations", body)
        assert reply.status == 400

    async def test_way_to_sign_in_stays_once_there_are_users(self, site: AccountsNode) -> None:
        assert (await shown(site))["auth_mode"] == {"value": "db_auth", "editable": True}
        await configure(site, auth_mode="ldap_auth")
        assert (await site.anonymous.ok(200, "GET", "/systeminfo"))["auth_mode"] == "ldap_auth"
        await configure(site, auth_mode="db_auth")
        await make_user(site, "alice")
        assert (await shown(site))["auth_mode"] == {"value": "db_auth", "editable": False}
        reply = await site.admin("PUT", "/configurations", {"auth_mode": "bogus"})
        assert reply.status == 400
        assert "can not be modified as new users have been inserted" in reply.json()["errors"][0]["message"]
        await configure(site, auth_mode="db_auth")

    async def test_only_administrators_see_or_change_them(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        alice = site.user("alice", "Passw0rd1")
        for method, body in (("GET", None), ("PUT", {"read_only": True})):
            assert (await alice(method, "/configurations", body)).status == 403
            assert (await site.anonymous(method, "/configurations", body)).status == 401
        assert stored(site, "read_only") is None

    async def test_settings_are_in_force_at_once(self, site: AccountsNode) -> None:
        await configure(site, robot_name_prefix="bot+", robot_token_duration=7, banner_message="tonight", token_expiration=5)
        project = await make_project(site.admin, "p")
        made = await site.admin.ok(201, "POST", "/robots", {**robot_body("r", "p"), "duration": 0})
        assert made["name"] == "bot+p+r"
        assert project
        assert (await site.anonymous.ok(200, "GET", "/systeminfo"))["banner_message"] == "tonight"
        token = await site.admin.ok(200, "GET", "/service/token?service=harbor-registry&scope=repository:p/r:pull")
        assert token["expires_in"] == 300
        assert (await site.user("bot+p+r", made["secret"])("GET", "/v2/")).status == 200
        await configure(site, robot_name_prefix="robot$")
        assert (await site.user("bot+p+r", made["secret"])("GET", "/v2/")).status == 401
        assert (await site.user("robot$p+r", made["secret"])("GET", "/v2/")).status == 200

    @pytest.mark.parametrize(("mode", "field"), [("oidc_auth", "oidc_provider_name"), ("http_auth", "authproxy_settings")])
    async def test_page_for_signing_in_learns_what_it_needs(self, site: AccountsNode, mode: str, field: str) -> None:
        assert field not in await site.anonymous.ok(200, "GET", "/systeminfo")
        await configure(site, auth_mode=mode, oidc_name="sso")
        assert (await site.anonymous.ok(200, "GET", "/systeminfo"))[field]


class TestReadOnly:
    async def test_every_write_is_refused_until_it_ends(self, site: AccountsNode) -> None:
        await make_project(site.admin, "p")
        await configure(site, read_only=True)
        expected = "The system is in read only mode. Any modification is prohibited."
        for method, path in (("POST", "/projects"), ("DELETE", "/projects/p"), ("POST", "/v2/p/r/blobs/uploads/")):
            reply = await site.admin(method, path, {})
            assert (reply.status, reply.json()["errors"][0]["code"]) == (403, "DENIED")
            assert reply.json()["errors"][0]["message"] == expected
        await site.admin.ok(200, "GET", "/projects/p")
        assert (await site.admin("GET", "/v2/p/r/tags/list")).status == 404
        await configure(site, read_only=False)
        assert await site.admin.starts_upload("p/r") == 202
