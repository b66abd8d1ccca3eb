"""Browsers' sessions: begun and ended at Harbor's paths, good on every node, and safe from forged requests."""

from __future__ import annotations

import base64
from http.cookies import SimpleCookie
from typing import Any, Final

import pytest

from tests.functional.test_account_caches import Elsewhere
from tests.support.accounts import ADMIN_PASSWORD, PASSWORD, AccountsNode, Api, make_user, site, user_body
from tests.support.composed import Reply
from twinhull.auth.ended import EndedSessions
from twinhull.auth.passwords import GuessBrake, PasswordChecker, VerifiedPasswords
from twinhull.auth.service import Guard
from twinhull.auth.tokens import TokenVerifier
from twinhull.records.kinds import NODE, SESSION_END
from twinhull.web.asgi import EXTRA_HEADERS
from twinhull.web.browsers import AUDIENCE, CSRF_COOKIE, SESSION_COOKIE, Sessions, session_id

__all__ = ["site"]

FORM: Final = "application/x-www-form-urlencoded"
TOKEN: Final = "x-harbor-csrf-token"


class Browser:
    """Keeps cookies and the token against forged requests, as Harbor's own portal does."""

    def __init__(self, site: AccountsNode) -> None:
        self._api: Api = site.anonymous
        self.cookies: dict[str, str] = {}
        self.token = ""

    async def __call__(self, method: str, path: str, body: object = None, *, token: str | None = None, **headers: str) -> Reply:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {"cookie": cookie, "x_harbor_csrf_token": self.token if token is None else token, **headers}
        reply = await self._api(method, path, body, **{name: value for name, value in sent.items() if value})
        for name, value in reply.headers:
            if name == "set-cookie":
                for key, morsel in SimpleCookie(value).items():
                    self.cookies[key] = morsel.value
            if name == TOKEN:
                self.token = value
        return reply

    async def login(self, name: str = "admin", password: str = ADMIN_PASSWORD) -> int:
        await self("GET", "/c/login")
        body = f"principal={name}&password={password}".encode()
        return (await self("POST", "/c/login", body, content_type=FORM)).status


@pytest.fixture
async def browser(site: AccountsNode) -> Browser:
    """A browser that nobody signed in with."""
    return Browser(site)


async def current(browser: Browser) -> str | None:
    reply = await browser("GET", "/users/current")
    return str(reply.json()["username"]) if reply.status == 200 else None


def sessions_of_a_node_that_was_away(site: AccountsNode, peers: Elsewhere) -> Sessions:
    clock = site.store.clock
    passwords = PasswordChecker(verified=VerifiedPasswords(clock=clock), brake=GuessBrake(clock=clock), executor=site.executor)
    guard = Guard(store=site.store, executor=site.executor, log=site.freshness, clock=clock, passwords=passwords, peers=peers)
    return Sessions(
        guard=guard,
        ended=EndedSessions(store=site.store, executor=site.executor, log=site.freshness),
        issuer=site.issuer,
        verifier=TokenVerifier(keys=guard.key_of, audience=AUDIENCE, clock=clock),
        sealer=site.sealer,
        origin_of=lambda _scope: "http://r.example",
    )


