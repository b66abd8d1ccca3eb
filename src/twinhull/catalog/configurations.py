"""The cluster-wide settings as an administrator changes them; which there are is in config.cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any, Final, NamedTuple

from twinhull.auth.sealing import Sealer
from twinhull.catalog.accounts import ADMIN, Written, written
from twinhull.catalog.audit import note
from twinhull.config.cluster import DEFAULTS, ITEMS, Value, read_items
from twinhull.kit.errors import Invalid
from twinhull.metadata import accounts as queries
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import SETTING

AUTH_MODE: Final = "auth_mode"


class Configuration(NamedTuple):
    """All settings as they hold now, secrets left out, and whether the way to sign in may still be changed."""

    values: Mapping[str, Value]
    auth_mode_editable: bool


class Configurations:
    """Reads and changes the settings."""

    def __init__(self, *, store: Store, executor: Executor, sealer: Sealer) -> None:
        """Take the metadata, threads to use it in, and what seals secrets."""
        self._store = store
        self._executor = executor
        self._sealer = sealer

    async def all(self) -> Configuration:
        """Return what holds now."""

        def read() -> Configuration:
            with self._store.read() as connection:
                stored = queries.list_settings(connection)
                editable = not queries.has_users_beside(connection, ADMIN)
            shown = {name: stored.get(name, item.default) for name, item in ITEMS.items() if not item.secret}
            return Configuration({**shown, **{name: "" for name, item in ITEMS.items() if item.shown_empty}}, editable)

        return await asyncio.get_running_loop().run_in_executor(self._executor, read)

    async def change(self, sent: Mapping[str, Any]) -> Written:
        """Set the given items, all or none; raises Invalid in Harbor's words."""

        def change(transaction: Transaction) -> int:
            _require_auth_mode_kept(transaction, sent)
            for name, value in read_items(sent, lambda name: _current(transaction, name)).items():
                _set(transaction, name, self._sealer.seal(str(value)) if value and ITEMS[name].secret else value)
            note(transaction, "update", "configuration", ",".join(sorted(sent)))
            return 0

        return await asyncio.get_running_loop().run_in_executor(self._executor, written, self._store, change)


def _require_auth_mode_kept(transaction: Transaction, sent: Mapping[str, Any]) -> None:
    """Raise Invalid for another way to sign in once there are users who came by the present one."""
    if AUTH_MODE not in sent or not queries.has_users_beside(transaction.connection, ADMIN):
        return
    if sent[AUTH_MODE] != _current(transaction, AUTH_MODE):
        raise Invalid(f"the keys [{AUTH_MODE}] can not be modified as new users have been inserted into database")


def _current(transaction: Transaction, name: str) -> object:
    found = queries.find_setting(transaction.connection, name)
    return DEFAULTS[name] if found is None else found


def _set(transaction: Transaction, name: str, value: Value) -> None:
    before = transaction.values(SETTING, name)
    if before is None:
        # Written even where it says what is the default: somebody may be changing it elsewhere right now.
        transaction.create(SETTING, name, {"value": value})
    elif before.get("value") != value:
        transaction.put(SETTING, name, {"value": value})
