"""Tags by what they name, with their names. There is no way back from it but an empty data directory."""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index anew with a further column."""
    op.drop_index("tags_by_digest", "tags")
    op.create_index("tags_by_digest", "tags", ["repository", "digest", "name"])
