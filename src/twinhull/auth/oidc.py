"""An OpenID Connect provider: where people sign in, and what its signed word for them says.

OpenID Connect Core 1.0, the authorization code flow with PKCE (RFC 7636). Knows nothing of what is stored here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

import aiohttp
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, KeySetSerialization

from twinhull.config.values import Secret
from twinhull.kit.clock import Clock
from twinhull.kit.errors import Invalid, Unauthenticated, Unavailable

TIMEOUT_S: Final = 10
ANSWER_BYTES_MAX: Final = 1024 * 1024
GROUPS_MAX: Final = 500
# What providers sign with; "none", and what anybody can sign who knows the client's secret, is not among it.
_ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA"]
_CLOCKS_APART_S: Final = 120
_BY_HEADER: Final = "client_secret_basic"
_BY_FORM: Final = "client_secret_post"
_DISCOVERY: Final = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """How the provider is reached, and which of its claims say what."""

    endpoint: str
    client_id: str
    client_secret: Secret
    scope: str = "openid"
    user_claim: str = ""
    groups_claim: str = ""
    admin_group: str = ""
    group_filter: str = ""
    verify_cert: bool = True
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody as the provider tells of them."""

    # Their name there and the provider's own, which never changes.
    subiss: str
    # Empty when no claim says it.
    name: str
    email: str
    realname: str
    groups: tuple[str, ...]
    is_admin: bool


class _ClientRefused(Unauthenticated):
    """The provider does not take the client's name and secret."""


