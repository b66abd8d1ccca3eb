"""A metadata database of each kind, empty for every test, migrated once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.collector_site import Site
from tests.support.metadata import Opened, empty, open_sqlite
from tests.support.postgres import Postgres, postgres
from twinhull.kit.clock import ManualClock
from twinhull.metadata.database import Database
from twinhull.metadata.migrate import migrate
from twinhull.metadata.postgres import PostgresDatabase
from twinhull.metadata.store import Store

__all__ = ["postgres"]


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with this release's tables and nothing in them."""
    directory = tmp_path_factory.mktemp("migrated")
    database = open_sqlite(directory)
    migrate(database)
    database.close()
    return directory / "metadata.db"


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Postgres) -> str:
    """The URL of a PostgreSQL database with this release's tables; one test at a time has it, and finds it empty."""
    url = postgres.create_database("metadata")
    database = PostgresDatabase(url)
    migrate(database)
    database.close()
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """A database, and how another process opens the same."""
    database: Database
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "metadata.db")
        address = str(tmp_path)
        database = open_sqlite(tmp_path)
    else:
        address = request.getfixturevalue("migrated_postgres")
        database = PostgresDatabase(address)
        empty(database)
    yield Opened(database=database, address=address)
    database.close()


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the store under test, and of its peers."""
    return ManualClock()


@pytest.fixture
def store(opened: Opened, clock: ManualClock) -> Store:
    """The store under test: node n1."""
    return Store(opened.database, node="n1", slot=0, clock=clock)


@pytest.fixture
def site(store: Store, clock: ManualClock, tmp_path: Path) -> Iterator[Site]:
    """A node with nothing in it but its collector."""
    with ThreadPoolExecutor(4) as executor:
        yield Site(store, clock, executor, tmp_path)


@pytest.fixture
def peer(tmp_path_factory: pytest.TempPathFactory, clock: ManualClock) -> Iterator[Store]:
    """Another node's store: n2, on SQLite."""
    directory = tmp_path_factory.mktemp("peer")
    database = open_sqlite(directory)
    migrate(database)
    yield Store(database, node="n2", slot=1, clock=clock)
    database.close()
