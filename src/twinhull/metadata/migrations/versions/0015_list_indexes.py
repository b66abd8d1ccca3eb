"""Indexes that hold all it takes to find a page of a long list. There is no way back from it but an empty data directory."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes, two of them anew with further columns."""
    op.drop_index("manifests_listed", "manifests")
    op.create_index("manifests_listed", "manifests", ["repository", "listed", "pushed_ms", "id", "tagged", "digest"])
    op.drop_index("manifest_blobs_by_blob", "manifest_blobs")
    op.create_index("manifest_blobs_by_blob", "manifest_blobs", ["blob", "size"])
    op.create_index("repositories_listed", "repositories", ["project", "created_ms", "id", "name"])
    op.create_index("repositories_by_age", "repositories", ["created_ms", "id", "project", "name"])
