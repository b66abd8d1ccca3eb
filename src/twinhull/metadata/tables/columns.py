"""What all tables are made of: the one schema, names that sort by their bytes, the three declarations, and the upsert.

Replicated: what peers exchange. Derived: projections of records, rebuilt from them at any time. Node-local: facts about
this node alone. Times are milliseconds since 1970; sizes are bytes.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from sqlalchemy import MetaData, String, Table
from sqlalchemy.types import TypeEngine

from twinhull.metadata.statement import Statement

metadata: Final = MetaData()

REPLICATED: Final = {"replication": "replicated"}
DERIVED: Final = {"replication": "derived"}
NODE_LOCAL: Final = {"replication": "node-local"}


def name_type(length: int) -> TypeEngine[str]:
    """Return a short text that sorts by its bytes, as OCI's lists do and SQLite does.

    PostgreSQL would sort by the language that the database was made for.
    """
    return String(length).with_variant(String(length, collation="C"), "postgresql")


@cache
def upsert(table: Table) -> Statement:
    """Return "insert, or replace the row with the same primary key": the same text for SQLite and PostgreSQL."""
    columns = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key.columns]
    others = [name for name in columns if name not in keys]
    action = "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in others) if others else "NOTHING"
    # Names come from table definitions, never from input.
    statement = (
        f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)}) "  # noqa: S608
        f"ON CONFLICT ({', '.join(keys)}) DO {action}"
    )
    return Statement(statement)
