"""Keeps in-process caches right: before a cached answer is used, whatever the log changed since is dropped.

Every process of a node has its own caches. A look at the shared position tells in well under a microsecond whether
anything changed; if so, the changed keys are read from the log and handed to the caches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from twinhull.metadata.store import Store

# Further behind than this, dropping everything is cheaper than reading what changed.
CHANGES_MAX: Final = 2000

OnChange = Callable[[str, str], None]
OnReset = Callable[[], None]


class Freshness:
    """What this process has seen of the log. Used on one event loop."""

    def __init__(self, store: Store, executor: Executor, *, changes_max: int = CHANGES_MAX) -> None:
        """Start with empty caches, at wherever the log is; of that, more than the newest `changes_max` changes must be kept."""
        self._store = store
        self._executor = executor
        self._changes_max = changes_max
        self._seen = -1
        self._catching_up: asyncio.Task[None] | None = None
        self._listeners: list[tuple[OnChange, OnReset]] = []

    @property
    def seen(self) -> int:
        """The position up to which the caches are right."""
        return self._seen

    def listen(self, on_change: OnChange, on_reset: OnReset) -> None:
        """Call `on_change(kind, key)` for each change seen from now on, or `on_reset()` when there are too many."""
        self._listeners.append((on_change, on_reset))

    def is_current(self) -> bool:
        """Tell whether nothing changed since the last look; False also when that can't be told without I/O."""
        return self._store.position_hint() == self._seen

    async def catch_up(self) -> None:
        """Return when the caches have seen everything that was committed before this call."""
        if self.is_current():
            return
        if self._catching_up is not None:
            # This look may have begun before what the caller must see was committed: one more may be needed.
            await asyncio.shield(self._catching_up)
            if self.is_current():
                return
        if self._catching_up is None:
            self._catching_up = asyncio.ensure_future(self._look())
        await asyncio.shield(self._catching_up)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._seen < 0:
                self._seen = await loop.run_in_executor(self._executor, self._store.refresh_position)
                return
            changed = await loop.run_in_executor(self._executor, self._store.changed_since, self._seen, self._changes_max + 1)
            if len(changed) > self._changes_max:
                for _, on_reset in self._listeners:
                    on_reset()
                self._seen = await loop.run_in_executor(self._executor, self._store.position)
                # What was cached while the position was read may be older than it.
                for _, on_reset in self._listeners:
                    on_reset()
                return
            for position, kind, key in changed:
                for on_change, _ in self._listeners:
                    on_change(kind, key)
                self._seen = position
        finally:
            self._catching_up = None
