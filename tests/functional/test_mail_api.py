"""Trying out a mail server, and Harbor's own internal paths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.accounts import PASSWORD, AccountsNode, make_user, site

__all__ = ["site"]


class Mailbox:
    """A mail server that knows one name and password."""

    def __init__(self) -> None:
        """Begin with nobody having logged in."""
        self.port = 0
        self.logins: list[bytes] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say what a server says that takes logins and nothing else."""
        writer.write(b"220 mail.example ready\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"AUTH":
                self.logins.append(line)
                # "\0user\0right" in base64.
                is_right = b"AHVzZXIAcmlnaHQ=" in line
                writer.write(b"235 ok\r\n" if is_right else b"535 no\r\n")
            elif verb == b"EHLO":
                writer.write(b"250-mail.example\r\n250 AUTH PLAIN\r\n")
            else:
                writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
        writer.close()


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    """A mail server on a free port."""
    box = Mailbox()
    server = await asyncio.start_server(box.talk, "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    yield box
    server.close()


class TestMail:
    async def test_server_that_takes_the_login_is_fine_and_others_are_not(self, site: AccountsNode, mailbox: Mailbox) -> None:
        here = {"email_host": "127.0.0.1", "email_port": mailbox.port}
        await site.admin.ok(200, "POST", "/email/ping", here)
        await site.admin.ok(200, "POST", "/email/ping", {**here, "email_username": "user", "email_password": "right"})
        bad: list[dict[str, Any]] = [
            {**here, "email_username": "user", "email_password": "wrong"},
            {**here, "email_ssl": True},
            {"email_host": "127.0.0.1", "email_port": 1},
            {"email_host": "127.0.0.1", "email_port": 0},
            {"email_host": ""},
        ]
        for body in bad:
            assert (await site.admin("POST", "/email/ping", body)).status == 400

    async def test_password_that_is_set_goes_to_its_own_server_only(self, site: AccountsNode, mailbox: Mailbox) -> None:
        settings = {"email_host": "127.0.0.1", "email_port": mailbox.port, "email_username": "user", "email_password": "right"}
        await site.admin.ok(200, "PUT", "/configurations", settings)
        await site.admin.ok(200, "POST", "/email/ping", {})
        assert len(mailbox.logins) == 1
        assert (await site.admin("POST", "/email/ping", {"email_host": "localhost"})).status == 400
        assert not any(b"AHVzZXIAcmlnaHQ=" in line for line in mailbox.logins[1:])

    async def test_administrators_alone_try_out_mail_servers(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        assert (await site.user("alice", PASSWORD)("POST", "/email/ping", {})).status == 403
        assert (await site.anonymous("POST", "/email/ping", {})).status == 401


class TestInternal:
    async def test_quotas_are_switched_by_administrators(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        for enabled in (False, True):
            await site.admin.ok(200, "PUT", "/api/internal/switchquota", {"enabled": enabled})
            shown = await site.admin.ok(200, "GET", "/configurations")
            assert shown["quota_per_project_enable"]["value"] is enabled
        await site.admin.ok(200, "POST", "/api/internal/syncquota")
        assert (await alice("PUT", "/api/internal/switchquota", {"enabled": False})).status == 403
        assert (await alice("POST", "/api/internal/syncquota")).status == 403
        assert (await site.admin("GET", "/api/internal/configurations")).status == 401
