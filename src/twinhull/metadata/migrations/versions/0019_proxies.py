"""Which registry a project stands for. There is no way back from it but an empty data directory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from twinhull.metadata.migrations.columns import short_text

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; it is filled when the tables are made anew from the records."""
    column = short_text("registry", 512)
    column.server_default = sa.DefaultClause("")
    op.add_column("projects", column)