class TestSessions:
    async def test_session_lasts_from_login_to_logout(self, browser: Browser) -> None:
        assert await current(browser) is None
        assert await browser.login() == 200
        assert await current(browser) == "admin"
        kept = dict(browser.cookies)
        assert (await browser("GET", "/c/log_out")).status == 200
        assert browser.cookies[SESSION_COOKIE] == ""
        browser.cookies = kept
        assert await current(browser) is None

    async def test_only_the_session_that_was_logged_out_ends(self, site: AccountsNode) -> None:
        first, second = Browser(site), Browser(site)
        assert [await first.login(), await second.login()] == [200, 200]
        await first("GET", "/c/log_out")
        assert await current(second) == "admin"

    async def test_wrong_password_and_robots_get_no_session(self, browser: Browser) -> None:
        assert await browser.login("admin", "wrong") == 401
        assert await browser.login("robot$x", "wrong") == 401
        assert "." not in browser.cookies[SESSION_COOKIE]

    async def test_cookie_is_out_of_reach_of_scripts_and_of_other_sites(self, browser: Browser) -> None:
        await browser("GET", "/c/login")
        body = f"principal=admin&password={ADMIN_PASSWORD}".encode()
        reply = await browser("POST", "/c/login", body, content_type=FORM)
        (cookie,) = [value for name, value in reply.headers if name == "set-cookie" and value.startswith(f"{SESSION_COOKIE}=")]
        assert "; HttpOnly" in cookie
        assert "; SameSite=Lax" in cookie
        assert "Secure" not in cookie

    def test_cookie_stays_on_encrypted_connections_once_it_came_by_one(self, site: AccountsNode) -> None:
        scope: dict[str, Any] = {"scheme": "https", "headers": [(b"host", b"r.example")], EXTRA_HEADERS: []}
        site.sessions.forget(scope)
        ((_, cookie),) = scope[EXTRA_HEADERS]
        assert cookie.endswith(b"; Secure")

    async def test_session_ends_with_the_password_and_with_the_account(self, site: AccountsNode) -> None:
        alice, again = Browser(site), Browser(site)
        number = await make_user(site, "alice")
        assert await alice.login("alice", PASSWORD) == 200
        await site.admin.ok(200, "PUT", f"/users/{number}/password", {"new_password": "An0therOne"})
        assert await current(alice) is None
        assert await again.login("alice", "An0therOne") == 200
        await site.admin.ok(200, "DELETE", f"/users/{number}")
        assert await current(again) is None

    async def test_session_runs_out(self, site: AccountsNode, browser: Browser) -> None:
        await site.admin.ok(200, "PUT", "/configurations", {"session_timeout": 1})
        assert await browser.login() == 200
        claims = base64.urlsafe_b64decode(browser.cookies[SESSION_COOKIE].split(".")[1] + "==")
        assert b'"aud":"harbor-session"' in claims
        assert 0 < int(claims.split(b'"exp":')[1].split(b",")[0]) - site.store.clock.unix_ms() / 1000 <= 60

    async def test_registry_token_is_no_session(self, site: AccountsNode, browser: Browser) -> None:
        browser.cookies[SESSION_COOKIE] = await site.admin.token("repository:library/x:pull")
        assert await current(browser) is None
        assert await browser.login() == 200
        reply = await site.anonymous("GET", "/v2/", authorization=f"Bearer {browser.cookies[SESSION_COOKIE]}")
        assert reply.status == 401

    async def test_session_is_ended_by_a_process_that_knows_no_keys_yet(self, site: AccountsNode, browser: Browser) -> None:
        assert await browser.login() == 200
        kept = dict(browser.cookies)
        with site.store.write() as transaction:
            transaction.put(NODE, site.store.node, {"name": "renamed"})
        # Whoever looks at the log first makes all forget what changed.
        await site.freshness.catch_up()
        await browser("GET", "/c/log_out")
        browser.cookies = kept
        assert await current(browser) is None

    async def test_session_that_was_ended_elsewhere_is_over_before_the_node_has_caught_up(
        self, site: AccountsNode, browser: Browser
    ) -> None:
        assert await browser.login() == 200
        cookie = browser.cookies[SESSION_COOKIE]
        scope: dict[str, Any] = {"headers": [(b"cookie", f"{SESSION_COOKIE}={cookie}".encode())]}
        elsewhere = Elsewhere()
        away = sessions_of_a_node_that_was_away(site, elsewhere)
        assert await away.read(scope) is not None

        def log_out() -> None:
            with site.store.write() as transaction:
                transaction.create(SESSION_END, session_id(cookie), {"expires_ms": site.store.clock.unix_ms() + 60_000})

        elsewhere.did[SESSION_END.name, session_id(cookie)] = log_out
        assert await away.read(scope) is None

    @pytest.mark.parametrize("cookie", ["bogus", "a.b.c", "", "x" * 4000, "é"])
    async def test_nonsense_is_nobodys_session(self, browser: Browser, cookie: str) -> None:
        browser.cookies[SESSION_COOKIE] = cookie
        reply = await browser("GET", "/users/current")
        assert (reply.status, reply.json()["errors"][0]["message"]) == (401, "UnAuthorize")


