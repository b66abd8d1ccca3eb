"""Reads the log with a durable cursor, so that each change is dealt with at least once, whatever is restarted meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog
from sqlalchemy import Connection

from twinhull.jobs.access import Access
from twinhull.metadata.readers import changes_between, cursor_of, end_of_log, move_cursor
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import Change

log = structlog.get_logger(__name__)

# So many changes are handled in one transaction: writers wait no longer than for these.
_PAGE: Final = 200
# The cursor is moved over changes of other kinds once there are so many: until then they are only looked through again.
_PASSED_MAX: Final = 5000
_LOOK_S: Final = 60.0

# What is made of changes, in the transaction that moves the cursor over them.
Handle = Callable[[Transaction, Sequence[Change]], None]
# Which of them anything has to be made of.
Wanted = Callable[[Connection, Sequence[Change]], Sequence[Change]]


def _all(_connection: Connection, changes: Sequence[Change]) -> Sequence[Change]:
    return changes


class LogReader:
    """The worker that reads the log for somebody. A reader that is new begins at the log's end."""

    def __init__(self, name: str, access: Access, *, kinds: Sequence[str], handle: Handle, wanted: Wanted = _all) -> None:
        """Take by what name the cursor is kept, which kinds of changes are read, which are wanted, and what is made of them.

        Where none is wanted nothing is written, so that whoever writes has the database for himself.

        `handle` is given them in the log's order, also those that this node took from others, and those that it took back
        after a restore; what it raises undoes the step, which is tried again.
        """
        self.name: Final = name
        self._access = access
        self._kinds = kinds
        self._handle = handle
        self._wanted = wanted
        self._bell = access.bell()
        self._kept: int | None = None
        self._seen = 0
        self.handled = 0

    async def wait_for_work(self) -> None:
        """Return when the log has moved."""
        if self._kept is not None:
            await self._bell.wait(_LOOK_S)

    async def work(self) -> float | None:
        """Handle the next changes."""
        if self._kept is None:
            self._kept = self._seen = await self._begin()
        seen = self._seen
        upto, position, changes = await self._access.read(lambda connection: self._news(connection, seen))
        if changes or position - self._kept >= _PASSED_MAX:
            await self._access.write(lambda inside: self._take(inside, changes, position))
            self._kept = position
            self.handled += len(changes)
            if changes:
                self._access.ring()
        self._seen = position
        return 0.0 if position < upto else None

    def status(self) -> Mapping[str, object]:
        """Return up to where the log is read, and how much of it was handled since this node's agent started."""
        return {"position": self._seen, "handled": self.handled}

    async def _begin(self) -> int:
        def begin(inside: Transaction) -> int:
            end = end_of_log(inside.connection)
            held = cursor_of(inside.connection, self.name)
            # A cursor behind the end is one of a longer log, which this one is an old copy of.
            position = end if held is None else min(held, end)
            move_cursor(inside, self.name, position)
            return position

        return await self._access.write(begin)

    def _news(self, connection: Connection, seen: int) -> tuple[int, int, Sequence[Change]]:
        """Return where the log ends, up to where it was read now, and what is wanted of that."""
        upto = end_of_log(connection)
        if upto <= seen:
            return upto, seen, []
        found = changes_between(connection, seen, upto, kinds=self._kinds, limit=_PAGE)
        position = found[-1][0] if len(found) == _PAGE else upto
        return upto, position, self._wanted(connection, [change for _, change in found]) if found else []

    def _take(self, inside: Transaction, changes: Sequence[Change], position: int) -> None:
        if changes:
            self._handle(inside, changes)
        move_cursor(inside, self.name, position)
