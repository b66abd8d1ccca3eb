"""All rows of a database go into a dump as of one moment, and come out of it into either kind of database."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from tests.support.metadata import Opened, derived_rows, open_sqlite, push
from tests.support.postgres import Postgres
from twinhull.kit.clock import ManualClock
from twinhull.kit.errors import Conflict, Invalid, Unavailable
from twinhull.metadata import dump
from twinhull.metadata.database import Database
from twinhull.metadata.incarnation import ELSEWHERE, move
from twinhull.metadata.migrate import migrate, revision_of
from twinhull.metadata.postgres import PostgresDatabase
from twinhull.metadata.schema import metadata
from twinhull.metadata.store import Store
from twinhull.records.kinds import PROJECT


@pytest.fixture(params=["sqlite", "postgres"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database, without tables."""
    database: Database
    if request.param == "sqlite":
        database = open_sqlite(tmp_path / "target")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        database = PostgresDatabase(server.create_database(f"target_{secrets.token_hex(4)}"))
    yield database
    database.close()
    shutil.rmtree(tmp_path / "target", ignore_errors=True)


def filled(store: Store) -> None:
    """Write something of everything that a dump has."""
    with store.write() as transaction:
        transaction.create(PROJECT, "library", {"owner": "admin", "created_ms": 1}, number=transaction.next_id(PROJECT))
        for number in range(500):
            push(transaction, b"image %d" % number, tag=f"v{number}")
        push(transaction, b"x" * 3_000_000, tag="big")
    store.begin_incarnation()
    with store.write() as transaction:
        push(transaction, b"after", tag="after")


def rows(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of all tables but those made from others."""
    with database.read() as connection:
        return {
            table.name: sorted(tuple(row) for row in connection.execute(select(table)))
            for table in metadata.sorted_tables
            if table.info["replication"] != "derived"
        }


def dumped(database: Database) -> tuple[str, list[dump.Page]]:
    """Return the revision and all pages."""
    with database.read() as connection:
        revision = revision_of(connection)
        assert revision is not None
        # As they are when they have been in a file.
        packed = [msgspec.msgpack.encode(page) for page in dump.pages_of(connection)]
    return revision, [msgspec.msgpack.decode(page, type=dump.Page) for page in packed]


def load(database: Database, revision: str, pages: list[dump.Page]) -> None:
    """Load them."""
    with database.write() as connection:
        loading = dump.Loading(connection, revision)
        for page in pages:
            loading.add(page)
        loading.finish()


def test_loaded_database_is_the_dumped_one(store: Store, opened: Opened, target: Database, clock: ManualClock) -> None:
    filled(store)
    revision, pages = dumped(opened.database)
    assert len(pages) > len({page.table for page in pages})

    load(target, revision, pages)

    assert rows(target) == rows(opened.database)
    with opened.database.read() as connection, target.read() as loaded:
        assert derived_rows(loaded) == derived_rows(connection)
    # It goes on where the other was: neither a position nor a number comes twice.
    again = Store(target, node=store.node, slot=0, clock=clock)
    assert again.origin == store.origin
    with again.write() as transaction:
        push(transaction, b"later", tag="later")
    assert again.position() > store.position()
    assert transaction.seq > store.vector()[store.origin]


def test_dump_shows_the_state_at_its_beginning(store: Store, opened: Opened) -> None:
    filled(store)
    with opened.database.read() as connection:
        pages = dump.pages_of(connection)
        first = next(pages)
        with store.write() as transaction:
            push(transaction, b"meanwhile", tag="meanwhile")
        tags = [row for page in (first, *pages) if page.table == "records" for row in page.rows if "meanwhile" in str(row[1])]
    assert tags == []


def test_database_that_holds_anything_is_refused(store: Store, opened: Opened) -> None:
    revision, pages = dumped(opened.database)
    with pytest.raises(Conflict, match="not empty"):
        load(opened.database, revision, pages)


def test_rows_of_unknown_tables_columns_or_releases_are_refused_and_leave_nothing(opened: Opened, target: Database) -> None:
    revision, _ = dumped(opened.database)
    for page in (
        dump.Page(table="sqlite_master", columns=["name"], rows=[["x"]]),
        dump.Page(table="alembic_version", columns=["version_num"], rows=[["x"]]),
        dump.Page(table="invites", columns=["secret_hash", "evil"], rows=[["x", "y"]]),
        dump.Page(table="invites", columns=["secret_hash", "expires_ms"], rows=[["x"]]),
    ):
        with pytest.raises(Invalid, match="the backup has rows"):
            load(target, revision, [page])
    with pytest.raises(Unavailable, match="of a newer release"):
        load(target, "9999", [])
    migrate(target)


def test_database_that_was_loaded_elsewhere_knows_that_it_is_a_copy(
    store: Store, opened: Opened, target: Database, clock: ManualClock
) -> None:
    store.settle()
    revision, pages = dumped(opened.database)
    load(target, revision, pages)
    with target.write() as connection:
        move(connection, store.node, ELSEWHERE)
    assert Store(target, node=store.node, slot=0, clock=clock).is_copy()