class TestForgedRequests:
    @pytest.mark.parametrize("token", ["", "bad", base64.b64encode(b"x" * 64).decode()])
    async def test_change_without_a_good_token_is_refused(self, site: AccountsNode, browser: Browser, token: str) -> None:
        assert await browser.login() == 200
        for api, headers in ((browser, {}), (browser, {"authorization": f"Basic {_basic()}"})):
            reply = await api("POST", "/projects", {"project_name": "p"}, token=token, **headers)
            assert (reply.status, reply.json()["errors"][0]) == (403, {"code": "FORBIDDEN", "message": "CSRF token invalid"})
        assert (await browser("POST", "/projects", {"project_name": "p"})).status == 201
        assert (await site.admin("POST", "/projects", {"project_name": "q"})).status == 201

    async def test_token_of_another_browser_is_not_good(self, site: AccountsNode, browser: Browser) -> None:
        other = Browser(site)
        assert [await browser.login(), await other.login()] == [200, 200]
        assert (await browser("POST", "/projects", {"project_name": "p"}, token=other.token)).status == 403

    async def test_login_itself_wants_the_token(self, browser: Browser) -> None:
        body = f"principal=admin&password={ADMIN_PASSWORD}".encode()
        assert (await browser("POST", "/c/login", body, content_type=FORM)).status == 403
        # The refusal brought one.
        assert (await browser("POST", "/c/login", body, content_type=FORM)).status == 200

    async def test_token_looks_different_each_time(self, browser: Browser) -> None:
        await browser("GET", "/c/login")
        first = browser.token
        await browser("GET", "/c/login")
        assert browser.token != first
        assert CSRF_COOKIE in browser.cookies


class TestRegistration:
    async def test_people_register_themselves_where_that_is_allowed(self, site: AccountsNode, browser: Browser) -> None:
        await browser("GET", "/c/login")
        assert (await browser("POST", "/users", user_body("alice"))).status == 401
        await site.admin.ok(200, "PUT", "/configurations", {"self_registration": True})
        through_api = await site.anonymous("POST", "/users", user_body("alice"))
        assert through_api.status == 403
        assert through_api.json()["errors"][0]["message"] == "self-registration cannot be triggered via API"
        assert (await browser("POST", "/users", user_body("alice"))).status == 201
        assert await browser.login("alice", PASSWORD) == 200
        assert not (await browser("GET", "/users/current")).json()["sysadmin_flag"]

    async def test_taken_names_are_told_while_people_may_register(self, site: AccountsNode, browser: Browser) -> None:
        await make_user(site, "alice")
        await browser("GET", "/c/login")
        assert (await browser("POST", "/c/userExists", b"target=username&value=alice", content_type=FORM)).status == 412
        await site.admin.ok(200, "PUT", "/configurations", {"self_registration": True})
        for query, found in (
            ("username&value=alice", b"true"),
            ("email&value=alice@x.io", b"true"),
            ("email&value=", b"false"),
        ):
            reply = await browser("POST", "/c/userExists", f"target={query}".encode(), content_type=FORM)
            assert (reply.status, reply.body) == (200, found)
        assert (await browser("POST", "/c/userExists", b"target=x&value=y", content_type=FORM)).status == 400


def _basic() -> str:
    return base64.b64encode(f"admin:{ADMIN_PASSWORD}".encode()).decode()
