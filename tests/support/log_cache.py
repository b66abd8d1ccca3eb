"""The plainest cache that the log can keep right; for tests of what does so."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


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
