"""PostgreSQL under the metadata: for a site whose workers run on many machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg.errors
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from twinhull.kit.errors import StorageFull, Unavailable, Unstorable

# Any number that no other program on the same database uses for its advisory locks.
_WRITER_LOCK: Final = 0x7477696E68756C6C
_LOCK: Final = text("SELECT pg_advisory_xact_lock(:lock)")
_PLACE: Final = text(
    "SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || (SELECT timeline_id FROM pg_control_checkpoint())"
    " || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_CONNECTIONS_MAX: Final = 16


class PostgresDatabase:
    """A PostgreSQL database given by its SQLAlchemy URL (postgresql+psycopg://…)."""

    def __init__(self, url: str) -> None:
        """Connect lazily; nothing is sent before the first use."""
        self._engine = create_engine(
            url, pool_size=4, max_overflow=_CONNECTIONS_MAX - 4, pool_pre_ping=True, isolation_level="REPEATABLE READ"
        )
        # A writer waits for the lock first and must then see what the one before it committed.
        self._writers = self._engine.execution_options(isolation_level="READ COMMITTED")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection in a transaction that sees one consistent state."""
        with _translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give the only writing transaction there is; see Database.write."""
        with _translated(), self._writers.begin() as connection:
            # Sequence numbers are gapless and positions follow commit order only if writers go one after another.
            connection.execute(_LOCK, {"lock": _WRITER_LOCK})
            yield connection

    def publish(self, position: int) -> None:
        """Do nothing: other machines' workers cannot share memory, so they ask the log."""

    def position(self) -> int | None:
        """Return None: the log itself must be asked."""
        return None

    def place(self) -> str:
        """Return which database of which server it is, and on which line of its history: a restored server begins another."""
        with self.read() as connection:
            return str(connection.execute(_PLACE).scalar_one())

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, psycopg.Error) as error:
        # SQLAlchemy wraps what its own execution meets; the rest comes as the driver raised it.
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, psycopg.errors.DiskFull):
            raise StorageFull(hint="free space on the database server's disk") from error
        if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
            message = "the metadata database does not answer"
            raise Unavailable(message, hint="check that PostgreSQL runs and that the database URL is right") from error
        is_unknown_type = isinstance(cause, psycopg.ProgrammingError) and cause.sqlstate is None
        if isinstance(cause, psycopg.DataError | psycopg.IntegrityError) or is_unknown_type:
            raise Unstorable(f"the database does not take these values: {cause}") from error
        raise
