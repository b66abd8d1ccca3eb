"""A node's backup and its restoring, put together from the settings."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import BinaryIO

from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.config.settings import Settings
from twinhull.kit.clock import SystemClock
from twinhull.metadata.database import Database
from twinhull.metadata.postgres import PostgresDatabase
from twinhull.metadata.sqlite import SqliteDatabase
from twinhull.metadata.store import Store
from twinhull.node.parts import database_of, trust_of
from twinhull.upkeep import backing_up, restoring
from twinhull.upkeep.archive import Header, Trailer


def back_up(settings: Settings, sink: BinaryIO, track: backing_up.Track) -> Trailer:
    """Write a backup of the node, which may be serving meanwhile."""
    identity = trust_of(settings).identity()
    with closing(Store(database_of(settings), node=identity.node, slot=identity.slot, clock=SystemClock())) as store:
        subject = backing_up.Subject(
            cluster=identity.cluster,
            node=identity.node,
            name=identity.name,
            keys=settings.data_dir / "node",
            store=store,
            blobs=FilesystemBlobs(settings.data_dir),
        )
        return backing_up.back_up(subject, sink, track)


def restore(settings: Settings, source: BinaryIO, track: restoring.Track) -> tuple[Header, Trailer]:
    """Make the node of a backup anew in the data directory of the settings, and in their database."""
    return restoring.restore(source, settings.data_dir, partial(_empty_database, settings), track)


def _empty_database(settings: Settings, folder: Path) -> Database:
    url = settings.database_url.reveal()
    if url.startswith("postgresql"):
        return PostgresDatabase(url)
    return SqliteDatabase(folder / "metadata.db", run_dir=folder / "run")
