"""SQLite under the metadata: WAL, fsync on commit, one writer at a time across processes without busy waiting."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import sqlite3
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from twinhull.kit.errors import StorageFull, Unavailable, Unstorable

# Native: only that is one access to memory, so that no process can read half of a position.
_POSITION: Final = struct.Struct("@Q")
# What the first bits of an error code say of a disk that is full or failing.
_DISK_CODES: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
_CONNECTIONS_MAX: Final = 32
# Of pages, for each connection: what is used all the time. The rest lies in the system's own cache, once for all of them.
_CACHE_KB: Final = 1000
# How the driver begins to say that a value is of a type that no column can hold.
_BINDING: Final = "Error binding parameter"


class SqliteDatabase:
    """One SQLite file with a lock file and a shared page beside it."""

    def __init__(self, path: Path, *, run_dir: Path) -> None:
        """Open or make the file; `run_dir` holds the lock and the page that the node's processes share."""
        path.parent.mkdir(parents=True, exist_ok=True)
        run_dir.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._engine = _engine(path)
        self._writer: Connection | None = None
        # The position that the running transaction will have reached.
        self._due: int | None = None
        self._thread_lock = threading.Lock()
        self._lock_fd = os.open(run_dir / "write.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._page = _open_page(run_dir / "position")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection in a transaction that sees one consistent state."""
        with _translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give the only writing transaction there is; see Database.write."""
        # SQLite's own busy handler polls with sleeps; waiting in the kernel for the lock file costs nothing and is
        # prompt. The thread lock comes first, since the file lock belongs to the whole process.
        with self._thread_lock:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            try:
                with _translated():
                    if self._writer is None:
                        self._writer = self._engine.connect().execution_options(twinhull_writes=True)
                    try:
                        with self._writer.begin():
                            yield self._writer
                    except BaseException:
                        # Whatever state the failure left the connection in, the pool clears it before it is used again.
                        writer, self._writer = self._writer, None
                        writer.close()
                        raise
                if self._due is not None:
                    _POSITION.pack_into(self._page, 0, self._due)
            finally:
                self._due = None
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def publish(self, position: int) -> None:
        """Have `write` put the position into the shared page as soon as it has committed."""
        self._due = position

    def position(self) -> int | None:
        """Read the position from the shared page."""
        position: int = _POSITION.unpack_from(self._page, 0)[0]
        return position

    def place(self) -> str:
        """Return the file's inode: copies, and files that were unpacked again, have another."""
        return f"inode {self._path.stat().st_ino}"

    def close(self) -> None:
        """Close all connections and the page; nothing the second time."""
        if self._lock_fd < 0:
            return
        if self._writer is not None:
            self._writer.close()
        self._engine.dispose()
        self._page.close()
        os.close(self._lock_fd)
        # Its number may be another file's by the time of a second call.
        self._lock_fd = -1


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=4,
        max_overflow=_CONNECTIONS_MAX - 4,
        # The one that was used last: its pages are at hand, and others do not fill their memory with the same ones.
        pool_use_lifo=True,
        connect_args={"check_same_thread": False, "timeout": 30, "cached_statements": 512},
    )

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own transaction handling is switched off: BEGIN is said below, by us.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"cache_size=-{_CACHE_KB}",
            "temp_store=MEMORY",
            "wal_autocheckpoint=4000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("twinhull_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _open_page(path: Path) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(fd).st_size < mmap.PAGESIZE:
            os.ftruncate(fd, mmap.PAGESIZE)
        return mmap.mmap(fd, mmap.PAGESIZE)
    finally:
        os.close(fd)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's failures that an operator can do something about into ours."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        # SQLAlchemy wraps what its own execution meets; the rest comes as the driver raised it.
        cause = error.orig if isinstance(error, DBAPIError) else error
        code = getattr(cause, "sqlite_errorcode", None)
        if code is not None and code & 0xFF == sqlite3.SQLITE_FULL:
            raise StorageFull(hint="free space on the disk that holds the data directory") from error
        if code is not None and code & 0xFF in _DISK_CODES:
            message = "the metadata database cannot be read or written"
            raise Unavailable(message, hint="the disk that holds the data directory is full or failing") from error
        if code is not None and code & 0xFF == sqlite3.SQLITE_BUSY:
            message = "the metadata database is locked by another program"
            raise Unavailable(message, hint="let nothing but Twinhull open metadata.db") from error
        if isinstance(cause, sqlite3.IntegrityError) or _BINDING in str(cause):
            raise Unstorable(f"the database does not take these values: {cause}") from error
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(hint="free space on the disk that holds the data directory") from error
        raise
