"""Schema changes, as Alembic revisions; each release's database is brought to the newest one at start."""
