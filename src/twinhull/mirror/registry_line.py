"""Requests of one foreign registry: let in, sent on, and their failures told apart. What they ask for is the client's affair.

What a request may fail with: RegistryLacks (it is not there), RegistryRefused (the credentials are not good for it),
RegistryBusy (too many requests; says when to come again), RegistryUnreachable (no answer in time, a broken one, or one that
can't be). None of their messages holds a secret.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin, urlsplit

import aiohttp
import msgspec
from yarl import URL

from twinhull.catalog.foreign import Endpoint
from twinhull.catalog.proxies import proxy_for
from twinhull.kit.errors import RegistryBusy, RegistryLacks, RegistryRefused, RegistryUnreachable
from twinhull.mirror.authorizing import Authorizer, trust_of

TIMEOUT_S: Final = 30.0
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
_CONNECT_S: Final = 5.0
# Bytes of a body that stay away for longer will not come.
_STALL_S: Final = 20.0
_REDIRECTS_MAX: Final = 5
_RETRY_AFTER_S: Final = 60
_RETRY_AFTER_MAX_S: Final = 24 * 3600
# Of Harbor's replication: what bears this name Harbors do not count as pulls.
_USER_AGENT: Final = "harbor-registry-client"
_SAID_BYTES_MAX: Final = 64 * 1024
_SAID_LENGTH_MAX: Final = 300
# What goes wrong on the way to a foreign server, or is no answer.
FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError, ssl.SSLError, ValueError)
_MOVED: Final = frozenset({301, 302, 303, 307, 308})

Body = bytes | AsyncIterable[bytes] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    method: str
    url: str
    headers: Mapping[str, str]
    data: Body
    limits: aiohttp.ClientTimeout


class RegistryLine:
    """Sends requests to one registry. Lives on one event loop, and keeps connections until it is closed."""

    def __init__(self, endpoint: Endpoint, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Take what opens the registry, where it answers, and how long an answer may take: in all, or a long one to begin."""
        self._endpoint = endpoint
        self.url = url
        self._timeout_s = timeout_s
        connect_s = min(_CONNECT_S, timeout_s)
        self._limits = aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_s)
        self._long_limits = aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=_STALL_S)
        self._authorizer = Authorizer(endpoint, self._ask_tokens)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        scope: str = "",
        headers: Mapping[str, str] | None = None,
        data: Body = None,
        is_long: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give the answer to a request at a path or whole address of this registry, with what opens it.

        Statuses that say one of the failures above raise; others are the caller's. A body that is a stream is sent once, so
        that what is asked first in a scope should be something without one. Where a body is long, in either direction, time is
        limited to the answer's beginning, and to each wait for more of it.
        """
        url = urljoin(f"{self.url}/", path) if "://" in path else f"{self.url}{path}"
        limits = self._long_limits if is_long else self._limits
        asked = _Asked(method=method, url=url, headers=headers or {}, data=data, limits=limits)
        try:
            async with asyncio.timeout(self._timeout_s if is_long and data is None else None):
                response = await self._let_in(asked, scope)
            async with response:
                await self._require(response, path)
                yield response
        except FAILURES as error:
            raise RegistryUnreachable(f"registry {self.url} does not answer: {_reason(error)}") from error

    async def whole(self, response: aiohttp.ClientResponse, bytes_max: int = ANSWER_BYTES_MAX) -> bytes:
        """Return the body of an answer; one that is longer raises RegistryUnreachable."""
        content = bytearray()
        async for piece in response.content.iter_any():
            content += piece
            if len(content) > bytes_max:
                raise RegistryUnreachable(f"registry {self.url} sends more than {bytes_max} bytes where less is due")
        return bytes(content)

    async def json(self, response: aiohttp.ClientResponse) -> object:
        """Return the body of a 200 as JSON; anything else raises RegistryUnreachable."""
        if response.status != HTTPStatus.OK:
            raise self.unexpected(response)
        try:
            return msgspec.json.decode(await self.whole(response))
        except msgspec.MsgspecError as error:
            raise RegistryUnreachable(f"registry {self.url} sends no JSON where it is due") from error

    async def said(self, response: aiohttp.ClientResponse) -> str:
        """Return what the body of an error says, for a message: a colon and the first error's code and message, or nothing."""
        return _said(await self.whole(response, _SAID_BYTES_MAX))

    def unexpected(self, response: aiohttp.ClientResponse) -> RegistryUnreachable:
        """Return the failure to raise for an answer that can't be."""
        return RegistryUnreachable(f"registry {self.url} answered {response.status} to {response.method} {response.url.path}")

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _let_in(self, asked: _Asked, scope: str) -> aiohttp.ClientResponse:
        mark = await self._authorizer.header(scope)
        response = await self._sent(replace(asked, headers={**asked.headers, **mark}))
        challenge = response.headers.get("WWW-Authenticate", "")
        can_again = asked.data is None or isinstance(asked.data, bytes)
        if response.status != HTTPStatus.UNAUTHORIZED or not challenge or not can_again:
            return response
        response.release()
        self._authorizer.learn(challenge, scope)
        again = await self._authorizer.header(scope)
        if again == mark:
            raise RegistryRefused(f"registry {self.url} refuses {urlsplit(asked.url).path} with its credentials")
        return await self._sent(replace(asked, headers={**asked.headers, **again}))

    async def _sent(self, asked: _Asked) -> aiohttp.ClientResponse:
        """Send, and follow to where the answer is; what opens this registry is for this registry only."""
        for _ in range(_REDIRECTS_MAX):
            response = await self._opened().request(
                asked.method,
                # What is escaped in an address that somebody else has signed stays as it is.
                URL(asked.url, encoded=asked.url.isascii()),
                proxy=proxy_for(asked.url),
                headers=asked.headers,
                data=asked.data,
                timeout=asked.limits,
                allow_redirects=False,
            )
            target = response.headers.get("Location")
            if response.status not in _MOVED or target is None or asked.method not in ("GET", "HEAD"):
                return response
            response.release()
            url, headers = urljoin(asked.url, target), asked.headers
            if urlsplit(asked.url).scheme == "https" and urlsplit(url).scheme != "https":
                raise RegistryUnreachable(f"registry {self.url} sends on to an address without TLS")
            if _origin(url) != _origin(asked.url):
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            asked = replace(asked, url=url, headers=headers)
        raise RegistryUnreachable(f"registry {self.url} sends on and on")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=trust_of(self._endpoint) or True, limit=0)
            # What is asked for are exact bytes.
            headers = {"Accept-Encoding": "identity", "User-Agent": _USER_AGENT}
            self._session = aiohttp.ClientSession(
                connector=connector, headers=headers, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def _ask_tokens(self, url: str, headers: Mapping[str, str]) -> object:
        asked = _Asked(method="GET", url=url, headers=headers, data=None, limits=self._limits)
        async with await self._sent(asked) as response:
            await self._require(response, "a token")
            return await self.json(response)

    async def _require(self, response: aiohttp.ClientResponse, path: str) -> None:
        """Raise what a status says."""
        status, name = response.status, path.partition("?")[0]
        if status == HTTPStatus.NOT_FOUND:
            raise RegistryLacks(f"registry {self.url} has no {name}")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            said = await self.said(response) if status == HTTPStatus.FORBIDDEN else ""
            raise RegistryRefused(f"registry {self.url} refuses {name} with {status}{said}")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            after = response.headers.get("Retry-After", "")
            after_s = min(int(after), _RETRY_AFTER_MAX_S) if after.isdecimal() else _RETRY_AFTER_S
            raise RegistryBusy(f"registry {self.url} takes no more requests for now", retry_after_s=after_s)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise self.unexpected(response)


def _said(content: bytes) -> str:
    try:
        document = msgspec.json.decode(content)
    except msgspec.MsgspecError:
        return ""
    errors = document.get("errors") if isinstance(document, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return ""
    text = " ".join(str(first.get(name) or "") for name in ("code", "message")).strip()
    return f": {text[:_SAID_LENGTH_MAX]}" if text.isprintable() else ""


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _reason(error: BaseException) -> str:
    return "not in time" if isinstance(error, TimeoutError) else str(error)[:200] or type(error).__name__
