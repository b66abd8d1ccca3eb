"""Brings a database to this release's schema: in one transaction, so that a crash leaves the old one or the new one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from twinhull.kit.errors import Unavailable
from twinhull.metadata.database import Database

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def migrate(database: Database) -> None:
    """Make or upgrade the tables; Unavailable when a newer release has written them."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    with database.write() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        known = {script.revision for script in scripts.walk_revisions()}
        if current is not None and current not in known:
            message = f"the metadata database is of a newer release (revision {current})"
            raise Unavailable(message, hint="start that release, or restore the backup made before the upgrade")
        if current != scripts.get_current_head():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
