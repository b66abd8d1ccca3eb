"""Which of the browsers' sessions were logged out, from a cache that the log keeps right."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from twinhull.auth.service import LogWatch
from twinhull.metadata.logouts import ended_sessions_of
from twinhull.metadata.store import Store


class EndedSessions:
    """Knows the sessions that are over before they run out."""

    def __init__(self, *, store: Store, executor: Executor, log: LogWatch) -> None:
        """Take the metadata, threads to read it in, and what tells of changes."""
        self._store = store
        self._executor = executor
        self._log = log
        # None: to be read.
        self._known: set[str] | None = None
        # Counts what was called back: what was read before it must not be kept.
        self._generation = 0
        log.listen(self._on_change, self._on_reset)

    async def has(self, session: str) -> bool:
        """Tell whether this session was logged out, on any node."""
        if not self._log.is_current():
            await self._log.catch_up()
        while self._known is None:
            generation = self._generation
            read = await asyncio.get_running_loop().run_in_executor(self._executor, self._read)
            if generation == self._generation:
                self._known = read
        return session in self._known

    def _read(self) -> set[str]:
        with self._store.read() as connection:
            return set(ended_sessions_of(connection))

    def _on_change(self, kind: str, key: str) -> None:
        if kind != "session_end":
            return
        self._generation += 1
        if self._known is not None:
            # One that was forgotten because it ran out does no harm here.
            self._known.add(key)

    def _on_reset(self) -> None:
        self._generation += 1
        self._known = None
