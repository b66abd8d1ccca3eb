"""This node's readers of the log: up to where each has come, and what it has not seen yet."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, func, select, text

from twinhull.metadata.tables.columns import upsert
from twinhull.metadata.tables.log import changes
from twinhull.metadata.tables.own import readers
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import Change

_NEWS = text(
    "SELECT position, origin, seq, kind, key, record FROM changes"
    " WHERE position > :after AND position <= :upto AND kind IN :kinds ORDER BY position LIMIT :limit"
).bindparams(bindparam("kinds", expanding=True))
_KEYS = text(
    "SELECT DISTINCT kind, key FROM changes WHERE position > :after AND position <= :upto AND kind IN :kinds"
).bindparams(bindparam("kinds", expanding=True))


def end_of_log(connection: Connection) -> int:
    """Return the position of the last change; 0 while there is none."""
    return int(connection.execute(select(func.max(changes.c.position))).scalar() or 0)


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
    rows = connection.execute(_NEWS, {"after": after, "upto": upto, "kinds": list(kinds), "limit": limit})
    return [
        (row.position, Change(origin=row.origin, seq=row.seq, kind=row.kind, key=row.key, record=row.record)) for row in rows
    ]


def keys_between(connection: Connection, after: int, upto: int, *, kinds: Sequence[str]) -> list[tuple[str, str]]:
    """Return kind and key, each once, of what of these kinds changed between two positions, the second included."""
    rows = connection.execute(_KEYS, {"after": after, "upto": upto, "kinds": list(kinds)})
    return [(row.kind, row.key) for row in rows]
