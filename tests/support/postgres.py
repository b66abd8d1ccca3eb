"""Runs a real PostgreSQL of the tests' own, reached by a unix socket in its own folder, so that no port can clash."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tests.support.clients import require_client, unavailable
from tests.support.processes import ServerFailed, stop, wait_until

START_LIMIT_S: Final = 60
STOP_LIMIT_S: Final = 30
# What is tested is our SQL, not PostgreSQL's promise to keep it through a power cut.
FAST: Final = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "max_connections=200")


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A running server; the role `postgres` needs no password."""

    socket_directory: Path

    @property
    def url(self) -> str:
        """Return the SQLAlchemy URL of the database that is always there."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.socket_directory}"

    def create_database(self, name: str) -> str:
        """Make the empty database, dropping one of that name with its connections first, and return its SQLAlchemy URL."""
        quoted = psycopg.sql.Identifier(name)
        with psycopg.connect(
            host=str(self.socket_directory), user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(quoted))
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(quoted))
        return self.url_of(name)


def _account() -> pwd.struct_passwd:
    """Return whom the server runs as: PostgreSQL refuses root."""
    try:
        return pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    except KeyError:
        unavailable("PostgreSQL refuses root, and there is no user postgres")


def _accepts(directory: Path) -> bool:
    """Say whether the server takes connections."""
    try:
        psycopg.connect(host=str(directory), user="postgres", dbname="postgres", connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _initialise(binaries: Path, directory: Path, account: pwd.struct_passwd) -> None:
    """Lay a new database cluster down, or raise ServerFailed."""
    words = ["-D", str(directory / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    done = subprocess.run(
        [str(binaries / "initdb"), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "HOME": str(directory)},
        timeout=START_LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise ServerFailed(f"initdb failed:\n{done.stdout.decode()}\n{done.stderr.decode()}")


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server on a new, empty database cluster, and stop it and drop its files at the end."""
    program = require_client("postgres")
    account = _account()
    # Not pytest's tmp_path: that is closed to other users, and a unix socket's path may have 107 characters only.
    directory = Path(tempfile.mkdtemp(prefix="th-postgres-"))
    os.chown(directory, account.pw_uid, account.pw_gid)
    log = directory / "log"
    try:
        _initialise(program.parent, directory, account)
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [
                    *(str(require_client("setpriv")), "--pdeathsig", "INT", str(program)),
                    *("-D", str(directory / "data"), "-k", str(directory)),
                    *(word for option in FAST for word in ("-c", option)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=[],
                cwd=directory,
                env={"PATH": "/usr/bin:/bin", "HOME": str(directory)},
                start_new_session=True,
            )
        try:
            wait_until(lambda: _accepts(directory), process=process, log=log, limit_s=START_LIMIT_S)
            yield Postgres(socket_directory=directory)
        finally:
            # SIGINT is PostgreSQL's fast shutdown: open connections are cut, none is waited for.
            stop(process, signal.SIGINT, limit_s=STOP_LIMIT_S)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run one server for all tests of the session; each test makes its own database in it."""
    with running_postgres() as server:
        yield server
