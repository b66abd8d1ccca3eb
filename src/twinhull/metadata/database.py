"""What a database must give beside SQL: one writer at a time, in commit order, and a cheap look at the log's position."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection


class Database(Protocol):
    """A place for the tables; SQLite and PostgreSQL implement it, proved by one contract suite."""

    def read(self) -> AbstractContextManager[Connection]:
        """Give a connection in a transaction that sees one consistent state."""
        ...

    def write(self) -> AbstractContextManager[Connection]:
        """Give the only writing transaction there is; commits durably on leaving, rolls back on an exception.

        Raises StorageFull when the disk is full, Unavailable when the database does not answer.
        """
        ...

    def publish(self, position: int) -> None:
        """Let every process of this node see that the log reaches this position once the current `write` has committed.

        Called inside `write`: only while the next writer waits do positions come out in the order of the commits.
        """
        ...

    def position(self) -> int | None:
        """Return the published position if that costs no I/O, else None: then the log itself must be asked."""
        ...

    def place(self) -> str:
        """Return where the database lies: a copy of it is at another place, as far as that can be told."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
