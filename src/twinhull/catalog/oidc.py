"""People whom an OpenID Connect provider vouches for: known here by the name that the provider never changes."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from twinhull.auth.directory import LdapGroup
from twinhull.auth.oidc import OidcProvider, OidcSettings, Person
from twinhull.auth.passwords import PasswordChecker, hash_secret, new_secret, require_strong
from twinhull.auth.sealing import Sealer
from twinhull.auth.service import Guard
from twinhull.catalog.accounts import Written, written
from twinhull.catalog.sign_in import FROM_OIDC, OIDC_MODE, SignIn, Vouched
from twinhull.config.values import Secret
from twinhull.kit.clock import Clock
from twinhull.kit.errors import Conflict, Invalid, UserUnknown
from twinhull.metadata.accounts import User, find_user_by_id
from twinhull.metadata.groups import find_user_by_external_id
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import USER


class NoProviderUser(Conflict):
    """Somebody whom no provider vouches for has no secret of this kind."""


class OidcSignIn:
    """Makes and finds the users that the provider's people are, and keeps their secrets for command-line clients."""

    def __init__(
        self,
        *,
        store: Store,
        executor: Executor,
        guard: Guard,
        sealer: Sealer,
        passwords: PasswordChecker,
        sign_in: SignIn,
        clock: Clock,
    ) -> None:
        """Take the metadata and threads to write in, who knows settings, what seals and hashes, and what writes people down."""
        self._store = store
        self._executor = executor
        self._guard = guard
        self._sealer = sealer
        self._passwords = passwords
        self._sign_in = sign_in
        self._clock = clock

    async def mode(self) -> str:
        """Return how people sign in."""
        return str(await self._guard.setting("auth_mode"))

    async def is_on(self) -> bool:
        """Tell whether people sign in at the provider."""
        return await self.mode() == OIDC_MODE

    async def provider(self, *, endpoint: str | None = None, verify_cert: bool | None = None) -> OidcProvider:
        """Return the provider as the settings have it, or another one to be tried."""
        setting = self._guard.setting
        sealed = str(await setting("oidc_client_secret") or "")
        extra = await setting("oidc_extra_redirect_parms")
        settings = OidcSettings(
            endpoint=str(await setting("oidc_endpoint")) if endpoint is None else endpoint,
            client_id=str(await setting("oidc_client_id")),
            # What is only tried is not told the secret.
            client_secret=Secret(self._sealer.unseal(sealed) if sealed and endpoint is None else ""),
            scope=str(await setting("oidc_scope")),
            user_claim=str(await setting("oidc_user_claim")),
            groups_claim=str(await setting("oidc_groups_claim")),
            admin_group=str(await setting("oidc_admin_group")),
            group_filter=str(await setting("oidc_group_filter")),
            verify_cert=bool(await setting("oidc_verify_cert")) if verify_cert is None else verify_cert,
            extra={str(key): str(value) for key, value in extra.items()} if isinstance(extra, dict) else {},
        )
        return OidcProvider(settings, self._clock)

    async def known(self, person: Person) -> str | None:
        """Return the name here of somebody who was here before, kept up with the provider; None for somebody new.

        Who is new is made known at once where the settings say so and the provider names them.
        """

        def find() -> User | None:
            with self._store.read() as connection:
                return find_user_by_external_id(connection, FROM_OIDC, person.subiss)

        user = await asyncio.get_running_loop().run_in_executor(self._executor, find)
        if user is not None:
            return await self._sign_in.write(_vouched(person, user.name))
        if person.name and await self._guard.setting("oidc_auto_onboard"):
            return await self.onboard(person, person.name)
        return None

    async def onboard(self, person: Person, name: str) -> str:
        """Make somebody new known under a name; raises Invalid, or Conflict for a name that is taken."""
        secret = new_secret()
        vouched = _vouched(person, name, password_hash=hash_secret(secret), cli_secret=self._sealer.seal(secret))
        return await self._sign_in.write(vouched)

    async def set_secret(self, number: int, secret: str) -> Written:
        """Give somebody another secret for command-line clients; raises Invalid, UserUnknown, or NoProviderUser."""
        secret = secret or new_secret()
        require_strong(secret, "the secret")
        # Chosen by a person, so it may be guessed: hashed slowly.
        hashed, sealed = await self._passwords.hash(secret), self._sealer.seal(secret)

        def change(transaction: Transaction) -> int:
            user = find_user_by_id(transaction.connection, number)
            if user is None:
                raise UserUnknown(f"user {number} not found")
            if user.source != FROM_OIDC:
                raise NoProviderUser(f"user {user.name} is not onboarded via OIDC AuthN")
            fields = {"password_hash": hashed, "cli_secret": sealed, "updated_ms": transaction.now_ms()}
            transaction.put(USER, user.name, fields)
            return number

        return await asyncio.get_running_loop().run_in_executor(self._executor, written, self._store, change)

    def secret_of(self, user: User) -> str:
        """Return somebody's secret for command-line clients, for themselves to see; empty if it can't be read here."""
        try:
            return self._sealer.unseal(user.cli_secret) if user.cli_secret else ""
        except Invalid:
            return ""


def _vouched(person: Person, name: str, *, password_hash: str = "", cli_secret: str = "") -> Vouched:
    return Vouched(
        name=name,
        source=FROM_OIDC,
        external_id=person.subiss,
        email=person.email,
        realname=person.realname,
        groups=[LdapGroup(name=group, dn="") for group in person.groups],
        is_admin=person.is_admin,
        password_hash=password_hash,
        cli_secret=cli_secret,
    )
