"""A sum over each change in the log. There is no way back from it but an empty data directory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from twinhull.metadata.migrations.columns import number

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what is in the log already has none."""
    column = number("summary")
    column.server_default = sa.DefaultClause("0")
    op.add_column("changes", column)
