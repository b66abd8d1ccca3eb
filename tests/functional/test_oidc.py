"""People sign in at an OpenID Connect provider, and are known here by the name that it never changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from joserfc.jwk import RSAKey

from tests.functional.test_browsers import Browser, current
from tests.support.accounts import AccountsNode, make_project, rows, site
from tests.support.composed import HOST, Reply
from tests.support.provider import CLIENT_ID, CLIENT_SECRET, Provider, running_provider

__all__ = ["site"]


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A provider at which Ann is signed in."""
    async with running_provider() as running:
        yield running


@pytest.fixture
async def signing_in(site: AccountsNode, provider: Provider) -> AccountsNode:
    """A node whose people sign in at the provider."""
    settings = {
        "auth_mode": "oidc_auth",
        "oidc_endpoint": provider.issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
        "oidc_scope": "openid,profile,email",
        "oidc_groups_claim": "groups",
        "oidc_admin_group": "leads",
        "oidc_auto_onboard": True,
        "oidc_user_claim": "preferred_username",
    }
    await site.admin.ok(200, "PUT", "/configurations", settings)
    return site


async def sign_in(site: AccountsNode, browser: Browser | None = None, *, to: str = "/") -> tuple[Browser, Reply]:
    """Go to the provider and come back; return the browser and what it was answered."""
    browser = browser or Browser(site)
    away = await browser("GET", f"/c/oidc/login?redirect_url={to}")
    assert away.status == 302, away
    async with aiohttp.ClientSession() as session, session.get(away["location"], allow_redirects=False) as answer:
        back = urlsplit(answer.headers["Location"])
    assert back.netloc == HOST
    return browser, await browser("GET", f"{back.path}?{back.query}")


class TestSignIn:
    async def test_new_person_is_known_at_once_where_that_is_set(self, signing_in: AccountsNode, provider: Provider) -> None:
        browser, back = await sign_in(signing_in, to="/harbor/projects")
        assert (back.status, back["location"]) == (302, "/harbor/projects")
        assert await current(browser) == "ann"
        shown = (await browser("GET", "/users/current")).json()
        assert (shown["realname"], shown["email"]) == ("Ann Lee", "ann@x.io")
        assert shown["oidc_user_meta"]["subiss"] == f"u-1{provider.issuer}"
        assert "secret" not in str(await signing_in.admin.ok(200, "GET", f"/users/{shown['user_id']}"))

    async def test_provider_may_take_its_time_over_an_answer(self, signing_in: AccountsNode, provider: Provider) -> None:
        provider.in_pieces = True
        browser, _ = await sign_in(signing_in)
        assert await current(browser) == "ann"

    @pytest.mark.parametrize("secret_in", ["header", "form"])
    @pytest.mark.parametrize("tells_where", [True, False])
    async def test_client_says_who_it_is_as_the_provider_wants_it(
        self, signing_in: AccountsNode, provider: Provider, secret_in: str, tells_where: bool
    ) -> None:
        provider.secret_in, provider.tells_where = secret_in, tells_where
        browser, _ = await sign_in(signing_in)
        assert await current(browser) == "ann"

    async def test_client_with_a_wrong_secret_is_refused(self, signing_in: AccountsNode, provider: Provider) -> None:
        await signing_in.admin.ok(200, "PUT", "/configurations", {"oidc_client_secret": "wrong"})
        assert (await sign_in(signing_in))[1].status == 401

    async def test_person_is_the_same_under_another_name(self, signing_in: AccountsNode, provider: Provider) -> None:
        await sign_in(signing_in)
        provider.claims |= {"preferred_username": "anna", "groups": ["leads", "devs"]}
        browser, _ = await sign_in(signing_in)
        shown = (await browser("GET", "/users/current")).json()
        assert (shown["username"], shown["admin_role_in_auth"]) == ("ann", True)
        assert {one["group_name"] for one in rows(await signing_in.admin("GET", "/usergroups"))} == {"devs", "leads"}
        provider.claims["groups"] = []
        browser, _ = await sign_in(signing_in)
        assert (await browser("GET", "/configurations")).status == 403

    async def test_other_nodes_are_waited_for_when_something_was_written_down(
        self, signing_in: AccountsNode, provider: Provider
    ) -> None:
        for claims, waits in (({}, True), ({}, False), ({"groups": ["leads"]}, True), ({"groups": []}, True), ({}, False)):
            provider.claims |= claims
            signing_in.durability.awaited.clear()
            assert (await sign_in(signing_in))[1].status == 302
            assert bool(signing_in.durability.awaited) is waits, claims

    async def test_new_person_chooses_a_name_where_nobody_gives_one(self, signing_in: AccountsNode, provider: Provider) -> None:
        await signing_in.admin.ok(200, "PUT", "/configurations", {"oidc_auto_onboard": False})
        browser, back = await sign_in(signing_in)
        page = urlsplit(back["location"])
        assert (page.path, parse_qs(page.query)["username"]) == ("/oidc-onboard", ["ann"])
        assert await current(browser) is None
        for name in ("admin", "a,b", ""):
            assert (await browser("POST", "/c/oidc/onboard", {"username": name})).status == 400
        assert (await browser("POST", "/c/oidc/onboard", {"username": "annie"})).status == 200
        assert await current(browser) == "annie"
        assert (await browser("POST", "/c/oidc/onboard", {"username": "again"})).status == 400
        provider.claims |= {"sub": "u-2"}
        other, _ = await sign_in(signing_in)
        assert (await other("POST", "/c/oidc/onboard", {"username": "annie"})).status == 409

    async def test_group_filter_leaves_groups_out(self, signing_in: AccountsNode, provider: Provider) -> None:
        await signing_in.admin.ok(200, "PUT", "/configurations", {"oidc_group_filter": "^team-"})
        provider.claims["groups"] = ["team-a", "other"]
        await sign_in(signing_in)
        assert [one["group_name"] for one in rows(await signing_in.admin("GET", "/usergroups"))] == ["team-a"]

    @pytest.mark.parametrize(
        "changed", [{"aud": "other"}, {"iss": "https://evil"}, {"nonce": "old"}, {"exp": 1}, {"aud": [CLIENT_ID, "x"]}]
    )
    async def test_word_for_another_sign_in_is_refused(
        self, signing_in: AccountsNode, provider: Provider, changed: dict[str, object]
    ) -> None:
        provider.changed = changed
        browser, back = await sign_in(signing_in)
        assert back.status == 401
        assert await current(browser) is None

    async def test_word_that_another_key_signed_is_refused(self, signing_in: AccountsNode, provider: Provider) -> None:
        provider.signs_with = RSAKey.generate_key(2048, parameters={"kid": "one"})
        assert (await sign_in(signing_in))[1].status == 401

    async def test_browser_that_was_not_sent_away_is_not_taken_back(self, signing_in: AccountsNode) -> None:
        browser, other = Browser(signing_in), Browser(signing_in)
        away = await browser("GET", "/c/oidc/login")
        state = parse_qs(urlsplit(away["location"]).query)["state"][0]
        assert (await other("GET", f"/c/oidc/callback?code=x&state={state}")).status == 400
        assert (await browser("GET", "/c/oidc/callback?code=x&state=other")).status == 400
        assert (await browser("GET", f"/c/oidc/callback?state={state}&error=access_denied")).status == 401

    @pytest.mark.parametrize("to", ["https://evil", "//evil", "/%5Cevil"])
    async def test_nobody_is_sent_elsewhere_afterwards(self, signing_in: AccountsNode, to: str) -> None:
        assert (await sign_in(signing_in, to=to))[1]["location"] == "/"

    async def test_paths_are_closed_while_people_sign_in_otherwise(self, site: AccountsNode) -> None:
        for path in ("/c/oidc/login", "/c/oidc/callback?code=x&state=y"):
            reply = await site.anonymous("GET", path)
            assert (reply.status, reply.json()["errors"][0]["code"]) == (412, "PRECONDITION_FAILED")
            assert reply.json()["errors"][0]["message"] == "auth mode: db_auth is not OIDC based"
        assert (await site.admin("PUT", "/users/1/cli_secret", {"secret": "Passw0rd1"})).status == 412


