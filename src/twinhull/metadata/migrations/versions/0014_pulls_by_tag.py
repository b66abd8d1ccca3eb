"""When artifacts were pulled by which tag. There is no way back from it but an empty data directory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from twinhull.metadata.migrations.columns import long_text

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    column = long_text("tags")
    column.server_default = sa.DefaultClause("{}")
    op.add_column("pulls", column)
