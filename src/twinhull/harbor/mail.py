"""Trying out a mail server at Harbor's path: /email/ping. Harbor 2.2 could be set to send mail; this release sends none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.auth.sealing import Sealer
from twinhull.catalog.foreign import Foreign, MailServer
from twinhull.harbor.access import Access
from twinhull.harbor.requests import nothing, on_older, read_body
from twinhull.kit.errors import Invalid
from twinhull.metadata.accounts import Snapshot, list_settings

_PORT_MAX: Final = 65_535
_PORT: Final = 25


class _MailBody(msgspec.Struct):
    email_host: str | None = None
    email_port: int | None = None
    email_username: str | None = None
    email_password: str | None = None
    email_ssl: bool | None = None
    email_identity: str | None = None


class MailApi:
    """The handler of the ping."""

    def __init__(self, *, access: Access, sealer: Sealer, foreign: Foreign) -> None:
        """Take what every handler needs, what unseals the password that is set, and what asks mail servers."""
        self._access = access
        self._sealer = sealer
        self._foreign = foreign

    def routes(self) -> Sequence[BaseRoute]:
        """Return the route."""
        return [on_older("/email/ping", post=self.ping)]

    async def ping(self, request: Request) -> Response:
        """Log in to the mail server that is described, or where something is left out, that is set."""
        await self._access.admin(request, legacy=True)
        body = await read_body(request, _MailBody, legacy=True)
        stored = await self._access.read(self._stored)
        port = stored.port if body.email_port is None else body.email_port
        if not 1 <= port <= _PORT_MAX:
            raise Invalid("invalid email_port")
        host = stored.host if body.email_host is None else body.email_host
        # The password that is set goes to the server that it is for, and nowhere else.
        kept = stored.password if host == stored.host else ""
        server = MailServer(
            host=host,
            port=port,
            username=stored.username if body.email_username is None else body.email_username,
            password=kept if body.email_password is None else body.email_password,
            tls=stored.tls if body.email_ssl is None else body.email_ssl,
        )
        if not server.host:
            raise Invalid("empty email server host")
        if not await self._foreign.mail_answers(server):
            raise Invalid("failed to ping email server")
        return nothing()

    def _stored(self, connection: Snapshot) -> MailServer:
        settings = list_settings(connection)
        sealed = settings.get("email_password")
        port = settings.get("email_port")
        return MailServer(
            host=str(settings.get("email_host") or ""),
            port=port if isinstance(port, int) else _PORT,
            username=str(settings.get("email_username") or ""),
            password=self._sealer.unseal(sealed) if isinstance(sealed, str) and sealed else "",
            tls=bool(settings.get("email_ssl")),
        )
