"""A database that was migrated is the one that the schema describes, once and whole, and never a newer one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from tests.support.metadata import open_sqlite
from tests.support.postgres import Postgres
from twinhull.kit.clock import ManualClock
from twinhull.kit.errors import Unavailable
from twinhull.kit.hlc import Stamp
from twinhull.metadata import content, schema
from twinhull.metadata.database import Database
from twinhull.metadata.migrate import migrate, migrate_to
from twinhull.metadata.postgres import PostgresDatabase
from twinhull.metadata.store import Store
from twinhull.metadata.summaries import summary_of
from twinhull.metadata.tables.columns import upsert
from twinhull.metadata.tables.log import records
from twinhull.records.kinds import MANIFEST, TAG, content_key, tag_key
from twinhull.records.merge import created, encode

EMPTY: Final = "empty"


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without a table."""
    database: Database
    if request.param == "sqlite":
        database = open_sqlite(tmp_path)
    else:
        database = PostgresDatabase(request.getfixturevalue("postgres").create_database(EMPTY))
    yield database
    database.close()


def tables(connection: Connection) -> set[str]:
    """Return the names of all tables but Alembic's own."""
    return {*inspect(connection).get_table_names()} - {"alembic_version"}


def structure(connection: Connection) -> dict[str, Any]:
    """Return all that the database itself says of its tables."""
    inspector = inspect(connection)
    return {
        name: (
            sorted(
                (column["name"], str(column["type"]), getattr(column["type"], "collation", None), column["nullable"])
                for column in inspector.get_columns(name)
            ),
            # In the order of the key: that is how an index on it can be used.
            inspector.get_pk_constraint(name)["constrained_columns"],
            sorted((index["name"], index["column_names"], index["unique"]) for index in inspector.get_indexes(name)),
        )
        for name in tables(connection)
    }


def test_migrated_database_is_the_one_of_the_schema(empty: Database) -> None:
    migrate(empty)
    with empty.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
        migrated = structure(connection)
    assert {*migrated} == {*schema.metadata.tables}
    with empty.write() as connection:
        schema.metadata.drop_all(connection)
        schema.metadata.create_all(connection)
    with empty.read() as connection:
        assert structure(connection) == migrated


def test_migrating_again_changes_nothing(empty: Database) -> None:
    migrate(empty)
    store = Store(empty, node="n1", slot=0, clock=ManualClock())
    with store.write() as transaction:
        transaction.create(TAG, tag_key("library/app", "v1"), {"target": {"digest": "d"}})
    with empty.read() as connection:
        before = structure(connection)
    migrate(empty)
    with empty.read() as connection:
        assert structure(connection) == before
        assert content.tags_page(connection, "library/app", "", 10) == ["v1"]


def test_new_columns_are_filled_from_the_records_when_a_database_is_upgraded(empty: Database) -> None:
    key = content_key("library/app", "d")
    encoded = encode(created(None, Stamp(1, 0, "n1"), 1, {"media_type": "m", "type": "CHART"}))
    with empty.write() as connection:
        # The last one without these columns.
        migrate_to(connection, "0007")
        row = {
            "kind": MANIFEST.name,
            "key": key,
            "record": encoded,
            "dead": False,
            "bucket": 1,
            "summary": summary_of(key, encoded),
        }
        upsert(records).run(connection, row)
    migrate(empty)
    with empty.read() as connection:
        assert connection.execute(text("SELECT type, listed FROM manifests")).all() == [("CHART", True)]


def test_database_of_a_newer_release_is_refused_and_left_alone(empty: Database) -> None:
    migrate(empty)
    with empty.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(text("ALTER TABLE tags ADD COLUMN colour INTEGER"))
    with empty.read() as connection:
        before = structure(connection)
    with pytest.raises(Unavailable, match="of a newer release") as refused:
        migrate(empty)
    assert refused.value.hint
    with empty.read() as connection:
        assert structure(connection) == before


def test_migration_that_fails_half_way_leaves_nothing(empty: Database) -> None:
    with empty.write() as connection:
        # In the way of one of the tables to be made.
        connection.execute(text("CREATE TABLE tags (a INTEGER)"))
    with pytest.raises(Exception, match="already exists"):
        migrate(empty)
    with empty.read() as connection:
        assert tables(connection) == {"tags"}
    with empty.write() as connection:
        connection.execute(text("DROP TABLE tags"))
    migrate(empty)
    with empty.read() as connection:
        assert tables(connection) == {*schema.metadata.tables}


def test_names_sort_by_their_bytes_whatever_language_the_database_was_made_for(postgres: Postgres) -> None:
    name = "german"
    with psycopg.connect(host=str(postgres.socket_directory), user="postgres", dbname="postgres", autocommit=True) as server:
        server.execute("CREATE DATABASE german TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LOCALE 'C.UTF-8'")
    database = PostgresDatabase(postgres.url_of(name))
    migrate(database)
    store = Store(database, node="n1", slot=0, clock=ManualClock())
    tags = ["1.10", "1.9", "A", "Z", "_", "a", "b"]
    with store.write() as transaction:
        for tag in reversed(tags):
            transaction.create(TAG, tag_key("library/app", tag), {"target": {"digest": "d"}})
    with store.read() as connection:
        assert connection.execute(text("SELECT x FROM (VALUES ('A'), ('_'), ('a')) AS t (x) ORDER BY x")).scalars().all() != [
            "A",
            "_",
            "a",
        ]
        assert content.tags_page(connection, "library/app", "", 100) == tags
        assert content.tags_page(connection, "library/app", "A", 3) == ["Z", "_", "a"]
    store.close()


def test_summaries_of_an_older_release_are_made_anew(empty: Database) -> None:
    records = [encode(created(None, Stamp(number, 0, "n1"), number + 1, {"target": {"digest": "d"}})) for number in range(3)]
    rows = [
        {"kind": "tag", "key": f"library/app:v{number}", "record": record, "dead": False, "bucket": 1, "summary": 7}
        for number, record in enumerate(records)
    ]
    with empty.write() as connection:
        migrate_to(connection, "0006")
        connection.execute(schema.metadata.tables["records"].insert(), rows)
    migrate(empty)
    with empty.read() as connection:
        found = connection.execute(text("SELECT key, record, summary FROM records")).all()
    assert len(found) == 3
    assert all(row.summary == summary_of(row.key, row.record) for row in found)
