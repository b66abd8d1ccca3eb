"""Which registries answered when they were asked last: one that is down must not keep those waiting that are up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from twinhull.kit.clock import Clock
from twinhull.kit.errors import RegistryUnreachable

# For so long one answer, or none, holds for all who would ask; and so long it may take.
HOLDS_S: Final = 15.0
LIMIT_S: Final = 10.0
# And no longer may a registry keep everybody away at a time.
HELD_MAX_S: Final = 600.0
_KNOWN_MAX: Final = 1000

Check = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class _Known:
    """What is known of one registry: until when, and why it was not reached; an empty reason: it was."""

    until_s: float = 0.0
    reason: str = ""
    asking: asyncio.Future[None] | None = None


class Reached:
    """What is known of registries, by their addresses. Used on one event loop."""

    def __init__(self, clock: Clock, *, limit_s: float = LIMIT_S) -> None:
        """Take the time, and how long an answer may take."""
        self._clock = clock
        self._limit_s = limit_s
        self._known: dict[str, _Known] = {}

    async def require(self, url: str, check: Check) -> None:
        """Return if the registry answers, or did just now; else raise RegistryUnreachable, at once if it did not just now.

        It is asked by one at a time: while it is, a registry that was down is taken to be so still.
        """
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        known = self._known.setdefault(url, _Known())
        if known.asking is None and self._clock.monotonic_s() >= known.until_s:
            known.asking = asyncio.ensure_future(self._ask(url, known, check))
            await asyncio.shield(known.asking)
        elif known.asking is not None and not known.reason:
            await asyncio.shield(known.asking)
        if known.reason:
            raise RegistryUnreachable(known.reason)

    def hold(self, url: str, seconds: float, reason: str) -> None:
        """Let nobody ask a registry for so long, because it has said so."""
        known = self._known.setdefault(url, _Known())
        known.until_s, known.reason = self._clock.monotonic_s() + min(seconds, HELD_MAX_S), reason

    async def _ask(self, url: str, known: _Known, check: Check) -> None:
        reason = ""
        try:
            async with asyncio.timeout(self._limit_s):
                await check()
        except RegistryUnreachable as error:
            reason = str(error)
        except TimeoutError:
            reason = f"registry {url} does not answer in time"
        finally:
            known.asking = None
        known.until_s, known.reason = self._clock.monotonic_s() + HOLDS_S, reason
