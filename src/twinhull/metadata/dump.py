"""All that a node's database holds and that can't be made from the rest, as rows: the same for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
from sqlalchemy import Connection, MetaData, Table, func, inspect, select, text

from twinhull.kit.errors import Conflict, Invalid
from twinhull.metadata import members
from twinhull.metadata.migrate import migrate_to, revision_of
from twinhull.metadata.projections.project import rebuild_projections
from twinhull.metadata.schema import metadata
from twinhull.metadata.tables.columns import DERIVED
from twinhull.metadata.tables.log import changes

# A page is this big, or little bigger: a manifest may have 4 MiB.
_PAGE_BYTES: Final = 1 << 20
_ROWS_AT_ONCE: Final = 200
_NAMES_PAGE: Final = 1000
# Kept by the numbering of the log's positions, which must go on behind the last.
_SEQUENCE: Final = text("SELECT setval('changes_position_seq', :last)")

_CELLS: Final = bytes | str | int


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one table."""

    table: str
    columns: list[str]
    rows: Annotated[list[list[object]], msgspec.Meta(min_length=1)]


def pages_of(connection: Connection) -> Iterator[Page]:
    """Yield all rows as this transaction sees them; memory holds a page at a time."""
    for table in metadata.sorted_tables:
        if table.info != DERIVED:
            yield from _pages_of_table(connection, table)


def _pages_of_table(connection: Connection, table: Table) -> Iterator[Page]:
    # Plain texts: SQLAlchemy's own kind cannot be packed.
    name, columns = str(table.name), [str(column.name) for column in table.columns]
    rows: list[list[object]] = []
    size = 0
    query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=_ROWS_AT_ONCE)
    for row in connection.execute(query):
        rows.append(list(row))
        size += sum(len(cell) if isinstance(cell, bytes | str) else 8 for cell in row)
        if size >= _PAGE_BYTES:
            yield Page(table=name, columns=columns, rows=rows)
            rows, size = [], 0
    if rows:
        yield Page(table=name, columns=columns, rows=rows)


def named_blobs(connection: Connection) -> Iterator[tuple[str, int]]:
    """Yield digest and size of all blobs that manifests need or links name, in order."""
    after = ""
    while page := members.named_blobs_page(connection, after, _NAMES_PAGE):
        yield from page
        after = page[-1][0]


class Loading:
    """Rows on their way into an empty database, in one writing transaction: all of them, or none."""

    def __init__(self, connection: Connection, revision: str) -> None:
        """Make the tables as they were when the rows were read.

        Raises Conflict if there is anything in the database, Unavailable if the rows are of a newer release.
        """
        if revision_of(connection) is not None or inspect(connection).get_table_names():
            raise Conflict("the database is not empty", hint="name an empty one in database.url")
        migrate_to(connection, revision)
        self._connection = connection
        self._tables = MetaData()
        self._tables.reflect(connection)

    def add(self, page: Page) -> None:
        """Write a page of rows; raises Invalid for rows that do not belong into these tables."""
        table = self._tables.tables.get(page.table)
        if table is None or not set(page.columns) <= set(table.columns.keys()) or "alembic" in page.table:
            raise Invalid(f"the backup has rows of a table {page.table[:64]!r} that its release did not have")
        if any(len(row) != len(page.columns) or not all(isinstance(cell, _CELLS) for cell in row) for row in page.rows):
            raise Invalid(f"the backup has rows of table {page.table} that are not whole")
        self._connection.execute(table.insert(), [dict(zip(page.columns, row, strict=True)) for row in page.rows])

    def finish(self) -> None:
        """Bring the tables to this release's form, and make from the records all that is made from them."""
        migrate_to(self._connection, "head")
        if self._connection.dialect.name == "postgresql":
            last = self._connection.execute(select(func.max(changes.c.position))).scalar()
            self._connection.execute(_SEQUENCE, {"last": last or 1})
        rebuild_projections(self._connection)
