"""Indexes by what is named and where, in that order. There is no way back from it but an empty data directory."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them anew with the repository in them."""
    op.drop_index("blob_links_by_digest", "blob_links")
    op.create_index("blob_links_by_digest", "blob_links", ["digest", "repository"])
    op.drop_index("manifests_by_digest", "manifests")
    op.create_index("manifests_by_digest", "manifests", ["digest", "repository"])
    op.drop_index("manifest_blobs_by_blob", "manifest_blobs")
    op.create_index("manifest_blobs_by_blob", "manifest_blobs", ["blob", "repository", "size"])
