"""Keeps in-process caches right: before a cached answer is used, whatever the log changed since is dropped.

Every process of a node has its own caches. A look at the shared position tells in well under a microsecond whether
anything changed; if so, the changed keys are read from the log and handed to the caches.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from typing import Final, Generic, TypeVar

from twinhull.metadata.store import Store

# Further behind than this, dropping everything is cheaper than reading what changed.
_CHANGES_MAX: Final = 2000

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

OnChange = Callable[[str, str], None]
OnReset = Callable[[], None]


class Freshness:
    """What this process has seen of the log. Used on one event loop."""

    def __init__(self, store: Store, executor: Executor) -> None:
        """Start with empty caches, so at wherever the log is."""
        self._store = store
        self._executor = executor
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
            changed = await loop.run_in_executor(self._executor, self._store.changed_since, self._seen, _CHANGES_MAX + 1)
            if len(changed) > _CHANGES_MAX:
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


class Filling:
    """One reading of a value that is to be cached; equal to no other."""

    __slots__ = ("good",)

    def __init__(self) -> None:
        """Be good until something changes."""
        self.good = True


class LogCache(Generic[K, V]):
    """A bounded cache of answers, oldest use dropped first, that never keeps an answer older than a seen change.

    To fill it: `token = cache.begin(key)`, read the database, `cache.store(key, token, value)`. What was dropped
    between the two is not stored, since the value may have been read before the change.
    """

    def __init__(self, size_max: int) -> None:
        """Keep at most that many entries."""
        self._size_max = size_max
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._filling: dict[K, list[Filling]] = {}

    def get(self, key: K) -> V | None:
        """Return the cached value, or None."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def begin(self, key: K) -> Filling:
        """Say that a value is being read; the token tells whether it is still good when it arrives."""
        token = Filling()
        self._filling.setdefault(key, []).append(token)
        return token

    def store(self, key: K, token: Filling, value: V | None) -> None:
        """Keep the value if nothing it depends on changed since `begin`; None only ends the filling."""
        tokens = self._filling.get(key)
        if tokens is not None:
            tokens.remove(token)
            if not tokens:
                del self._filling[key]
        if value is None or not token.good:
            return
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size_max:
            self._entries.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget an entry, and what is being read for it."""
        self._entries.pop(key, None)
        for token in self._filling.get(key, ()):
            token.good = False

    def clear(self) -> None:
        """Forget everything, and what is being read."""
        self._entries.clear()
        for tokens in self._filling.values():
            for token in tokens:
                token.good = False
