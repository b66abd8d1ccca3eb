"""The log: records, manifests' bytes, changes. There is no way back from it but an empty data directory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from twinhull.metadata.migrations.columns import blob, flag, number, short_text, small_number

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "records",
        short_text("kind", 32, key=True),
        short_text("key", 1024, key=True),
        blob("record"),
        flag("dead"),
        small_number("bucket"),
        number("summary"),
    )
    op.create_index("records_by_bucket", "records", ["kind", "bucket", "summary"])
    op.create_table("manifest_contents", short_text("digest", 160, key=True), blob("content"))
    op.create_table(
        "changes",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        short_text("origin", 64),
        number("seq"),
        short_text("kind", 32),
        short_text("key", 1024),
        blob("record"),
        sqlite_autoincrement=True,
    )
    op.create_index("changes_by_origin", "changes", ["origin", "seq"], unique=True)
