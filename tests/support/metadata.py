"""Metadata stores to test with, what is in their tables, and a program that writes into one until it is killed.

Started as `python -m tests.support.metadata ADDRESS NODE COUNT`; prints a line for each write that it was acknowledged.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, delete, select, text

from twinhull.kit.clock import SystemClock
from twinhull.kit.digest import digest_of
from twinhull.metadata import schema
from twinhull.metadata.database import Database
from twinhull.metadata.postgres import PostgresDatabase
from twinhull.metadata.sqlite import SqliteDatabase
from twinhull.metadata.store import Store
from twinhull.metadata.tables.columns import DERIVED
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import MANIFEST, REPOSITORY, TAG, content_key, tag_key
from twinhull.records.merge import Value

REPOSITORY_OF_IMAGES: Final = "library/app"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A database, and the address by which another process opens the same."""

    database: Database
    address: str


def open_sqlite(directory: Path) -> SqliteDatabase:
    """Open the SQLite file of a directory."""
    return SqliteDatabase(directory / "metadata.db", run_dir=directory / "run")


def open_address(address: str) -> Database:
    """Open the database of an address: a directory, or a URL."""
    return PostgresDatabase(address) if "://" in address else open_sqlite(Path(address))


def exchange(ours: Store, theirs: Store) -> None:
    """Bring every record of either store to the other."""
    for source, target in ((ours, theirs), (theirs, ours)):
        with target.write() as transaction:
            for change in source.records_after("", "", 10_000).records:
                transaction.merge_record(change)


def empty(database: Database) -> None:
    """Take everything out of a PostgreSQL database: that is quicker than making another."""
    with database.write() as connection:
        for table in schema.metadata.sorted_tables:
            connection.execute(delete(table))
        connection.execute(text("ALTER SEQUENCE changes_position_seq RESTART"))


def derived_rows(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that is in the derived tables."""
    return {
        table.name: sorted(tuple(row) for row in connection.execute(select(table)))
        for table in schema.metadata.sorted_tables
        if table.info == DERIVED
    }


def manifest_fields(*, blobs: Mapping[str, int] | None = None, children: tuple[str, ...] = ()) -> dict[str, Value]:
    """Return the fields of a manifest's record."""
    listed = [[blob, size, True] for blob, size in (blobs or {}).items()]
    return {"media_type": "application/json", "blobs": listed, "children": list(children), "pushed_ms": 1}


def push(transaction: Transaction, content: bytes, *, repository: str = REPOSITORY_OF_IMAGES, tag: str = "latest") -> str:
    """Write what the push of an image writes, and return the manifest's digest."""
    digest = digest_of(content)
    if transaction.values(REPOSITORY, repository) is None:
        transaction.create(REPOSITORY, repository, {"created_ms": 1}, number=transaction.next_id(REPOSITORY))
    transaction.put_content(digest, content)
    key = content_key(repository, digest)
    if transaction.values(MANIFEST, key) is None:
        transaction.create(MANIFEST, key, manifest_fields(), number=transaction.next_id(MANIFEST))
    else:
        transaction.put(MANIFEST, key, {})
    key, target = tag_key(repository, tag), {"target": {"digest": digest, "immutable": False, "pushed_ms": 1, "pushed_by": "a"}}
    if transaction.values(TAG, key) is None:
        transaction.create(TAG, key, target, number=transaction.next_id(TAG))
    else:
        transaction.put(TAG, key, target)
    return digest


def tag_of(number: int, *, writer: str) -> str:
    """Return the tag of a writer's image."""
    return f"{writer}-{number:04}"


def write_images(address: str, node: str, writer: str, count: int) -> None:
    """Push one image after another, each with a tag of its own, saying its change number once it is acknowledged."""
    store = Store(open_address(address), node=node, slot=0, clock=SystemClock())
    for number in range(count):
        tag = tag_of(number, writer=writer)
        with store.write() as transaction:
            push(transaction, tag.encode(), tag=tag)
        print(number, transaction.seq, flush=True)  # noqa: T201 - that is what it tells its parent
    store.close()


if __name__ == "__main__":
    write_images(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
