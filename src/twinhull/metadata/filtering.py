"""Lists as clients ask for them: conditions, order and part, turned into SQL over the columns that a list allows.

Nothing that a client sends becomes part of a statement's text: keys are looked up, values are parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Boolean, Column, ColumnElement, Connection, Integer, Select, false, func, select

from twinhull.kit.errors import Invalid

# PostgreSQL takes no text with this sign in it, so nothing is ever called so, and asking must not fail.
NUL: Final = "\x00"
# Databases count no higher than 2^63.
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_TIME_SUFFIX: Final = "_ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Which part of a list is wanted; a limit of None is all of it."""

    offset: int = 0
    limit: int | None = None

    def of(self, query: Select[Any]) -> Select[Any]:
        """Return the query for that part."""
        return query.offset(self.offset).limit(self.limit) if self.limit is not None else query.offset(self.offset or None)


EVERYTHING: Final = Slice()


# -- what is asked -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exact:
    """The value itself."""

    value: str


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """Any value that contains this, in capitals or not."""

    part: str


@dataclass(frozen=True, slots=True)
class Range:
    """Any value between two, both included; an empty end is open."""

    low: str
    high: str


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of these values."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of these values at once, for things that have many, as artifacts have labels. On a column it says nothing."""

    values: tuple[str, ...]


Condition = Exact | Fuzzy | Range | AnyOf | AllOf


def plain(key: str) -> str:
    """Return a key as it is compared: clients write ProjectID, project_id and projectid."""
    return key.strip().lower().replace("_", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries of a list are wanted, by plain key, and in which order: (plain key, whether descending)."""

    conditions: Mapping[str, Condition] = field(default_factory=dict)
    order: Sequence[tuple[str, bool]] = ()

    def get(self, key: str) -> Condition | None:
        """Return the condition on a key."""
        return self.conditions.get(plain(key))

    def exact(self, key: str) -> str:
        """Return the value that the key must have, or an empty text when there is no such condition."""
        condition = self.get(key)
        return condition.value if isinstance(condition, Exact) else ""


ANYTHING: Final = Wanted()


# -- as SQL --------------------------------------------------------------------------------------------------------


class Fields:
    """What a list can be filtered and sorted by: keys and their columns, and the order where none is asked for.

    The default order also settles ties, so it should end with a column that no two rows share. Columns named `…_ms` are
    times. Keys that are not here are passed over, as in Harbor.
    """

    def __init__(self, columns: Mapping[str, ColumnElement[Any]], *, order: Sequence[ColumnElement[Any]]) -> None:
        """Take the columns by the keys that clients use, and the default order."""
        self._columns = {plain(key): column for key, column in columns.items()}
        self._order = tuple(order)

    def select(self, query: Select[Any], wanted: Wanted) -> Select[Any]:
        """Return the query for the wanted rows in the wanted order; raises what filtered raises."""
        return self.filtered(query, wanted).order_by(*self.ordering(wanted))

    def filtered(self, query: Select[Any], wanted: Wanted) -> Select[Any]:
        """Return the query for the wanted rows; raises Invalid for a value that can't be one of its column."""
        found = [
            _condition(key, self._columns[key], condition)
            for key, condition in wanted.conditions.items()
            if key in self._columns and not isinstance(condition, AllOf)
        ]
        return query.where(*found)

    def ordering(self, wanted: Wanted) -> list[ColumnElement[Any]]:
        """Return what to order by."""
        asked = [(self._columns[key], descending) for key, descending in wanted.order if key in self._columns]
        return [*(column.desc() if descending else column.asc() for column, descending in asked), *self._order]


def contains(column: ColumnElement[str], part: str) -> ColumnElement[bool]:
    """Return the condition that a column contains the text, whatever signs are in it."""
    return column.contains(part, autoescape=True) if NUL not in part else false()


def equals(column: ColumnElement[str], value: str) -> ColumnElement[bool]:
    """Return the condition that a column is the text, which may come from anywhere."""
    return column == value if NUL not in value else false()


def count(connection: Connection, query: Select[Any]) -> int:
    """Return how many rows the query has in all."""
    return int(connection.execute(select(func.count()).select_from(query.order_by(None).subquery())).scalar_one())


def _condition(key: str, column: ColumnElement[Any], condition: Condition) -> ColumnElement[bool]:
    if isinstance(condition, Exact):
        return _equal(key, column, condition.value)
    if isinstance(condition, Fuzzy):
        return _fuzzy(key, column, condition.part)
    if isinstance(condition, Range):
        return _between(key, column, condition)
    assert isinstance(condition, AnyOf)
    return column.in_([_value(key, column, value) for value in condition.values if NUL not in value])


def _equal(key: str, column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    return column == _value(key, column, value) if NUL not in value else false()


def _fuzzy(key: str, column: ColumnElement[Any], part: str) -> ColumnElement[bool]:
    if isinstance(column.type, Integer | Boolean):
        return _equal(key, column, part)
    return column.icontains(part, autoescape=True) if NUL not in part else false()


def _between(key: str, column: ColumnElement[Any], wanted: Range) -> ColumnElement[bool]:
    if NUL in wanted.low or NUL in wanted.high:
        return false()
    # A boolean has no order in PostgreSQL that people would mean.
    if isinstance(column.type, Boolean):
        raise Invalid(f"{key} is true or false, and takes no range")
    found: list[ColumnElement[bool]] = []
    if wanted.low:
        found.append(column >= _value(key, column, wanted.low))
    if wanted.high:
        found.append(column <= _value(key, column, wanted.high))
    return found[0] if len(found) == 1 else found[0] & found[1]


def _value(key: str, column: ColumnElement[Any], text: str) -> str | int | bool:
    if isinstance(column.type, Boolean):
        if text.lower() not in ("true", "false", "1", "0"):
            raise Invalid(f"{key} must be true or false, not {text[:64]!r}")
        return text.lower() in ("true", "1")
    if not isinstance(column.type, Integer):
        return text
    if isinstance(column, Column) and column.name.endswith(_TIME_SUFFIX):
        return _milliseconds(key, text)
    if not _NUMBER.fullmatch(text):
        raise Invalid(f"{key} must be a number, not {text[:64]!r}")
    return int(text)


def _milliseconds(key: str, text: str) -> int:
    """Return a time such as `2020-01-01 00:00:00` (UTC unless it says otherwise) as milliseconds since 1970."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{key} must be a time such as 2020-01-31 08:00:00, not {text[:64]!r}") from None
    return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1000)
