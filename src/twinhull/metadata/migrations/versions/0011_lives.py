"""In which lives of project and user a member or robot was made. There is no way back from it but an empty data directory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from twinhull.metadata.migrations.columns import number

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; they are filled when the tables are made anew from the records."""
    for table, name in (("members", "project_life"), ("members", "entity_life"), ("robots", "project_life")):
        column = number(name)
        column.server_default = sa.DefaultClause("0")
        op.add_column(table, column)
