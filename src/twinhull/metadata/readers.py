"""This node's readers of the log: up to where each has come, and what it has not seen yet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

from sqlalchemy import Connection, TextClause, func, select, text

from twinhull.metadata.tables.columns import upsert
from twinhull.metadata.tables.own import readers
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import Change

_NEWS: Final = (
    "SELECT position, origin, seq, kind, key, record FROM changes"
    " WHERE position > :after AND position <= :upto AND kind IN ({kinds}) ORDER BY position LIMIT :limit"
)
_KEYS: Final = "SELECT DISTINCT kind, key FROM changes WHERE position > :after AND position <= :upto AND kind IN ({kinds})"


_END: Final = text("SELECT max(position) FROM changes")


@cache
def _about(statement: str, kinds: tuple[str, ...]) -> TextClause:
    """Return the statement for these kinds. Readers ask often, and writing one anew takes longer than asking."""
    names = {f"kind{number}": kind for number, kind in enumerate(kinds)}
    return text(statement.format(kinds=", ".join(f":{name}" for name in names))).bindparams(**names)


def end_of_log(connection: Connection) -> int:
    """Return the position of the last change; 0 while there is none."""
    return int(connection.execute(_END).scalar() or 0)


def cursor_of(connection: Connection, name: str) -> int | None:
    """Return up to which position that reader has seen the log; None for a reader that has never begun."""
    found = connection.execute(select(readers.c.position).where(readers.c.name == name)).scalar()
    return int(found) if found is not None else None


def move_cursor(transaction: Transaction, name: str, position: int) -> None:
    """Say that a reader has seen the log up to there, in the transaction of what it made of that."""
    upsert(readers).run(transaction.connection, {"name": name, "position": position})


def least_cursor(connection: Connection) -> int | None:
    """Return up to where all readers have seen the log; None while there are none."""
    found = connection.execute(select(func.min(readers.c.position))).scalar()
    return int(found) if found is not None else None


def changes_between(
    connection: Connection, after: int, upto: int, *, kinds: Sequence[str], limit: int
) -> list[tuple[int, Change]]:
    """Return the changes of these kinds between two positions (the second included) with their positions, oldest first.

    Without what travels beside a record: a manifest's bytes.
    """
    rows = connection.execute(_about(_NEWS, tuple(kinds)), {"after": after, "upto": upto, "limit": limit})
    return [
        (row.position, Change(origin=row.origin, seq=row.seq, kind=row.kind, key=row.key, record=row.record)) for row in rows
    ]


def keys_between(connection: Connection, after: int, upto: int, *, kinds: Sequence[str]) -> list[tuple[str, str]]:
    """Return kind and key, each once, of what of these kinds changed between two positions, the second included."""
    rows = connection.execute(_about(_KEYS, tuple(kinds)), {"after": after, "upto": upto})
    return [(row.kind, row.key) for row in rows]
