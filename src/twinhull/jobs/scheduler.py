"""Begins executions when they are due. One member does it for all: of those that are reachable the one with the smallest id."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import Connection

from twinhull.jobs.access import Access
from twinhull.jobs.cron import last_ms, next_ms
from twinhull.jobs.executions import begin
from twinhull.metadata.executions import BY_SCHEDULE, latest_scheduled
from twinhull.metadata.transaction import Transaction

log = structlog.get_logger(__name__)

# When it was due, in the execution's record.
SCHEDULED_MS: Final = "scheduled_ms"
_LOOK_S: Final = 60.0
# Policies are looked at no more often, however fast the log moves.
_BETWEEN_LOOKS_S: Final = 1.0
# A node that starts hears first who else is there, and what they have begun.
_SETTLING_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A policy that is carried out by a schedule: its cron expression, and since when that is so (milliseconds since 1970)."""

    vendor_type: str
    vendor_id: int
    cron: str
    since_ms: int


# Returns what is carried out by schedule just now: no policy that is disabled.
Schedules = Callable[[Connection], Sequence[Due]]


def due_now_ms(due: Due, *, begun_ms: int, now_ms: int) -> int | None:
    """Return for which moment the policy is to be carried out now: the last one that has passed, unless it was then; else None.

    `begun_ms` is the moment for which it was carried out last. What was missed is made up for once, however often it was.
    """
    last = last_ms(due.cron, now_ms)
    return last if last is not None and last > max(begun_ms, due.since_ms) else None


class Scheduler:
    """The worker of that name."""

    name = "schedules"

    def __init__(self, sources: Sequence[Schedules], access: Access, *, is_first: Callable[[], bool]) -> None:
        """Take what says which policies have a schedule, and what tells whether it is this node that begins them."""
        self._sources = sources
        self._access = access
        self._is_first = is_first
        self._bell = access.bell()
        self._not_before_s = access.clock.monotonic_s() + _SETTLING_S
        self._next_ms: int | None = 0
        self.begun = 0

    async def wait_for_work(self) -> None:
        """Return when something is due, or policies may have changed."""
        clock = self._access.clock
        await asyncio.sleep(max(_BETWEEN_LOOKS_S, self._not_before_s - clock.monotonic_s()))
        wait_s = _LOOK_S if self._next_ms is None else (self._next_ms - clock.unix_ms()) / 1000
        if wait_s > 0:
            await self._bell.wait(min(wait_s, _LOOK_S))

    async def work(self) -> float | None:
        """Begin what is due."""
        now_ms = self._access.clock.unix_ms()
        all_due = await self._access.read(self._all_due)
        if self._is_first():
            for one in all_due:
                await self._begin_if_due(one, now_ms)
        following = [moment for one in all_due if (moment := next_ms(one.cron, now_ms)) is not None]
        self._next_ms = min(following, default=None)
        return None

    def status(self) -> Mapping[str, object]:
        """Return when something is due next, and how much was begun since this node's agent started."""
        return {"next_ms": self._next_ms, "begun": self.begun, "is_this_node": self._is_first()}

    def _all_due(self, connection: Connection) -> list[Due]:
        return [one for source in self._sources for one in source(connection)]

    async def _begin_if_due(self, due: Due, now_ms: int) -> None:
        def find(connection: Connection) -> int | None:
            return due_now_ms(due, begun_ms=begun_for_ms(connection, due), now_ms=now_ms)

        moment_ms = await self._access.read(find)
        if moment_ms is None:
            return
        number = await self._access.write(lambda inside: begin_due(inside, due, moment_ms))
        if number:
            self.begun += 1
            log.info("execution began by schedule", vendor_type=due.vendor_type, policy=due.vendor_id, execution=number)


def begun_for_ms(connection: Connection, due: Due) -> int:
    """Return for which moment a policy was carried out last by its schedule, on any node; 0: for none."""
    latest = latest_scheduled(connection, due.vendor_type, due.vendor_id)
    return int(latest.fields.get(SCHEDULED_MS, latest.created_ms)) if latest is not None else 0


def begin_due(transaction: Transaction, due: Due, moment_ms: int) -> int:
    """Begin an execution for that moment, whose tasks its job will plan, and return its id; 0 if there is one already."""
    if begun_for_ms(transaction.connection, due) >= moment_ms:
        return 0
    return begin(
        transaction,
        vendor_type=due.vendor_type,
        vendor_id=due.vendor_id,
        trigger=BY_SCHEDULE,
        tasks=None,
        fields={SCHEDULED_MS: moment_ms},
    )
