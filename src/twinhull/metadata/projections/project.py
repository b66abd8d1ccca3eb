"""A record brought into its tables, and all tables made anew from the records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import Connection, delete, text

from twinhull.metadata.projections.accounts import ACCOUNTS
from twinhull.metadata.projections.containers import CONTAINERS
from twinhull.metadata.projections.content import CONTENT
from twinhull.metadata.projections.documents import DOCUMENTS
from twinhull.metadata.projections.rows import Projection, Values
from twinhull.metadata.schema import metadata
from twinhull.metadata.statement import Statement
from twinhull.metadata.summaries import is_whole
from twinhull.metadata.tables.accounts import id_aliases
from twinhull.metadata.tables.columns import DERIVED, upsert
from twinhull.metadata.tables.usage import project_usage
from twinhull.records import kinds
from twinhull.records.kinds import id_and_aliases
from twinhull.records.merge import Value, decode, is_dead, values_of

# As many records as a rebuild reads at once.
_PAGE: Final = 1000

_RECORDS_PAGE: Final = text(
    "SELECT kind, key, record, summary FROM records WHERE (kind, key) > (:kind, :key) ORDER BY kind, key LIMIT :limit"
)
_FORGET_ALIAS: Final = Statement("DELETE FROM id_aliases WHERE kind = :kind AND id = :id")
_FORGET_ALIASES: Final = Statement("DELETE FROM id_aliases WHERE kind = :kind AND key = :key")

_PROJECTIONS: Final[Mapping[str, Projection]] = {**ACCOUNTS, **CONTAINERS, **CONTENT, **DOCUMENTS}


def project_record(connection: Connection, kind: str, key: str, values: Values | None, *, ids_before: Value = None) -> None:
    """Bring the tables of this kind to match the record; `values` is None when the record is dead.

    `ids_before` is the field of that name as it was projected last.
    """
    _PROJECTIONS[kind](connection, key, values)
    earlier = id_and_aliases(ids_before)[1]
    aliases = id_and_aliases(values.get("ids"))[1] if values is not None else []
    for alias in earlier:
        if alias not in aliases:
            _FORGET_ALIAS.run(connection, {"kind": kind, "id": alias})
    for alias in aliases:
        upsert(id_aliases).run(connection, {"kind": kind, "id": alias, "key": key})


def unproject_record(connection: Connection, kind: str, key: str) -> None:
    """Remove all rows that tell of a record, also such as it would not make itself."""
    _PROJECTIONS[kind](connection, key, None)
    _FORGET_ALIASES.run(connection, {"kind": kind, "key": key})


def rebuild_projections(connection: Connection, breathe: Callable[[], None] = lambda: None) -> None:
    """Make all derived tables anew from the records, inside a writing transaction; `breathe` is called once in a while."""
    for table in metadata.sorted_tables:
        if table.info == DERIVED:
            connection.execute(delete(table))
    connection.execute(delete(project_usage))
    kind, key = "", ""
    while page := connection.execute(_RECORDS_PAGE, {"kind": kind, "key": key, "limit": _PAGE}).all():
        for kind, key, encoded, summary in page:
            if not is_whole(key, encoded, summary):
                # Its rows are made anew once it is mended.
                continue
            record = decode(encoded)
            rules = kinds.KINDS[kind]
            project_record(connection, kind, key, None if is_dead(rules, record) else values_of(rules, record))
        breathe()
