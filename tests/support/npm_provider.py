"""Runs oidc-provider, a certified OpenID Connect provider for Node.js, and goes through its pages like a browser."""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from yarl import URL

from tests.support.clients import NODE_MODULES, Home, require_node
from tests.support.processes import last_lines, stop

CLIENT_ID: Final = "twinhull client"
# With what has to be escaped on its way.
CLIENT_SECRET: Final = "Secret+of/the:client%20=="
SCRIPT: Final = Path(__file__).resolve().parents[1] / "compat" / "scripts" / "oidc_provider.mjs"
_STOP_LIMIT_S: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class NpmProvider:
    """A provider that runs."""

    issuer: str
    log: Path


@contextlib.contextmanager
def running_npm_provider(
    directory: Path, *, redirect_uris: Sequence[str], people: Mapping[str, Mapping[str, object]], secret_in: str
) -> Iterator[NpmProvider]:
    """Run a provider that knows these people, and one client that may come from there and says its secret in this way."""
    home, log = Home(directory), directory / "log"
    client = {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "redirect_uris": list(redirect_uris),
        "token_endpoint_auth_method": secret_in,
    }
    (home.path / "node_modules").symlink_to(NODE_MODULES)
    said = json.dumps({"clients": [client], "people": people})
    with log.open("wb") as errors:
        process = home.start(require_node(), "--input-type=module", "-", said, errors=errors)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(SCRIPT.read_bytes())
        process.stdin.close()
        issuer = process.stdout.readline().decode().strip()
        assert issuer, f"the provider did not start:\n{last_lines(log)}"
        yield NpmProvider(issuer=issuer, log=log)
    finally:
        stop(process, signal.SIGTERM, limit_s=_STOP_LIMIT_S)
        process.stdout.close()


class Person:
    """Somebody with a browser."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        """Take what keeps cookies."""
        self._session = session

    async def sign_in(self, away: str, account: str, *, back_at: str) -> aiohttp.ClientResponse:
        """Go to where a node sends people, say who they are and agree; return what they are answered at another node.

        Both nodes are met by the first one's name, as behind an entrance that sends each request anywhere.
        """
        home = away.removeprefix("http://").partition("/")[0]
        page = await self._session.get(away)
        for form in ({"prompt": "login", "login": account, "password": "any"}, {"prompt": "consent"}):
            assert page.status == 200, (page.url, await page.text())
            found = re.search(r'action="([^"]+)"', await page.text())
            assert found is not None, await page.text()
            where: str | None = found[1]
            data: Mapping[str, str] | None = form
            while where:
                answer = await self._session.request("POST" if data else "GET", where, data=data, allow_redirects=False)
                where, data = answer.headers.get("Location"), None
                if where and where.startswith(f"http://{home}/"):
                    path = where.removeprefix(f"http://{home}")
                    return await self._session.get(f"http://{back_at}{path}", headers={"Host": home}, allow_redirects=False)
                where = str(answer.url.join(URL(where))) if where else None
            page = answer
        raise AssertionError(f"{account} was not sent back: {page.url}")

    async def ask(self, address: str, path: str) -> tuple[int, Any]:
        """Return status and JSON of a request of the browser's session."""
        async with self._session.get(f"http://{address}/api/v2.0{path}") as answer:
            return answer.status, await answer.json()

    async def choose_name(self, address: str, name: str) -> int:
        """Take a name where the provider gives none, and return the status of the answer."""
        async with self._session.get(f"http://{address}/c/login") as answer:
            token = answer.headers["X-Harbor-CSRF-Token"]
        headers = {"X-Harbor-CSRF-Token": token}
        async with self._session.post(f"http://{address}/c/oidc/onboard", json={"username": name}, headers=headers) as answer:
            return answer.status


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator[Person]:
    """Give somebody a browser."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Person(session)
