"""Single calls to foreign registries and scanners over HTTP. Nothing is kept between two of them."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import msgspec

from twinhull.catalog.foreign import Endpoint, MailServer, ScannerEndpoint
from twinhull.kit.errors import RegistryRefused, TwinhullError, Unavailable
from twinhull.mirror.authorizing import encoded, unverified
from twinhull.mirror.harbor import HarborRegistry
from twinhull.mirror.registry_client import RegistryClient
from twinhull.mirror.registry_line import FAILURES

TIMEOUT_S: Final = 10.0
ANSWER_BYTES_MAX: Final = 1024 * 1024
_HARBOR: Final = "harbor"
_ERRORS: Final = 400
# What scanners and older clients of theirs agree on.
_METADATA_TYPE: Final = "application/vnd.scanner.adapter.metadata+json; version=1.0"


class Calls:
    """Makes the calls; implements catalog.foreign.Foreign."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """Take how long a call may last in all."""
        self._timeout_s = timeout_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def is_healthy(self, endpoint: Endpoint) -> bool:
        """Tell whether a registry answers, and takes the credentials where there are any.

        As in Harbor, a registry that is given none and asks for some is healthy.
        """
        try:
            async with RegistryClient(endpoint, timeout_s=self._timeout_s) as client:
                await client.check()
        except RegistryRefused:
            return not endpoint.access_key
        except TwinhullError:
            return False
        return True

    async def namespaces(self, endpoint: Endpoint, part: str) -> list[str]:
        """Return the projects of a foreign Harbor whose name contains that; none of what is no Harbor. Raises Unavailable."""
        if endpoint.kind != _HARBOR:
            return []
        registry = HarborRegistry(endpoint)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await registry.projects_like(part)
        except (TwinhullError, TimeoutError) as error:
            raise Unavailable(f"{endpoint.url} does not say which projects it has") from error
        finally:
            await registry.close()

    async def scanner_metadata(self, endpoint: ScannerEndpoint) -> Mapping[str, Any]:
        """Return what a scanner's adapter says of itself; raises Unavailable."""
        headers = {"Accept": _METADATA_TYPE, **_scanner_headers(endpoint)}
        try:
            async with self._session(unverified() if endpoint.skip_cert_verify else None) as session:
                found = await _json_of(session, f"{endpoint.url}/api/v1/metadata", headers)
        except FAILURES as error:
            raise Unavailable(f"the scanner at {endpoint.url} does not answer") from error
        if not isinstance(found, dict) or not isinstance(found.get("scanner"), dict):
            raise Unavailable(f"what answers at {endpoint.url} is no scanner's adapter")
        return found

    async def mail_answers(self, server: MailServer) -> bool:
        """Tell whether a mail server answers, and takes the login where there is one."""
        return await asyncio.to_thread(_log_in, server, self._timeout_s)

    async def answers(self, url: str, *, headers: Mapping[str, str], insecure: bool) -> bool:
        """Tell whether there is an HTTP server at the address that answers with anything but a refusal or an error."""
        try:
            async with (
                self._session(unverified() if insecure else None) as session,
                session.get(url, headers=headers, allow_redirects=False) as response,
            ):
                return response.status < _ERRORS
        except FAILURES:
            return False

    @asynccontextmanager
    async def _session(self, context: ssl.SSLContext | None) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(ssl=context or True, force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=self._timeout) as session:
            yield session


def _log_in(server: MailServer, timeout_s: float) -> bool:
    kind = smtplib.SMTP_SSL if server.tls else smtplib.SMTP
    try:
        with kind(server.host, server.port, timeout=timeout_s) as connection:
            connection.ehlo()
            if not server.tls and connection.has_extn("starttls"):
                connection.starttls(context=ssl.create_default_context())
                connection.ehlo()
            if server.username:
                connection.login(server.username, server.password)
    except (*FAILURES, smtplib.SMTPException):
        return False
    return True


async def _json_of(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> object:
    """Return a JSON answer; raises one of FAILURES, also for an answer that is too long or no JSON."""
    content = bytearray()
    async with session.get(url, headers=headers, allow_redirects=False, raise_for_status=True) as response:
        async for piece in response.content.iter_any():
            content += piece
            if len(content) > ANSWER_BYTES_MAX:
                raise ValueError(url)
    found: object = msgspec.json.decode(content)
    return found


def _scanner_headers(endpoint: ScannerEndpoint) -> dict[str, str]:
    if endpoint.auth == "Basic":
        return {"Authorization": encoded(endpoint.access_credential)}
    if endpoint.auth == "Bearer":
        return {"Authorization": f"Bearer {endpoint.access_credential}"}
    return {endpoint.auth: endpoint.access_credential} if endpoint.auth else {}
