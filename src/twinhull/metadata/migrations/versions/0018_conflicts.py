"""Conflicts have a name of their own. There is no way back from it but an empty data directory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from twinhull.metadata.migrations.columns import short_text

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. What was noted before is left out: its records show what still stands."""
    op.execute("DELETE FROM conflicts")
    column = short_text("id", 32)
    column.server_default = sa.DefaultClause("")
    op.add_column("conflicts", column)
    op.create_index("conflicts_by_id", "conflicts", ["id"])
    op.create_index("conflicts_by_time", "conflicts", ["recorded_ms"])
