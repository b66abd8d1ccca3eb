"""Users who come from a directory or a provider. There is no way back from it but an empty data directory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from twinhull.metadata.migrations.columns import flag, long_text, short_text

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; they are filled when the tables are made anew from the records."""
    for column, empty in (
        (short_text("source", 16), ""),
        (short_text("external_id", 512), ""),
        (long_text("groups"), "[]"),
        (long_text("cli_secret"), ""),
    ):
        column.server_default = sa.DefaultClause(empty)
        op.add_column("users", column)
    mark = flag("admin_in_auth")
    mark.server_default = sa.DefaultClause(sa.false())
    op.add_column("users", mark)
    op.create_index("users_by_external_id", "users", ["external_id"])
