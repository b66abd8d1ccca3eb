"""Harbor's token service, /service/token: who you are, and for which repositories, as a token for the data plane.

Docker's token authentication, as Harbor does it: which actions are asked for does not matter, all that are allowed are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from twinhull.auth.permissions import token_actions
from twinhull.auth.service import Guard
from twinhull.auth.subjects import Subject
from twinhull.auth.tokens import Access as TokenAccess
from twinhull.auth.tokens import TokenIssuer
from twinhull.harbor.requests import answer, nothing, on
from twinhull.kit.clock import rfc3339
from twinhull.kit.errors import Invalid
from twinhull.kit.reference import project_of
from twinhull.web.identity import Identity

SERVICE: Final = "harbor-registry"
SERVICES: Final = (SERVICE, "harbor-notary")
SCOPES_MAX: Final = 100
_TTL_MINUTES: Final = 30


class TokenService:
    """Issues tokens."""

    def __init__(self, *, identity: Identity, guard: Guard, issuer: TokenIssuer) -> None:
        """Take who knows callers and their rights, and what signs."""
        self._identity = identity
        self._guard = guard
        self._issuer = issuer

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [on("/service/token", get=self.token)]

    async def token(self, request: Request) -> Response:
        """Return a token. Wrong credentials get an anonymous one where a scope is named, else a 401, as in Harbor."""
        service = request.query_params.get("service", "")
        if service not in SERVICES:
            return PlainTextResponse(f"Unable to handle service: {service[:200]}", status_code=400)
        scopes = [scope for text in request.query_params.getlist("scope") for scope in text.split(" ") if scope]
        if len(scopes) > SCOPES_MAX:
            raise Invalid(f"at most {SCOPES_MAX} scopes go into one token")
        caller = await self._identity.who(request.scope)
        # Nobody gets a token for a token: what it is good for must end when it does.
        subject = caller.subject if caller.token is None else None
        if subject is None and not scopes:
            return nothing(401)
        access = [await self._granted(subject, scope) for scope in scopes]
        minutes = await self._guard.setting("token_expiration")
        issued = self._issuer.issue(
            subject=subject.name if subject is not None else "",
            credential=subject.credential if subject is not None else "",
            audience=service,
            access=access or None,
            ttl_s=60 * (minutes if isinstance(minutes, int) and minutes > 0 else _TTL_MINUTES),
        )
        shown = {
            "token": issued.token,
            "access_token": "",
            "expires_in": issued.expires_in_s,
            "issued_at": rfc3339(issued.issued_at_s * 1000),
        }
        return answer(shown, headers={"Cache-Control": "no-store"})

    async def _granted(self, subject: Subject | None, scope: str) -> TokenAccess:
        # Repository names may hold a port of a host in front, so a scope is split at its ends: type:name:actions.
        kind, _, rest = scope.partition(":")
        name, _, _ = rest.rpartition(":") if ":" in rest else (rest, "", "")
        actions: list[str] = []
        if kind == "repository" and "/" in name:
            project = project_of(name)
            actions = token_actions((await self._guard.allowance(subject, project)).actions)
        elif kind == "registry" and name == "catalog" and subject is not None:
            # Harbor shows the catalog to administrators alone; here everybody sees what is theirs.
            actions = ["*"]
        return TokenAccess(type=kind, name=name, actions=actions)
