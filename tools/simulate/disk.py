"""A node's metadata database in memory: it outlives the node's processes, and can be copied and put back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from twinhull.kit.errors import StorageFull
from twinhull.metadata.migrate import migrate


@cache
def _engine() -> Engine:
    """Return the one engine of this process: statements are compiled once for all databases."""
    engine = create_engine("sqlite://", poolclass=NullPool, connect_args={"check_same_thread": False, "cached_statements": 512})

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA temp_store=MEMORY")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # Straight to the driver: it is said more often than anything else.
        driver_of(connection).execute("BEGIN")

    return engine


def driver_of(connection: Connection) -> sqlite3.Connection:
    """Return the driver's connection."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


class MemoryDatabase:
    """One database with a single connection, which is enough where nothing happens at the same time.

    What is committed is on the disk: Twinhull syncs each commit. What a process had not committed when it was killed was
    never there.
    """

    def __init__(self, content: bytes | None = None) -> None:
        """Begin empty, or with the content of another one."""
        self._connection = _engine().connect()
        self._driver = driver_of(self._connection)
        self._puts_back = 0
        self._busy = False
        self._due: int | None = None
        # The page that a node's processes share; it outlives them.
        self._position = 0
        self._inode = 1
        self.is_full = False
        if content is not None:
            self._driver.deserialize(content)

    @property
    def version(self) -> tuple[int, int]:
        """Something that changes with the content."""
        return self._puts_back, self._driver.total_changes

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give the connection in a transaction."""
        with self._exclusive(), self._connection.begin():
            yield self._connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give the connection in a transaction that is committed at the end."""
        with self._exclusive():
            try:
                with self._connection.begin():
                    before = self._driver.total_changes
                    yield self._connection
                    if self.is_full and self._driver.total_changes > before:
                        raise StorageFull
                if self._due is not None:
                    self._position = self._due
            finally:
                self._due = None

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if self._busy:
            raise RuntimeError("a transaction inside of another one")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def publish(self, position: int) -> None:
        """Have `write` move the shared position when it has committed."""
        self._due = position

    def position(self) -> int | None:
        """Return the shared position."""
        return self._position

    def place(self) -> str:
        """Return where it lies."""
        return f"inode {self._inode}"

    def close(self) -> None:
        """Stay: the disk outlives the processes."""

    # -- what an administrator does --------------------------------------------------------------------------------

    def copy(self) -> bytes:
        """Return its content as a file."""
        return self._driver.serialize()

    def put_back(self, content: bytes, *, in_place: bool) -> None:
        """Replace it by an older file: written over it, or moved there."""
        self._driver.deserialize(content)
        self._puts_back += 1
        self._inode += 0 if in_place else 1

    def discard(self) -> None:
        """Free its memory."""
        self._connection.close()


@cache
def empty_database() -> bytes:
    """Return an empty database with all tables."""
    database = MemoryDatabase()
    migrate(database)
    content = database.copy()
    database.discard()
    return content
