"""How foreign registries are opened: which certificates are trusted, and which header a request must bear."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode, urlsplit

from twinhull.catalog.foreign import Endpoint
from twinhull.kit.errors import RegistryRefused

# What a token service that does not say so means (Docker's "Token Authentication Specification").
_TOKEN_LIFE_S: Final = 60
# A token is good for as long as it says, less the time that a request may be on its way.
_TOKEN_SHARE: Final = 0.75
_TOKENS_MAX: Final = 1000
_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')

# Asks a token service with these headers, and returns its answer as JSON; raises what requests of a registry raise.
AskTokens = Callable[[str, Mapping[str, str]], Awaitable[object]]


def trust_of(endpoint: Endpoint) -> ssl.SSLContext | None:
    """Return what checks the registry's certificate; None for the system's own authorities. Raises ValueError or SSLError."""
    if endpoint.insecure:
        return unverified()
    return ssl.create_default_context(cadata=endpoint.ca_certificate) if endpoint.ca_certificate else None


def unverified() -> ssl.SSLContext:
    """Return what takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def basic(endpoint: Endpoint) -> dict[str, str]:
    """Return the header with the endpoint's name and secret; none for one that is open to everybody."""
    return {"Authorization": encoded(f"{endpoint.access_key}:{endpoint.access_secret}")} if endpoint.access_key else {}


def encoded(pair: str) -> str:
    """Return NAME:SECRET as the value of a header (RFC 7617)."""
    return "Basic " + base64.b64encode(pair.encode()).decode()


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
    until_s: float


class Authorizer:
    """Knows by which header one registry lets its requests in, once it has been told off. Lives on an event loop.

    A scope is a text as tokens have it ("repository:library/app:pull"), or several with spaces between; there is a token for
    each.
    """

    def __init__(self, endpoint: Endpoint, ask: AskTokens) -> None:
        """Take what opens the registry, and what asks token services."""
        self._endpoint = endpoint
        self._ask = ask
        self._is_basic = False
        # The token service's address with what it is always asked; "" until the registry has named it.
        self._realm = ""
        self._tokens: dict[str, _Token] = {}

    async def header(self, scope: str) -> dict[str, str]:
        """Return the header for a request in that scope, none as long as the registry has asked for none.

        Raises RegistryRefused, and what requests raise where a new token has to be asked for.
        """
        if self._is_basic:
            return basic(self._endpoint)
        if not self._realm:
            return {}
        token = self._tokens.get(scope)
        if token is None or asyncio.get_running_loop().time() >= token.until_s:
            token = await self._new_token(scope)
        return {"Authorization": token.header}

    def learn(self, challenge: str, scope: str) -> None:
        """Take a challenge: the next header is as it wants it. Raises RegistryRefused for one that can't be met."""
        scheme, _, rest = challenge.partition(" ")
        self._tokens.pop(scope, None)
        if scheme.lower() == "basic" and self._endpoint.access_key:
            self._is_basic = True
        elif scheme.lower() == "bearer":
            said = dict(_PARAMETER.findall(rest))
            self._realm = self._checked(said.get("realm", ""), said.get("service", ""))
        else:
            raise RegistryRefused(f"registry {self._endpoint.url} wants credentials, and has none or others than it takes")

    def _checked(self, realm: str, service: str) -> str:
        parts = urlsplit(realm)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RegistryRefused(f"registry {self._endpoint.url} names no place where tokens are to be had")
        if parts.scheme == "http" and self._endpoint.url.startswith("https:"):
            # A secret that is sent by TLS alone must not be had by whoever can make up a challenge.
            raise RegistryRefused(f"registry {self._endpoint.url} wants its credentials sent to {parts.hostname} in the clear")
        query = urlencode({"service": service}) if service else ""
        return f"{realm}{'&' if parts.query else '?'}{query}"

    async def _new_token(self, scope: str) -> _Token:
        url = f"{self._realm}&{urlencode([('scope', each) for each in scope.split()])}" if scope else self._realm
        said = await self._ask(url, basic(self._endpoint))
        text = (said.get("token") or said.get("access_token")) if isinstance(said, dict) else None
        if not isinstance(said, dict) or not isinstance(text, str) or not text.isascii() or not text.isprintable():
            raise RegistryRefused(f"registry {self._endpoint.url} was asked for a token and gave none")
        life_s = said.get("expires_in")
        life_s = max(life_s, _TOKEN_LIFE_S) if isinstance(life_s, int) else _TOKEN_LIFE_S
        token = _Token(f"Bearer {text}", asyncio.get_running_loop().time() + life_s * _TOKEN_SHARE)
        if len(self._tokens) >= _TOKENS_MAX:
            self._tokens.clear()
        self._tokens[scope] = token
        return token
