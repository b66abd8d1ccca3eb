"""Where people who sign in at an OpenID Connect provider come and go: /c/oidc, as Harbor has it.

What is to be remembered while somebody is at the provider goes with their browser, sealed: any node takes them back.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final, TypeVar
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from twinhull.auth.oidc import Person
from twinhull.auth.sealing import Sealer
from twinhull.auth.service import Guard
from twinhull.catalog.oidc import OidcSignIn
from twinhull.harbor.access import Access
from twinhull.harbor.errors import PreconditionFailed
from twinhull.harbor.requests import nothing, on, on_older, read_body
from twinhull.kit.clock import Clock
from twinhull.kit.errors import Denied, Invalid, Unauthenticated, Unavailable
from twinhull.web.browsers import Sessions, cookies_of
from twinhull.web.middleware import OriginOf

CALLBACK: Final = "/c/oidc/callback"
_ONBOARD_PAGE: Final = "/oidc-onboard"
_AWAY: Final = "oidc_away"
_COME: Final = "oidc_come"
_TIME_MAX_S: Final = 600
_WORD_BYTES: Final = 32


class _Away(msgspec.Struct, tag="away"):
    """What was said when somebody was sent to the provider."""

    state: str
    nonce: str
    verifier: str
    to: str
    until_s: int


class _Come(msgspec.Struct, tag="come"):
    """Who came back, and has no name here yet."""

    person: Person
    to: str
    until_s: int


class _OnboardBody(msgspec.Struct):
    username: str = ""


class _PingBody(msgspec.Struct):
    url: str = ""
    verify_cert: bool = True


_Content = TypeVar("_Content", _Away, _Come)


class OidcPingApi:
    """Handler for trying a provider."""

    def __init__(self, *, access: Access, oidc: OidcSignIn) -> None:
        """Take what every handler needs, and what knows providers."""
        self._access = access
        self._oidc = oidc

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [on_older("/system/oidc/ping", post=self.ping)]

    async def ping(self, request: Request) -> Response:
        """Say whether there is a provider at an address, to administrators."""
        await self._access.admin(request, legacy=True)
        body = await read_body(request, _PingBody, legacy=True)
        provider = await self._oidc.provider(endpoint=body.url, verify_cert=body.verify_cert)
        try:
            await provider.ping()
        except (Unavailable, Invalid) as error:
            raise Invalid("failed to verify connection") from error
        return nothing()


class OidcApi:
    """Handlers for coming and going."""

    def __init__(
        self,
        *,
        oidc: OidcSignIn,
        guard: Guard,
        sessions: Sessions,
        sealer: Sealer,
        clock: Clock,
        origin_of: OriginOf,
        external_url: str = "",
    ) -> None:
        """Take what knows the provider's people, what makes sessions, what seals, the time, and the address to come back to."""
        self._oidc = oidc
        self._guard = guard
        self._sessions = sessions
        self._sealer = sealer
        self._clock = clock
        self._origin_of = origin_of
        self._external_url = external_url

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/c/oidc/login", get=self.login),
            on(CALLBACK, get=self.callback),
            on("/c/oidc/onboard", post=self.onboard),
        ]

    async def login(self, request: Request) -> Response:
        """Send the browser to the provider."""
        await self._require_mode()
        words = [secrets.token_urlsafe(_WORD_BYTES) for _ in range(3)]
        to = _local(request.query_params.get("redirect_url", "/"))
        away = _Away(state=words[0], nonce=words[1], verifier=words[2], to=to, until_s=self._until_s())
        provider = await self._oidc.provider()
        address = await provider.address(
            state=away.state, nonce=away.nonce, verifier=away.verifier, redirect_uri=self._redirect_uri(request)
        )
        self._keep(request, _AWAY, away)
        return RedirectResponse(address, status_code=302)

    async def callback(self, request: Request) -> Response:
        """Take somebody back from the provider: into a session, or to the page where they choose a name."""
        await self._require_mode()
        away = self._kept(request, _AWAY, _Away)
        query = request.query_params
        if not away.state or not secrets.compare_digest(query.get("state", "").encode(), away.state.encode()):
            raise Invalid("State mismatch.")
        if query.get("error"):
            raise Unauthenticated(f"the provider refuses: {query['error'][:100]}")
        provider = await self._oidc.provider()
        person = await provider.person(
            code=query.get("code", ""), nonce=away.nonce, verifier=away.verifier, redirect_uri=self._redirect_uri(request)
        )
        self._sessions.set_cookie(request.scope, _AWAY, "", max_age_s=0)
        name = await self._oidc.known(person)
        if name is None:
            self._keep(request, _COME, _Come(person=person, to=away.to, until_s=self._until_s()))
            return RedirectResponse(f"{_ONBOARD_PAGE}?{_query(person.name, away.to)}", status_code=302)
        await self._begin(request, name)
        return RedirectResponse(away.to, status_code=302)

    async def onboard(self, request: Request) -> Response:
        """Give somebody who came back from the provider the name that they chose, and a session."""
        await self._require_mode()
        come = self._kept(request, _COME, _Come)
        body = await read_body(request, _OnboardBody, legacy=True)
        name = await self._oidc.onboard(come.person, body.username)
        self._sessions.set_cookie(request.scope, _COME, "", max_age_s=0)
        await self._begin(request, name)
        return nothing()

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _begin(self, request: Request, name: str) -> None:
        subject = await self._guard.subject(name)
        if subject is None:
            raise Denied(f"the account {name} is disabled")
        await self._sessions.begin(request.scope, subject)

    async def _require_mode(self) -> None:
        if not await self._oidc.is_on():
            raise PreconditionFailed(f"auth mode: {await self._oidc.mode()} is not OIDC based")

    def _redirect_uri(self, request: Request) -> str:
        return (self._external_url or self._origin_of(request.scope)).rstrip("/") + CALLBACK

    def _until_s(self) -> int:
        return self._clock.unix_ms() // 1000 + _TIME_MAX_S

    def _keep(self, request: Request, name: str, content: _Away | _Come) -> None:
        sealed = self._sealer.seal(msgspec.json.encode(content).decode())
        self._sessions.set_cookie(request.scope, name, sealed, max_age_s=_TIME_MAX_S)

    def _kept(self, request: Request, name: str, of: type[_Content]) -> _Content:
        try:
            content = msgspec.json.decode(self._sealer.unseal(cookies_of(request.scope).get(name, "")), type=of)
        except (Invalid, Unavailable, msgspec.DecodeError) as error:
            raise Invalid("this sign-in was not begun here, or too long ago", hint="begin again at /c/oidc/login") from error
        if content.until_s < self._clock.unix_ms() // 1000:
            raise Invalid("this sign-in was begun too long ago", hint="begin again at /c/oidc/login")
        return content


def _local(address: str) -> str:
    """Return a path of this site, whatever was asked for: nobody is to be sent anywhere else."""
    is_path = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_path else "/"


def _query(name: str, to: str) -> str:
    return urlencode({"username": name, "redirect_url": to})
