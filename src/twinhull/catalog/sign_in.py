"""People who are vouched for by a directory or a provider: made known here when they first sign in, and kept up with it.

What they may do is looked up in what is written here, as for everybody: their groups are written down at each sign-in.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final, TypeVar

from twinhull.auth.directory import Connect, Directory, LdapGroup, LdapSettings, LdapUser
from twinhull.auth.sealing import Sealer
from twinhull.auth.service import Guard
from twinhull.catalog.accounts import ADMIN, changed_only, delete_memberships, name_problem, written
from twinhull.catalog.peers import Durability
from twinhull.catalog.user_groups import LDAP, NAME_LENGTH_MAX, OIDC, create_group
from twinhull.config.values import Secret
from twinhull.kit.errors import Conflict, Invalid
from twinhull.metadata import accounts as queries
from twinhull.metadata.groups import find_group, find_group_by_dn
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import USER
from twinhull.records.merge import Value

LDAP_MODE: Final = "ldap_auth"
OIDC_MODE: Final = "oidc_auth"
FROM_LDAP: Final = "ldap"
FROM_OIDC: Final = "oidc"
# Stored where others have the hash of a password: no password is ever right for it, and each account has its own, so that
# sessions and tokens end with the account.
_MARK: Final = "external$"
_MARK_BYTES: Final = 16

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """Somebody as what vouches for them tells of them."""

    name: str
    source: str
    external_id: str
    email: str
    realname: str
    # Names, or for a directory's groups name and DN.
    groups: Sequence[LdapGroup]
    is_admin: bool
    # For somebody new: what is stored of their secret for command-line clients, as a hash and sealed; empty where they have
    # none.
    password_hash: str = field(default="", repr=False)
    cli_secret: str = field(default="", repr=False)


def onboard(transaction: Transaction, vouched: Vouched) -> None:
    """Write down somebody who is vouched for, new or known.

    Raises Invalid for a name that nobody can have, Conflict for one that is somebody else's.
    """
    problem = name_problem(vouched.name) or ("the built-in administrator's" if vouched.name == ADMIN else None)
    if problem is not None:
        raise Invalid(f"{vouched.source} user {vouched.name[:64]!r} can't sign in: {problem}")
    known = queries.find_user(transaction.connection, vouched.name)
    if known is not None and (known.source, known.external_id.lower()) != (vouched.source, vouched.external_id.lower()):
        raise Conflict(f"the name {vouched.name} is another user's")
    group_type = LDAP if vouched.source == FROM_LDAP else OIDC
    groups = sorted({_group(transaction, group, group_type) for group in vouched.groups})
    fields: dict[str, Value] = {"groups": groups, "admin_in_auth": vouched.is_admin}
    # An address that somebody else has already is left out: it only shows who that is.
    holder = queries.find_user_by_email(transaction.connection, vouched.email) if vouched.email else None
    if holder is None or holder.name == vouched.name:
        fields["email"] = vouched.email
    if known is None:
        _create(transaction, vouched, fields)
        return
    before: dict[str, Value] = {"groups": list(known.groups), "admin_in_auth": known.admin_in_auth, "email": known.email}
    changed = changed_only(before, fields)
    if changed:
        transaction.put(USER, known.name, {**changed, "updated_ms": transaction.now_ms()})


def _create(transaction: Transaction, vouched: Vouched, fields: dict[str, Value]) -> None:
    delete_memberships(transaction, vouched.name)
    now_ms = transaction.now_ms()
    complete: dict[str, Value] = {
        "email": "",
        "realname": vouched.realname[:NAME_LENGTH_MAX],
        "comment": "",
        "cli_secret": vouched.cli_secret,
        "password_hash": vouched.password_hash or _MARK + secrets.token_hex(_MARK_BYTES),
        "sysadmin": False,
        "disabled": False,
        "source": vouched.source,
        "external_id": vouched.external_id,
        "created_ms": now_ms,
        "updated_ms": now_ms,
        **fields,
    }
    transaction.create(USER, vouched.name, complete, number=transaction.next_id(USER))


def _group(transaction: Transaction, group: LdapGroup, group_type: int) -> str:
    """Return the name of the user group that stands for this one, made if need be."""
    connection = transaction.connection
    found = find_group_by_dn(connection, group.dn) if group_type == LDAP else find_group(connection, group.name)
    if found is not None:
        return found.name
    # Two entries of a directory may have the same name.
    name = group.name if find_group(connection, group.name) is None else group.dn[:NAME_LENGTH_MAX]
    create_group(transaction, name, group_type, group.dn)
    return name.strip()


class SignIn:
    """Asks what vouches for people, and writes down what it says."""

    def __init__(
        self,
        *,
        store: Store,
        executor: Executor,
        connect: Connect,
        directory_threads: Executor,
        guard: Guard,
        sealer: Sealer,
        durability: Durability,
    ) -> None:
        """Take the metadata and threads to write in, what connects to a directory and threads to wait for it in.

        And who knows the settings, what unseals, and what waits for other nodes.
        """
        self._durability = durability
        self._connect = connect
        self._store = store
        self._executor = executor
        self._directory_threads = directory_threads
        self._guard = guard
        self._sealer = sealer

    async def is_by_directory(self) -> bool:
        """Tell whether people sign in with the password that a directory knows."""
        return await self._guard.setting("auth_mode") == LDAP_MODE

    async def by_directory(self, name: str, password: str) -> str | None:
        """Return the name here of the one with that name and password in the directory; raises Unavailable or Invalid."""
        directory = await self.directory()
        user = await self.ask(lambda: directory.sign_in(name, password))
        return await self.keep(user) if user is not None else None

    async def keep(self, user: LdapUser) -> str:
        """Write down somebody of the directory, and return their name; raises what onboard raises."""
        return await self.write(
            Vouched(
                name=user.name,
                source=FROM_LDAP,
                external_id=user.dn,
                email=user.email,
                realname=user.realname,
                groups=user.groups,
                is_admin=user.is_admin,
            )
        )

    async def write(self, vouched: Vouched) -> str:
        """Write down somebody who is vouched for, and return their name; raises what onboard raises.

        Other nodes have it by then: whoever is let in, or is an administrator no more, is so everywhere.
        """

        def change(transaction: Transaction) -> int:
            onboard(transaction, vouched)
            return 0

        await self._settled(change)
        return vouched.name

    async def _settled(self, change: Callable[[Transaction], int]) -> None:
        made = await asyncio.get_running_loop().run_in_executor(self._executor, written, self._store, change)
        if made.seq:
            await self._durability.reached(made.seq)

    async def expect_user(self, name: str) -> None:
        """Make somebody of the directory known here, if there is one of that name who is not."""
        if not name or name == ADMIN or not await self.is_by_directory() or await self._guard.subject(name) is not None:
            return
        directory = await self.directory()
        user = await self.ask(lambda: directory.user(name))
        if user is not None:
            await self.keep(user)

    async def expect_group(self, dn: str) -> None:
        """Make a group of the directory known here, if there is one with that DN that is not."""
        if not dn or not await self.is_by_directory():
            return
        directory = await self.directory()
        for group in await self.ask(lambda: directory.groups(dn=dn)):

            def change(transaction: Transaction, group: LdapGroup = group) -> int:
                _group(transaction, group, LDAP)
                return 0

            await self._settled(change)

    async def has_group(self, dn: str) -> bool:
        """Tell whether the directory has that group; True as long as there is no directory to say no."""
        if not await self.is_by_directory():
            return True
        directory = await self.directory()
        return bool(await self.ask(lambda: directory.groups(dn=dn)))

    async def settings(self) -> LdapSettings:
        """Return how the directory is reached, as the cluster's settings have it."""
        setting = self._guard.setting
        sealed = str(await setting("ldap_search_password") or "")
        return LdapSettings(
            url=str(await setting("ldap_url")),
            base_dn=str(await setting("ldap_base_dn")),
            search_dn=str(await setting("ldap_search_dn")),
            search_password=Secret(self._sealer.unseal(sealed) if sealed else ""),
            filter=str(await setting("ldap_filter")),
            uid=str(await setting("ldap_uid")),
            scope=int(str(await setting("ldap_scope"))),
            timeout_s=int(str(await setting("ldap_timeout"))),
            verify_cert=bool(await setting("ldap_verify_cert")),
            group_base_dn=str(await setting("ldap_group_base_dn")),
            group_filter=str(await setting("ldap_group_search_filter")),
            group_attribute_name=str(await setting("ldap_group_attribute_name")),
            group_scope=int(str(await setting("ldap_group_search_scope"))),
            group_admin_dn=str(await setting("ldap_group_admin_dn")),
            membership_attribute=str(await setting("ldap_group_membership_attribute") or "memberof"),
        )

    async def directory(self, settings: LdapSettings | None = None) -> Directory:
        """Return the directory of these settings, or of the cluster's; raises Invalid for settings that can't be right."""
        settings = settings or await self.settings()
        if not settings.url or not settings.base_dn:
            raise Invalid("the directory is not set up", hint="set ldap_url and ldap_base_dn")
        return await self.ask(lambda: self._connect(settings))

    async def ask(self, question: Callable[[], _Result]) -> _Result:
        """Return what a directory says, asked in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._directory_threads, question)