class OidcProvider:
    """Speaks to one provider. Every method raises Unavailable when it does not answer, or not as a provider does."""

    def __init__(self, settings: OidcSettings, clock: Clock) -> None:
        """Take how it is reached, and the time by which its word is judged."""
        self._settings = settings
        self._clock = clock

    async def ping(self) -> None:
        """Return if the provider tells of itself at that address."""
        async with self._client() as client:
            await self._discovered(client)

    async def address(self, *, state: str, nonce: str, verifier: str, redirect_uri: str) -> str:
        """Return where the browser is sent to sign in."""
        async with self._client() as client:
            found = await self._discovered(client)
        scopes = dict.fromkeys(["openid", *re.split(r"[\s,]+", self._settings.scope.strip())])
        query = {
            **self._settings.extra,
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(scope for scope in scopes if scope),
            "state": state,
            "nonce": nonce,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        endpoint = str(found["authorization_endpoint"])
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(query)}"

    async def person(self, *, code: str, nonce: str, verifier: str, redirect_uri: str) -> Person:
        """Return who came back with that code; raises Unauthenticated when the provider's word for them is not good."""
        async with self._client() as client:
            found = await self._discovered(client)
            sent = {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": redirect_uri,
                "client_id": self._settings.client_id,
                "code_verifier": verifier,
            }
            answer = await self._token(client, found, sent)
            keys = await self._json(client, "GET", str(found["jwks_uri"]))
            claims = self._verified(str(answer.get("id_token", "")), keys, str(found["issuer"]), nonce)
            if found.get("userinfo_endpoint") and answer.get("access_token"):
                headers = {"Authorization": f"Bearer {answer['access_token']}"}
                more = await self._json(client, "GET", str(found["userinfo_endpoint"]), headers=headers)
                # OpenID Connect Core 5.3.2: what is said of another subject must not be used.
                claims = {**more, **claims} if more.get("sub") == claims.get("sub") else claims
        return self._person(claims)

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _token(
        self, client: aiohttp.ClientSession, found: Mapping[str, Any], sent: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Return what the code is good for; says who asks as the provider wants it, which is set there for each client."""
        address, secret = str(found["token_endpoint"]), self._settings.client_secret.reveal()
        # OpenID Connect Core 1.0, section 9: the first is what holds where nothing is said.
        offered = found.get("token_endpoint_auth_methods_supported")
        if not isinstance(offered, list) or _BY_HEADER in offered or _BY_FORM not in offered:
            # RFC 6749, section 2.3.1: both are escaped as in a form first.
            words = f"{quote_plus(self._settings.client_id)}:{quote_plus(secret)}"
            headers = {"Authorization": "Basic " + base64.b64encode(words.encode()).decode()}
            try:
                return await self._json(client, "POST", address, data=sent, headers=headers)
            except _ClientRefused:
                # A provider looks at the client before it looks at the code, which is still good.
                pass
        return await self._json(client, "POST", address, data={**sent, "client_secret": secret})

    def _client(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self._settings.verify_cert)
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))

    async def _discovered(self, client: aiohttp.ClientSession) -> Mapping[str, Any]:
        endpoint = self._settings.endpoint.strip().rstrip("/")
        if urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).netloc:
            raise Invalid("the provider's endpoint is no address", hint="set oidc_endpoint to the provider's issuer URL")
        found = await self._json(client, "GET", endpoint + _DISCOVERY)
        needed = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
        if any(not isinstance(found.get(name), str) for name in needed) or str(found["issuer"]).rstrip("/") != endpoint:
            raise Unavailable(
                f"{endpoint} is no OpenID Connect provider of that name", hint="set oidc_endpoint to its issuer URL"
            )
        return found

    async def _json(
        self,
        client: aiohttp.ClientSession,
        method: str,
        url: str,
        *,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        try:
            redirected = method == "GET"
            async with client.request(method, url, allow_redirects=redirected, data=data, headers=headers) as answer:
                content = bytearray()
                async for piece in answer.content.iter_any():
                    content += piece
                    if len(content) > ANSWER_BYTES_MAX:
                        raise Unavailable(f"the provider's answer at {urlsplit(url).path[:200]} is too long")
                if method == "POST" and 400 <= answer.status < 500:
                    if answer.status == 401 or b"invalid_client" in content:
                        raise _ClientRefused("the provider does not take oidc_client_id and oidc_client_secret")
                    raise Unauthenticated("the provider does not know this sign-in")
                if answer.status != 200:
                    raise Unavailable(f"the provider answers {answer.status} at {urlsplit(url).path[:200]}")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(
                "the OpenID Connect provider does not answer", hint="check oidc_endpoint and oidc_verify_cert"
            ) from error
        return _object(content)

    def _verified(self, token: str, keys: Mapping[str, Any], issuer: str, nonce: str) -> Mapping[str, Any]:
        try:
            known = KeySet.import_key_set(KeySetSerialization(keys=keys["keys"]))
            decoded = jwt.decode(token, known, algorithms=_ALGORITHMS)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise Unauthenticated("the provider's word is not signed as it should be") from error
        claims = decoded.claims
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        now_s = self._clock.unix_ms() / 1000
        expires = claims.get("exp")
        is_good = (
            claims.get("iss") == issuer
            and self._settings.client_id in audiences
            and (len(audiences) == 1 or claims.get("azp") == self._settings.client_id)
            and claims.get("nonce") == nonce
            and isinstance(expires, int | float)
            and expires > now_s - _CLOCKS_APART_S
            and bool(claims.get("sub"))
        )
        if not is_good:
            raise Unauthenticated("the provider's word is for another sign-in, or has run out")
        return claims

    def _person(self, claims: Mapping[str, Any]) -> Person:
        settings = self._settings
        listed = claims.get(settings.groups_claim) if settings.groups_claim else None
        groups = [str(one) for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
        kept = [group for group in groups if not settings.group_filter or re.search(settings.group_filter, group)]
        name = claims.get(settings.user_claim or "name") or ("" if settings.user_claim else claims.get("preferred_username"))
        return Person(
            subiss=f"{claims['sub']}{claims['iss']}",
            name=str(name or "").strip().replace(" ", "_"),
            email=str(claims.get("email") or ""),
            realname=str(claims.get("name") or name or claims["sub"]),
            groups=tuple(kept[:GROUPS_MAX]),
            is_admin=bool(settings.admin_group) and settings.admin_group in groups,
        )


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _object(content: bytes | bytearray) -> Mapping[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unavailable("the OpenID Connect provider answers with something else than JSON") from error
    if not isinstance(found, dict):
        raise Unavailable("the OpenID Connect provider answers with something else than an object")
    return found
