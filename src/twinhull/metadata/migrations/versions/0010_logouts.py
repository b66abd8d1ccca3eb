"""Sessions of browsers that were logged out. There is no way back from it but an empty data directory."""

from __future__ import annotations

from alembic import op

from twinhull.metadata.migrations.columns import number, short_text

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table("ended_sessions", *(short_text("id", 64, key=True), number("expires_ms")))
