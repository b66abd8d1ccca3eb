"""What vouches for people in place of this cluster, put together: a directory, a provider."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from importlib import import_module
from typing import Final, NamedTuple

from twinhull.auth.directory import Connect, Directory, LdapSettings
from twinhull.auth.passwords import PasswordChecker
from twinhull.auth.sealing import Sealer
from twinhull.auth.service import Guard
from twinhull.catalog.oidc import OidcSignIn
from twinhull.catalog.peers import Durability
from twinhull.catalog.sign_in import SignIn
from twinhull.metadata.store import Store

# As many requests wait for a directory at a time: one that does not answer must not hold up anything else.
_DIRECTORY_THREADS: Final = 4


class Vouching(NamedTuple):
    """Who knows a directory's people, and a provider's."""

    sign_in: SignIn
    oidc: OidcSignIn


def vouching(
    *, store: Store, executor: Executor, guard: Guard, passwords: PasswordChecker, sealer: Sealer, durability: Durability
) -> Vouching:
    """Return both, the directory being asked for passwords from now on."""
    sign_in = SignIn(
        store=store,
        executor=executor,
        connect=_connect,
        directory_threads=ThreadPoolExecutor(_DIRECTORY_THREADS, thread_name_prefix="directory"),
        guard=guard,
        sealer=sealer,
        durability=durability,
    )
    guard.vouched_by(sign_in)
    oidc = OidcSignIn(
        store=store, executor=executor, guard=guard, sealer=sealer, passwords=passwords, sign_in=sign_in, clock=store.clock
    )
    return Vouching(sign_in, oidc)


def _connect(settings: LdapSettings) -> Directory:
    """Return the directory. Its client takes 16 MB and half a second to load, and most clusters have no directory."""
    client: Connect = import_module("twinhull.auth.ldap").LdapDirectory
    return client(settings)
