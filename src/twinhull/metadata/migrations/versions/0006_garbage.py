"""What may be garbage, and the collections. There is no way back from it but an empty data directory."""

from __future__ import annotations

from alembic import op

from twinhull.metadata.migrations.columns import long_text, number, short_text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "garbage_candidates",
        *(short_text("digest", 160, key=True), short_text("repository", 255, key=True), number("since_ms")),
    )
    op.create_index("garbage_candidates_by_since", "garbage_candidates", ["since_ms"])
    op.create_table(
        "collections",
        *(number("id", key=True), short_text("status", 16), long_text("wanted"), long_text("outcome"), long_text("error")),
        *(number("asked_ms"), number("started_ms"), number("ended_ms")),
    )
    op.create_index("collections_by_status", "collections", ["status"])
