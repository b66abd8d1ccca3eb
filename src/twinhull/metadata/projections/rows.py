"""What projections share: values of records as columns take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from sqlalchemy import Connection, Table, delete

from twinhull.records.merge import Value

# No column holds a larger number.
_NUMBER_MAX: Final = 2**63 - 1

Values = Mapping[str, Value]
# Given the record's resolved values, or None when the record is dead, it brings its rows to match.
Projection = Callable[[Connection, str, Values | None], None]


def text_of(value: Value) -> str:
    """Return the value if it is a text, else an empty one."""
    # PostgreSQL takes no NUL in a text; one node's must not stop the replication to another.
    return value.replace("\x00", "") if isinstance(value, str) else ""


def number_of(value: Value, default: int = 0) -> int:
    """Return the value if it is a whole number, at most as large as a column holds, else the default."""
    return min(value, _NUMBER_MAX) if isinstance(value, int) else default


def json_of(value: Value) -> str:
    """Return the value as JSON."""
    return msgspec.json.encode(value).decode()


def times_of(values: Values) -> dict[str, int]:
    """Return the columns created_ms and updated_ms."""
    created = number_of(values.get("created_ms"))
    return {"created_ms": created, "updated_ms": number_of(values.get("updated_ms"), created)}


def remove(connection: Connection, table: Table, **key: str | int) -> None:
    """Delete the rows of this key."""
    connection.execute(delete(table).where(*(table.c[name] == value for name, value in key.items())))
