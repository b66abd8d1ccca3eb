"""An OpenID Connect provider for tests, over real HTTP: it signs people in without asking, and can be told to misbehave."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID: Final = "twinhull"
CLIENT_SECRET: Final = "Provider-Secret-1"


class Provider:
    """Who is signed in, and what is said of them; each claim can be said otherwise by a test."""

    def __init__(self) -> None:
        """Make its key."""
        self.issuer = ""
        self.claims: dict[str, Any] = {"sub": "u-1", "name": "Ann Lee", "preferred_username": "ann", "email": "ann@x.io"}
        self.changed: dict[str, Any] = {}
        self.key = RSAKey.generate_key(2048, parameters={"kid": "one"})
        self.signs_with = self.key
        # Sends its keys in two pieces, some time apart, as one does who has many.
        self.in_pieces = False
        # Where it takes the client's secret from, and whether it says so.
        self.secret_in = "header"
        self.tells_where = True
        # Of each code: what its sign-in was begun with.
        self._begun: dict[str, dict[str, str]] = {}

    def application(self) -> web.Application:
        """Return its paths."""
        made = web.Application()
        made.add_routes(
            [
                web.get("/.well-known/openid-configuration", self._configuration),
                web.get("/auth", self._authorize),
                web.post("/token", self._token),
                web.get("/keys", self._keys),
                web.get("/me", self._me),
            ]
        )
        return made

    async def _configuration(self, _request: web.Request) -> web.Response:
        paths = {"authorization_endpoint": "auth", "token_endpoint": "token", "jwks_uri": "keys", "userinfo_endpoint": "me"}
        told = {"issuer": self.issuer, **{name: f"{self.issuer}/{path}" for name, path in paths.items()}}
        where = "client_secret_basic" if self.secret_in == "header" else "client_secret_post"
        return web.json_response({**told, "token_endpoint_auth_methods_supported": [where]} if self.tells_where else told)

    async def _authorize(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        assert (query["client_id"], query["response_type"]) == (CLIENT_ID, "code")
        assert "openid" in query["scope"].split()
        code = secrets.token_hex(8)
        self._begun[code] = query
        raise web.HTTPFound(f"{query['redirect_uri']}?code={code}&state={query['state']}")

    async def _token(self, request: web.Request) -> web.Response:
        sent = await request.post()
        if not self._knows_client(request.headers.get("Authorization", ""), str(sent.get("client_secret", ""))):
            return web.json_response({"error": "invalid_client"}, status=401)
        begun = self._begun.pop(str(sent["code"]), None)
        challenge = hashlib.sha256(str(sent["code_verifier"]).encode()).digest()
        is_good = (
            begun is not None
            and sent["redirect_uri"] == begun["redirect_uri"]
            and begun["code_challenge"] == base64.urlsafe_b64encode(challenge).decode().rstrip("=")
        )
        if begun is None or not is_good:
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "sub": self.claims["sub"], "iat": now, "exp": now + 60}
        claims |= {"nonce": begun["nonce"], **self.changed}
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.signs_with)
        return web.json_response({"id_token": token, "access_token": "a", "token_type": "Bearer"})

    def _knows_client(self, authorization: str, in_form: str) -> bool:
        in_header = "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if self.secret_in == "header":
            return authorization == in_header and not in_form
        return not authorization and in_form == CLIENT_SECRET

    async def _keys(self, request: web.Request) -> web.StreamResponse:
        keys = {"keys": [self.key.as_dict(private=False)]}
        if not self.in_pieces:
            return web.json_response(keys)
        answer = web.StreamResponse()
        await answer.prepare(request)
        text = json.dumps(keys).encode()
        await answer.write(text[:20])
        await asyncio.sleep(0.1)
        await answer.write(text[20:])
        return answer

    async def _me(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer a"
        return web.json_response(self.claims)


@asynccontextmanager
async def running_provider() -> AsyncIterator[Provider]:
    """Start a provider on loopback, and stop it at the end."""
    provider = Provider()
    runner = web.AppRunner(provider.application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.issuer = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield provider
    await runner.cleanup()
