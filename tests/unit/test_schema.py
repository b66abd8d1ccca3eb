"""Each table is declared replicated, derived or node-local, and only such types are used as both databases have."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, String, Table, Text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from twinhull.metadata import schema
from twinhull.metadata.tables.columns import upsert

TABLES = {table.name: table for table in schema.metadata.sorted_tables}
REPLICATED = {"records", "manifest_contents", "changes"}
NODE_LOCAL = {
    "origins",
    "hybrid_clock",
    "incarnations",
    "id_counters",
    "garbage_candidates",
    "project_usage",
    "collections",
    "readers",
    "invites",
    "peer_acknowledgements",
    "conflicts",
}


@pytest.fixture(params=TABLES)
def table(request: pytest.FixtureRequest) -> Table:
    """Each table of the schema."""
    return TABLES[request.param]


def test_table_is_declared(table: Table) -> None:
    declared = table.info.get("replication")
    assert declared in {"replicated", "derived", "node-local"}
    # What is replicated is no table's own affair: a new one needs a kind of record. What is this node's own is lost with it.
    assert (declared == "replicated") == (table.name in REPLICATED)
    assert (declared == "node-local") == (table.name in NODE_LOCAL)


def test_table_has_a_key_and_no_empty_columns(table: Table) -> None:
    assert table.primary_key.columns
    assert all(not column.nullable for column in table.columns)


def test_columns_are_of_types_that_both_databases_have(table: Table) -> None:
    for column in table.columns:
        assert isinstance(column.type, BigInteger | Boolean | Integer | LargeBinary | String | Text)
        if column.name.endswith(("_ms", "_s", "_bytes", "size", "id", "seq")) and not isinstance(column.type, String):
            assert isinstance(column.type, BigInteger), f"{column} would overflow"


def test_short_texts_sort_by_their_bytes_on_both_databases(table: Table) -> None:
    lines = str(CreateTable(table).compile(dialect=postgresql.dialect())).splitlines()  # type: ignore[no-untyped-call]
    assert all('COLLATE "C"' in line for line in lines if "VARCHAR" in line)
    # SQLite does so without being told, and knows no "C".
    assert "COLLATE" not in str(CreateTable(table).compile(dialect=sqlite.dialect()))


def test_indexes_have_names_that_clash_nowhere() -> None:
    names = [str(index.name) for table in TABLES.values() for index in table.indexes]
    assert len(names) == len(set(names))
    assert not set(names) & set(TABLES)


def test_upsert_names_every_column_once(table: Table) -> None:
    statement = upsert(table)
    assert upsert(table) is statement
    columns = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key.columns]
    others = [f"{name} = excluded.{name}" for name in columns if name not in keys]
    head, values, action = re.split(r" VALUES | ON CONFLICT ", statement.sql)
    assert head == f"INSERT INTO {table.name} ({', '.join(columns)})"
    assert values == f"({', '.join(f':{name}' for name in columns)})"
    assert action == f"({', '.join(keys)}) DO " + (f"UPDATE SET {', '.join(others)}" if others else "NOTHING")
