"""Statements that run on every write, handed to the driver as they are.

A push runs dozens of them, and SQLAlchemy's way of executing one takes ten times as long as SQLite needs to carry it out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

_PARAMETER: Final = re.compile(r":(\w+)")

Row = Mapping[str, object]


class Statement:
    """SQL that both databases understand, with parameters written `:name`.

    Only for a connection on which a writing transaction has begun: nothing here begins one. What the driver raises is
    translated by the database that gave the connection.
    """

    def __init__(self, sql: str) -> None:
        """Take the SQL; it may have no colon and no percent sign beside its parameters."""
        self.sql: Final = sql
        self._by_dialect = {"sqlite": sql, "postgresql": _PARAMETER.sub(r"%(\1)s", sql)}

    def run(self, connection: Connection, values: Row) -> None:
        """Carry it out."""
        cursor = connection.connection.cursor()
        cursor.execute(self._by_dialect[connection.dialect.name], values)
        cursor.close()

    def run_for_each(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Carry it out once for each of the rows."""
        cursor = connection.connection.cursor()
        cursor.executemany(self._by_dialect[connection.dialect.name], rows)
        cursor.close()

    def first(self, connection: Connection, values: Row) -> tuple[Any, ...] | None:
        """Carry it out and return the first row of its result."""
        cursor = connection.connection.cursor()
        cursor.execute(self._by_dialect[connection.dialect.name], values)
        row: tuple[Any, ...] | None = cursor.fetchone()
        cursor.close()
        return row

    def all(self, connection: Connection, values: Row) -> list[tuple[Any, ...]]:
        """Carry it out and return all rows of its result."""
        cursor = connection.connection.cursor()
        cursor.execute(self._by_dialect[connection.dialect.name], values)
        rows: list[tuple[Any, ...]] = list(cursor.fetchall())
        cursor.close()
        return rows
