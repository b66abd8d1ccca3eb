"""Sessions of browsers, as Harbor has them: the cookie `sid`, and the token against forged requests that goes with it.

A session is signed by the node that began it, so it holds on every node and across restarts; it names the password that it was
begun with, so it ends with that. The token against forged requests is masked anew in each answer (as gorilla/csrf does, which
Harbor uses), and compared with what the cookie `_gorilla_csrf` says.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Callable
from typing import Final

from twinhull.auth.ended import EndedSessions
from twinhull.auth.sealing import Sealer
from twinhull.auth.service import Guard
from twinhull.auth.subjects import Subject
from twinhull.auth.tokens import TokenIssuer, TokenVerifier, VerifiedToken
from twinhull.kit.errors import Denied, Invalid, TokenInvalid, Unavailable
from twinhull.records.kinds import SESSION_END
from twinhull.web.asgi import EXTRA_HEADERS, SAFE_METHODS, Scope
from twinhull.web.middleware import OriginOf, header_of

AUDIENCE: Final = "harbor-session"
SESSION_COOKIE: Final = "sid"
CSRF_COOKIE: Final = "_gorilla_csrf"
CSRF_HEADER: Final = b"x-harbor-csrf-token"
_CSRF_BYTES: Final = 32
_CSRF_COOKIE_AGE_S: Final = 12 * 3600
_COOKIES_LENGTH_MAX: Final = 32 * 1024
_SECONDS_PER_MINUTE: Final = 60

RandomBytes = Callable[[int], bytes]


def cookies_of(scope: Scope) -> dict[str, str]:
    """Return the request's cookies."""
    text = header_of(scope, b"cookie")
    if not text or len(text) > _COOKIES_LENGTH_MAX:
        return {}
    pairs = (part.strip().partition("=") for part in text.decode("latin-1").split(";"))
    return {name: value.strip('"') for name, equals, value in pairs if equals}


def carries_session(scope: Scope) -> bool:
    """Tell whether the request comes with a session's cookie, good or bad: then it may come from a browser."""
    return SESSION_COOKIE in cookies_of(scope)


class Sessions:
    """Begins, knows and ends sessions, and tells forged requests from true ones."""

    def __init__(
        self,
        *,
        guard: Guard,
        ended: EndedSessions,
        issuer: TokenIssuer,
        verifier: TokenVerifier,
        sealer: Sealer,
        origin_of: OriginOf,
        random_bytes: RandomBytes = os.urandom,
    ) -> None:
        """Take who knows accounts and ended sessions, what signs, verifies and seals, and who knows the address used."""
        self._guard = guard
        self._ended = ended
        self._issuer = issuer
        self._verifier = verifier
        self._sealer = sealer
        self._origin_of = origin_of
        self._random_bytes = random_bytes
        guard.on_keys_changed(verifier.forget)

    # -- sessions --------------------------------------------------------------------------------------------------

    async def begin(self, scope: Scope, subject: Subject) -> None:
        """Let the answer begin a session of this user."""
        minutes = await self._guard.setting("session_timeout")
        ttl_s = _SECONDS_PER_MINUTE * (minutes if isinstance(minutes, int) else 1)
        issued = self._issuer.issue(
            subject=subject.name, credential=subject.credential, audience=AUDIENCE, access=None, ttl_s=ttl_s
        )
        self.set_cookie(scope, SESSION_COOKIE, issued.token)

    async def read(self, scope: Scope) -> Subject | None:
        """Return whose session the request belongs to; None if there is none, or it has ended."""
        known = await self.known(scope)
        if known is None:
            return None
        session, token = known
        await self._guard.catch_up_on((SESSION_END.name, session))
        return None if await self._ended.has(session) else await self._guard.by_token(token)

    async def known(self, scope: Scope) -> tuple[str, VerifiedToken] | None:
        """Return the id of the request's session and what it says, if it is one that has not run out."""
        text = cookies_of(scope).get(SESSION_COOKIE, "")
        if "." not in text:
            return None
        await self._guard.refresh()
        try:
            return session_id(text), self._verifier.verify(text)
        except TokenInvalid:
            return None

    def forget(self, scope: Scope) -> None:
        """Let the answer take the session's cookie from the client."""
        self.set_cookie(scope, SESSION_COOKIE, "", max_age_s=0)

    # -- forged requests -------------------------------------------------------------------------------------------

    def protect(self, scope: Scope) -> None:
        """Hand out a token against forged requests; raise Denied for a change that comes without a good one."""
        secret = self._secret_of(cookies_of(scope).get(CSRF_COOKIE, ""))
        sent = header_of(scope, CSRF_HEADER)
        is_true = secret is not None and _is_masked(sent, secret)
        if secret is None:
            secret = self._random_bytes(_CSRF_BYTES)
            sealed = self._sealer.seal(base64.b64encode(secret).decode())
            self.set_cookie(scope, CSRF_COOKIE, sealed, max_age_s=_CSRF_COOKIE_AGE_S, same_site="Strict")
            if not carries_session(scope):
                # As Harbor does: people who register themselves come with a session that is nobody's.
                self.set_cookie(scope, SESSION_COOKIE, self._random_bytes(16).hex())
        scope[EXTRA_HEADERS].append((CSRF_HEADER, self._masked(secret)))
        if scope["method"] not in SAFE_METHODS and not is_true:
            raise Denied("CSRF token invalid")

    def _secret_of(self, cookie: str) -> bytes | None:
        try:
            return base64.b64decode(self._sealer.unseal(cookie))
        except (Invalid, Unavailable, binascii.Error):
            return None

    def _masked(self, secret: bytes) -> bytes:
        # A token that is the same in each compressed answer could be guessed from the answers' lengths.
        pad = self._random_bytes(_CSRF_BYTES)
        return base64.b64encode(pad + bytes(a ^ b for a, b in zip(pad, secret, strict=True)))

    def set_cookie(self, scope: Scope, name: str, value: str, *, max_age_s: int | None = None, same_site: str = "Lax") -> None:
        """Let the answer set a cookie that scripts can't read; without an age it goes with the browser's window."""
        age = f"; Max-Age={max_age_s}" if max_age_s is not None else ""
        secure = "; Secure" if self._origin_of(scope).startswith("https:") else ""
        cookie = f"{name}={value}; Path=/{age}; HttpOnly; SameSite={same_site}{secure}"
        scope[EXTRA_HEADERS].append((b"set-cookie", cookie.encode("ascii")))


def session_id(text: str) -> str:
    """Return the name by which nodes speak of a session; it is no way into it."""
    return hashlib.sha256(b"session " + text.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _is_masked(sent: bytes, secret: bytes) -> bool:
    try:
        both = base64.b64decode(sent, validate=True)
    except binascii.Error:
        return False
    if len(both) != 2 * _CSRF_BYTES or len(secret) != _CSRF_BYTES:
        return False
    found = bytes(a ^ b for a, b in zip(both[:_CSRF_BYTES], both[_CSRF_BYTES:], strict=True))
    return hmac.compare_digest(found, secret)
