"""Who sends a request and whether they may do it: from the Authorization header to a caller, for every face."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final, Literal

from twinhull.auth.acting import acts
from twinhull.auth.permissions import DELETE, PULL, PUSH, Allowance, Grant, allow_user
from twinhull.auth.service import Guard
from twinhull.auth.subjects import Subject
from twinhull.auth.tokens import TokenVerifier, VerifiedToken
from twinhull.kit.errors import TokenInvalid, Unauthenticated
from twinhull.kit.reference import project_of
from twinhull.web.asgi import USER, Scope
from twinhull.web.browsers import Sessions
from twinhull.web.middleware import Forwarding, header_of

# What the data plane asks for: an action on a repository; "login" and "catalog" have none.
Action = Literal["pull", "push", "delete", "catalog", "login"]
ON_REPOSITORY: Final = frozenset({PULL, PUSH, DELETE})

_AUTHORIZATION: Final = b"authorization"
# A name and a password of the lengths that are taken, in base64.
_BASIC_LENGTH_MAX: Final = 16 * 1024
# As robots have it in their lists.
_CATALOG: Final = Grant("catalog", "read")
_ANYBODY: Final = allow_user(is_admin=False, role=None, is_public=True)
_NOBODY: Final = allow_user(is_admin=False, role=None, is_public=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Caller:
    """Who sends a request."""

    # None for anonymous.
    subject: Subject | None
    # What the request's bearer token is good for; None for a password, which is good for all that its owner may do.
    token: VerifiedToken | None = None
    # Credentials were sent, but they are nobody's. As in Harbor the request goes on as anybody's.
    refused: bool = False

    @property
    def name(self) -> str:
        """The user's name, or the robot's with its prefix; "anonymous" for nobody in particular."""
        return self.subject.name if self.subject is not None else "anonymous"

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody in particular asks."""
        return self.subject is None

    @property
    def is_admin(self) -> bool:
        """Whether this is a system administrator by password; a token is good for repositories only."""
        return self.subject is not None and self.subject.is_admin and self.token is None

    def may_in_system(self, resource: str, action: str) -> bool:
        """Tell whether this is a robot, by its secret, that was given this in the system as a whole."""
        return self.subject is not None and self.token is None and (resource, action) in self.subject.system_grants


ANONYMOUS: Final = Caller(subject=None)
_REFUSED: Final = Caller(subject=None, refused=True)


class Identity:
    """Identifies callers. What they may do is looked up for each request; no answer of this outlives it."""

    def __init__(self, *, guard: Guard, verifier: TokenVerifier, forwarding: Forwarding, sessions: Sessions) -> None:
        """Take who knows the accounts, tokens and browsers' sessions, and who knows where a request comes from."""
        self._guard = guard
        self._verifier = verifier
        self._forwarding = forwarding
        self._sessions = sessions
        guard.on_keys_changed(verifier.forget)

    async def who(self, scope: Scope) -> Caller:
        """Return who sends this request, or raise TokenInvalid or LoginSlowedDown.

        Wrong passwords do not fail by themselves: the request goes on as anonymous, as in Harbor.
        """
        header = header_of(scope, _AUTHORIZATION)
        caller = await self._by_header(scope, header) if header else ANONYMOUS
        if caller.subject is None and caller.token is None:
            subject = await self._sessions.read(scope)
            caller = Caller(subject=subject) if subject is not None else caller
        if caller.subject is None:
            await self._guard.refresh()
        else:
            scope[USER] = caller.subject.name
        acts(caller.name)
        return caller

    async def _by_header(self, scope: Scope, header: bytes) -> Caller:
        scheme, _, credentials = header.partition(b" ")
        kind = scheme.lower()
        if kind == b"bearer":
            return await self._by_token(credentials.decode("latin-1"))
        return await self._by_password(scope, credentials) if kind == b"basic" else _REFUSED

    async def identify(self, scope: Scope, action: Action, repository: str = "") -> Caller:
        """Return who sends this request if they may do that, or raise Unauthenticated (TokenInvalid) or LoginSlowedDown.

        Missing rights are a 401 on the data plane, never a 403: clients answer it by fetching a token with the right scope.
        """
        caller = await self.who(scope)
        if await self.may(caller, action, repository):
            return caller
        if action not in ON_REPOSITORY:
            raise Unauthenticated("unauthorized to list catalog" if action == "catalog" else None)
        detail = [{"Type": "repository", "Name": repository, "Action": action}]
        raise Unauthenticated(f"unauthorized to access repository: {repository}, action: {action}", detail=detail)

    async def may(self, caller: Caller, action: Action, repository: str = "") -> bool:
        """Tell whether a caller may do that: what the token is for and what its owner may do now, both."""
        token = caller.token
        if action not in ON_REPOSITORY:
            return caller.subject is not None and (action == "login" or _may_list_catalog(caller.subject, token))
        if token is not None and action not in token.repositories.get(repository, ()):
            return False
        project = project_of(repository)
        allowance = self._guard.known_allowance(caller.subject, project)
        if allowance is None:
            allowance = await self._guard.allowance(caller.subject, project)
        return action in allowance.actions

    async def visible_projects(self, caller: Caller) -> frozenset[str] | None:
        """Return the names of the projects whose repositories a caller may list; None for all of them."""
        if caller.subject is not None and _CATALOG in caller.subject.system_grants:
            return None
        return await self._guard.visible_projects(caller.subject)

    async def rights(self, caller: Caller, project: str) -> Allowance:
        """Return what a caller may do in a project through the management API.

        A registry token is good for the repositories it names and nothing else: whoever is handed one for a pull must not
        manage anything with it. So it opens here what is open to anybody.
        """
        if caller.token is not None:
            return _ANYBODY if (await self._guard.allowance(None, project)).grants else _NOBODY
        return await self._guard.allowance(caller.subject, project)

    async def _by_token(self, text: str) -> Caller:
        # Keys and accounts may have changed since this token was last seen.
        await self._guard.refresh()
        token = self._verifier.verify(text)
        if not token.subject:
            return Caller(subject=None, token=token)
        subject = self._guard.known_subject(token.subject) or await self._guard.subject(token.subject)
        if subject is None or subject.credential != token.credential:
            raise TokenInvalid("the account that this token was issued to is gone, disabled, or has another password")
        return Caller(subject=subject, token=token)

    async def _by_password(self, scope: Scope, credentials: bytes) -> Caller:
        pair = _decode_basic(credentials)
        if pair is None:
            return _REFUSED
        subject = await self._guard.by_password(*pair, address=self._forwarding.client_of(scope))
        return Caller(subject=subject) if subject is not None else _REFUSED


def _may_list_catalog(subject: Subject, token: VerifiedToken | None) -> bool:
    # A robot does what its list says and nothing else. Users see of the catalog what they see everywhere.
    return (token is None or token.catalog) and (not subject.is_robot or _CATALOG in subject.system_grants)


def _decode_basic(credentials: bytes) -> tuple[str, str] | None:
    if len(credentials) > _BASIC_LENGTH_MAX:
        return None
    try:
        # RFC 7617: the charset is not said; all clients that matter send UTF-8.
        name, colon, password = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, password) if colon and name else None
