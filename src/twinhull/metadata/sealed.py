"""The sealed texts in records: found, and put into the place of others, wherever in a value they stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, text

from twinhull.metadata.names import Name
from twinhull.metadata.summaries import is_whole
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import KINDS
from twinhull.records.merge import Kind, Value, candidates_of, decode, is_dead, values_of

# The kinds that have anything to hide; sealed texts are nowhere else.
_HIDING: Final = tuple(name for name, kind in sorted(KINDS.items()) if kind.secret or kind.secret_keys)
_PAGE: Final = 500
_LIVING: Final = text(
    "SELECT key, record, summary FROM records WHERE kind = :kind AND key > :key AND NOT dead ORDER BY key LIMIT :limit"
)


def with_texts(value: Value, change: Callable[[str], str]) -> Value:
    """Return the value with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: with_texts(inner, change) for name, inner in value.items()}
    return [with_texts(inner, change) for inner in value] if isinstance(value, list) else value


def records_with(connection: Connection, is_meant: Callable[[str], bool]) -> list[Name]:
    """Return the living records of which a text is meant; reads all that have anything to hide."""
    found: list[Name] = []
    for kind in _HIDING:
        key = ""
        while rows := connection.execute(_LIVING, {"kind": kind, "key": key, "limit": _PAGE}).all():
            for key, encoded, summary in rows:
                if is_whole(key, encoded, summary) and _has(values_of(KINDS[kind], decode(encoded)), is_meant):
                    found.append((kind, key))
    return found


def change_texts(transaction: Transaction, kind: Kind, key: str, change: Callable[[str], str]) -> bool:
    """Change the texts in a record, if it lives, to others that say the same; tell whether any is another now."""
    record = transaction.get(kind, key)
    if record is None or is_dead(kind, record):
        return False
    values = values_of(kind, record)
    changed = {name: after for name, value in values.items() if (after := with_texts(value, change)) != value}
    for name, after in changed.items():
        transaction.put(kind, key, {name: after}, said=candidates_of(kind, record)[name][-1].write.stamp)
    return bool(changed)


def _has(values: dict[str, Value], is_meant: Callable[[str], bool]) -> bool:
    seen: list[bool] = []

    def look(one: str) -> str:
        seen.append(is_meant(one))
        return one

    with_texts(dict(values), look)
    return any(seen)
