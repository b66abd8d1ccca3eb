"""The ends of browsers' sessions that are logged out before they run out, so that every node knows of them."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

from twinhull.catalog.accounts import Written, written
from twinhull.metadata.logouts import ended_sessions_of
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import SESSION_END

# So many that have run out by themselves are forgotten with each one that is logged out.
_FORGOTTEN_AT_ONCE: Final = 100
# A node whose clock is behind must not take a session for a good one because it was forgotten here.
_CLOCKS_APART_MS: Final = 10 * 60 * 1000


class EndedSessions:
    """Writes down the ends of sessions."""

    def __init__(self, *, store: Store, executor: Executor) -> None:
        """Take the metadata, and threads to write in."""
        self._store = store
        self._executor = executor

    async def end(self, session: str, *, expires_ms: int) -> Written:
        """Let a session be over on every node; ending it again does no harm."""

        def change(transaction: Transaction) -> int:
            if transaction.values(SESSION_END, session) is None:
                transaction.create(SESSION_END, session, {"expires_ms": expires_ms})
            before_ms = transaction.now_ms() - _CLOCKS_APART_MS
            connection = transaction.connection
            for old in ended_sessions_of(connection, before_ms=before_ms, limit=_FORGOTTEN_AT_ONCE):
                transaction.delete(SESSION_END, old)
            return 0

        return await asyncio.get_running_loop().run_in_executor(self._executor, written, self._store, change)
