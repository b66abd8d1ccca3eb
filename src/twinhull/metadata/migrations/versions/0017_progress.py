"""What each node has applied, and what is dead. There is no way back from it but an empty data directory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from twinhull.metadata.migrations.columns import number, short_text

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, and let what is dead be found, and left out of the state root, without reading the rest."""
    op.create_table(
        "progress",
        *(short_text("node", 64, key=True), short_text("origin", 64, key=True), number("applied"), number("dropped")),
    )
    is_dead = sa.text("dead")
    op.create_index("records_dead", "records", ["kind", "key"], sqlite_where=is_dead, postgresql_where=is_dead)
    op.drop_index("records_by_bucket", "records")
    op.create_index("records_by_bucket", "records", ["kind", "dead", "bucket", "summary"])
