"""What Alembic runs: the revisions, on the connection that metadata/migrate.py opened and will commit."""

from __future__ import annotations

from alembic import context

from twinhull.metadata.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
