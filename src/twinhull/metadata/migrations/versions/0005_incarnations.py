"""Under which origin a node writes since it was restored. There is no way back from it but an empty data directory."""

from __future__ import annotations

from alembic import op

from twinhull.metadata.migrations.columns import number, short_text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "incarnations",
        *(short_text("node", 64, key=True), short_text("origin", 64), number("first_block"), short_text("place", 255)),
    )
