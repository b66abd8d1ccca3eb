"""Where browsers sign in and out, as Harbor has it: /c/login, /c/log_out, /c/userExists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.auth.service import Guard
from twinhull.catalog.accounts import ADMIN
from twinhull.catalog.logouts import EndedSessions
from twinhull.catalog.sign_in import OIDC_MODE
from twinhull.harbor.access import Access, path_not_found
from twinhull.harbor.errors import PreconditionFailed
from twinhull.harbor.requests import answer, nothing, on, read_bytes
from twinhull.kit.errors import Invalid
from twinhull.metadata import accounts
from twinhull.web.browsers import Sessions
from twinhull.web.middleware import Forwarding

_FIELDS_MAX: Final = 20


class SessionsApi:
    """Handlers for sessions."""

    def __init__(
        self, *, access: Access, guard: Guard, sessions: Sessions, ended: EndedSessions, forwarding: Forwarding
    ) -> None:
        """Take what every handler needs, who checks passwords, what makes sessions, and what keeps their ends."""
        self._access = access
        self._guard = guard
        self._sessions = sessions
        self._ended = ended
        self._forwarding = forwarding

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on("/c/login", get=self.no_page, post=self.login),
            on("/c/log_out", get=self.log_out),
            on("/c/userExists", post=self.user_exists),
        ]

    async def no_page(self, request: Request) -> Response:
        """Answer 404 as Harbor does: the portal comes here for its first token against forged requests."""
        raise path_not_found(request)

    async def login(self, request: Request) -> Response:
        """Begin a session of the user with that name and password, or answer 401 without a word."""
        form = await _form(request)
        name, password = form.get("principal", ""), form.get("password", "")
        subject = await self._guard.by_password(name, password, address=self._forwarding.client_of(request.scope))
        # The secret for command-line clients is no way into a session.
        if subject is None or subject.is_robot or (name != ADMIN and await self._guard.setting("auth_mode") == OIDC_MODE):
            return nothing(401)
        await self._sessions.begin(request.scope, subject)
        return nothing()

    async def log_out(self, request: Request) -> Response:
        """End the request's session, on every node."""
        self._sessions.forget(request.scope)
        known = await self._sessions.known(request.scope)
        if known is None:
            return nothing()
        session, token = known
        ended = await self._ended.end(session, expires_ms=token.expires_at_s * 1000)
        return nothing(headers=await self._access.settled(request, ended.seq))

    async def user_exists(self, request: Request) -> Response:
        """Tell whether a name or address is taken; to everybody while people may register themselves."""
        caller = await self._access.caller(request)
        if not caller.is_admin and not await self._guard.setting("self_registration"):
            raise PreconditionFailed("self registration deny in current auth mode and self registration setting")
        form = await _form(request)
        target, value = form.get("target", ""), form.get("value", "")
        if target not in ("username", "email"):
            raise Invalid("invalid target")
        find = accounts.find_user if target == "username" else accounts.find_user_by_email
        found = await self._access.read(lambda connection: find(connection, value))
        return answer(found is not None and bool(value))


async def _form(request: Request) -> dict[str, str]:
    content = await read_bytes(request)
    try:
        fields = parse_qs(content.decode(), max_num_fields=_FIELDS_MAX, keep_blank_values=True)
    except ValueError as error:
        raise Invalid("the form can not be read") from error
    return {name: values[0] for name, values in fields.items()}
