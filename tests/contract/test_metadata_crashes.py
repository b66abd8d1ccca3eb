"""Whatever kills a writer, and however full its disk is: what was acknowledged is there, the rest is whole or absent."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Final

import psycopg
import pytest
from sqlalchemy import Connection, text

from tests.support.metadata import REPOSITORY_OF_IMAGES, Opened, derived_rows, empty, open_sqlite, push, tag_of
from tests.support.metadata_crashes import ACKNOWLEDGED
from tests.support.postgres import Postgres
from twinhull.kit.clock import ManualClock, SystemClock
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import StorageFull, Unavailable
from twinhull.metadata import content
from twinhull.metadata.migrate import migrate
from twinhull.metadata.postgres import PostgresDatabase
from twinhull.metadata.projections.project import rebuild_projections
from twinhull.metadata.store import Store
from twinhull.records.kinds import SETTING

ROOT: Final = Path(__file__).parents[2]
MEBIBYTE: Final = 1 << 20


def tags_of(connection: Connection) -> list[str]:
    """Return the tags of the images that were pushed."""
    return content.tags_page(connection, REPOSITORY_OF_IMAGES, "", 10_000)


def require_sound(store: Store) -> None:
    """Hold log, records, contents and query tables against each other."""
    seqs = [change.seq for _, change in store.changes_since(0, 100_000)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert store.vector().get("n1", 0) == len(seqs)
    with store.read() as connection:
        before = derived_rows(connection)
        for tag in tags_of(connection):
            digest = digest_of(tag.encode())
            assert content.digest_of_tag(connection, REPOSITORY_OF_IMAGES, tag) == digest
            assert content.manifest(connection, REPOSITORY_OF_IMAGES, digest) == ("application/json", tag.encode())
    with store.write() as transaction:
        rebuild_projections(transaction.connection)
    with store.read() as connection:
        assert derived_rows(connection) == before


@pytest.fixture
def quick_disk() -> Iterator[Path]:
    """A directory where fsync costs nothing, if there is one: a kill of the process loses no page either way."""
    with tempfile.TemporaryDirectory(dir=next(filter(os.path.isdir, ["/dev/shm"]), None)) as directory:
        yield Path(directory)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid():
        pytest.skip("only root mounts file systems")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_kill_at_any_moment_loses_nothing_that_was_acknowledged(opened: Opened, store: Store) -> None:
    chance = random.Random(7)
    acknowledged: list[str] = []
    for life in "abc":
        with subprocess.Popen(
            [sys.executable, "-m", "tests.support.metadata", opened.address, "n1", life, "10000"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        ) as process:
            assert process.stdout is not None
            # Two writers at a time, so that the one killed may be holding the lock or waiting for it.
            for _ in range(chance.randint(1, 40)):
                with store.write() as transaction:
                    push(transaction, f"ours-{life}".encode(), tag=f"ours-{life}")
                acknowledged.append(tag_of(int(process.stdout.readline().split()[0]), writer=life))
            process.send_signal(signal.SIGKILL)
            acknowledged += [tag_of(int(line.split()[0]), writer=life) for line in process.stdout if line.endswith("\n")]
    with store.read() as connection:
        assert set(acknowledged) <= set(tags_of(connection))
    require_sound(store)


def test_kill_at_every_line_of_a_write_leaves_it_whole_or_absent(migrated_sqlite: Path, quick_disk: Path) -> None:
    program = [sys.executable, "-m", "tests.support.metadata_crashes", str(migrated_sqlite), str(quick_disk)]
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    kills = int(done.stdout)
    outcomes = set()
    for line in range(1, kills + 2):
        root = quick_disk / f"{line:04}"
        store = Store(open_sqlite(root), node="n1", slot=0, clock=SystemClock())
        acknowledged = (root / ACKNOWLEDGED).exists()
        stale = store.position_hint()
        assert stale is not None
        position = store.refresh_position()
        with store.read() as connection:
            there = "second" in tags_of(connection)
        outcomes.add((acknowledged, there, stale == position))
        # A position is never shown before its changes are durable.
        assert stale <= position == store.position_hint() == store.position() == (5 if there else 3)
        with store.write() as transaction:
            push(transaction, b"third", tag="third")
        assert transaction.seq == (7 if there else 5)
        require_sound(store)
        store.close()
    # Killed before the commit, between commit and publishing, after publishing, and after all.
    assert outcomes == {(False, False, True), (False, True, False), (False, True, True), (True, True, True)}


def test_full_disk_refuses_writes_and_takes_them_again_when_space_is_back(small_disk: Path) -> None:
    filler = small_disk / "filler"
    database = open_sqlite(small_disk)
    migrate(database)
    filler.write_bytes(bytes(2 * MEBIBYTE))
    store = Store(database, node="n1", slot=0, clock=ManualClock())
    number = 0

    def write() -> None:
        tag = f"v{number}"
        with store.write() as transaction:
            push(transaction, tag.encode(), tag=tag)

    with pytest.raises(StorageFull):  # noqa: PT012 - one of these fails
        while True:
            write()
            number += 1
    for _ in range(3):
        with pytest.raises(StorageFull):
            write()
    with store.read() as connection:
        assert len(tags_of(connection)) == number > 0
    position = store.position()
    assert store.position_hint() == position
    filler.unlink()
    for _ in range(5):
        write()
        number += 1
    assert store.vector() == {"n1": 1 + 2 * number}
    require_sound(store)
    with store.read() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    store.close()


def test_lost_connection_is_told_and_the_next_write_has_another(postgres: Postgres, migrated_postgres: str) -> None:
    database = PostgresDatabase(migrated_postgres)
    empty(database)
    store = Store(database, node="n1", slot=0, clock=ManualClock())
    with store.write() as transaction:
        push(transaction, b"v0", tag="v0")

    def write_while_the_server_cuts_it_off() -> None:
        with store.write() as transaction:
            push(transaction, b"v1", tag="v1")
            with psycopg.connect(host=str(postgres.socket_directory), user="postgres", dbname="postgres") as server:
                server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'metadata'")
            push(transaction, b"v2", tag="v2")

    with pytest.raises(Unavailable, match="does not answer"):
        write_while_the_server_cuts_it_off()
    with store.write() as transaction:
        push(transaction, b"v3", tag="v3")
    assert transaction.seq == 5
    with store.read() as connection:
        assert tags_of(connection) == ["v0", "v3"]
    require_sound(store)
    store.close()


# -- the page that the processes of a node share -----------------------------------------------------------------------


def test_position_that_another_process_reached_is_seen_without_asking_the_database(
    tmp_path: Path, migrated_sqlite: Path
) -> None:
    (tmp_path / "metadata.db").write_bytes(migrated_sqlite.read_bytes())
    database = open_sqlite(tmp_path)
    assert database.position() == 0
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.metadata", str(tmp_path), "n1", "x", "2"],
        stdout=subprocess.PIPE,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout == b"0 3\n1 5\n"
    assert database.position() == 5
    database.close()


def test_shared_position_only_grows_while_many_write(quick_disk: Path, migrated_sqlite: Path) -> None:
    (quick_disk / "metadata.db").write_bytes(migrated_sqlite.read_bytes())
    # Two openings of one file hold each other up as two processes do.
    stores = [Store(open_sqlite(quick_disk), node="n1", slot=0, clock=SystemClock()) for _ in range(2)]
    done = threading.Event()
    seen: list[int] = []

    def watch() -> None:
        while not done.is_set():
            position = stores[0].position_hint()
            assert position is not None
            if not seen or position != seen[-1]:
                seen.append(position)

    def write(number: int) -> None:
        for part in range(40):
            with stores[number % 2].write() as transaction:
                transaction.create(SETTING, f"{number}-{part}", {"value": 1})
            hint = stores[1 - number % 2].position_hint()
            assert hint is not None
            assert hint >= transaction.position

    with ThreadPoolExecutor(5) as executor:
        watching = executor.submit(watch)
        try:
            list(executor.map(write, range(4)))
        finally:
            done.set()
        watching.result()
    assert all(earlier < later for earlier, later in pairwise(seen))
    assert stores[0].position_hint() == 160
    for store in stores:
        store.close()
