"""How much projects store. There is no way back from it but an empty data directory."""

from __future__ import annotations

from alembic import op

from twinhull.metadata.migrations.columns import number, short_text

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; it is filled when the tables are made anew from the records."""
    op.create_table("project_usage", *(short_text("project", 255, key=True), number("bytes")))
