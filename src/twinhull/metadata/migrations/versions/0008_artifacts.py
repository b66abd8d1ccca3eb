"""What Harbor's lists show of artifacts. There is no way back from it but an empty data directory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from twinhull.metadata.migrations.columns import flag, long_text, short_text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; they are filled when the tables are made anew from the records."""
    texts = [
        short_text("config_type", 255),
        short_text("type", 64),
        short_text("icon", 160),
        long_text("attributes"),
        short_text("accessory_type", 64),
        short_text("accessory_of", 160),
    ]
    for column in texts:
        column.server_default = sa.DefaultClause("")
        op.add_column("manifests", column)
    for mark in (flag("tagged"), flag("listed")):
        mark.server_default = sa.DefaultClause(sa.false())
        op.add_column("manifests", mark)
    op.create_index("manifests_by_accessory_of", "manifests", ["repository", "accessory_of"])
    op.create_index("manifests_listed", "manifests", ["repository", "listed", "pushed_ms", "id", "tagged"])