class TestSecretsForClients:
    async def test_secret_stands_for_a_password_until_there_is_another(self, signing_in: AccountsNode) -> None:
        browser, _ = await sign_in(signing_in)
        await make_project(signing_in.admin, "p", public=True)
        meta = (await browser("GET", "/users/current")).json()["oidc_user_meta"]
        client = signing_in.user("ann", meta["secret"])
        assert (await client("GET", "/v2/")).status == 200
        path = f"/users/{meta['user_id']}/cli_secret"
        assert (await client("PUT", path, {"secret": "weak"})).status == 400
        await client.ok(200, "PUT", path, {"secret": "Chosen-By-Me-1"})
        assert (await client("GET", "/v2/")).status == 401
        chosen = signing_in.user("ann", "Chosen-By-Me-1")
        assert (await chosen.ok(200, "GET", "/users/current"))["oidc_user_meta"]["secret"] == "Chosen-By-Me-1"
        assert await Browser(signing_in).login("ann", "Chosen-By-Me-1") == 401
        assert (await signing_in.admin("PUT", "/users/1/cli_secret", {"secret": "Passw0rd1"})).status == 412


class TestPing:
    async def test_provider_is_tried_before_it_is_set(self, site: AccountsNode, provider: Provider) -> None:
        await site.admin.ok(200, "POST", "/system/oidc/ping", {"url": provider.issuer, "verify_cert": False})
        for body in ({"url": "http://127.0.0.1:1"}, {"url": f"{provider.issuer}/other"}, {}, {"url": "file:///etc/passwd"}):
            reply = await site.admin("POST", "/system/oidc/ping", body)
            assert (reply.status, reply.json()["errors"][0]["message"]) == (400, "failed to verify connection")
        assert (await site.anonymous("POST", "/system/oidc/ping", {})).status == 401
