"""Brings a database to this release's schema: in one transaction, so that a crash leaves the old one or the new one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from twinhull.kit.errors import Unavailable
from twinhull.metadata.database import Database
from twinhull.metadata.projections.project import rebuild_projections

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def migrate(database: Database) -> None:
    """Make or upgrade the tables; Unavailable when a newer release has written them.

    After an upgrade what is made from records is made anew, since new columns want to be filled: some time for many records.
    """
    with database.write() as connection:
        before = revision_of(connection)
        migrate_to(connection, "head")
        if before is not None and before != revision_of(connection):
            rebuild_projections(connection)


def migrate_to(connection: Connection, revision: str) -> None:
    """Do that up to a revision, in a writing transaction; Unavailable when this release does not know it."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    current, wanted = revision_of(connection), scripts.get_current_head() if revision == "head" else revision
    known = {script.revision for script in scripts.walk_revisions()}
    unknown = next((one for one in (current, wanted) if one is not None and one not in known), None)
    if unknown is not None:
        message = f"the metadata database is of a newer release (revision {unknown})"
        raise Unavailable(message, hint="start that release, or restore the backup made before the upgrade")
    if current != wanted:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def revision_of(connection: Connection) -> str | None:
    """Return which revision the tables are of, or None if there are none."""
    return MigrationContext.configure(connection).get_current_revision()
