"""Repositories and what is in them. There is no way back from it but an empty data directory."""

from __future__ import annotations

from alembic import op

from twinhull.metadata.migrations.columns import flag, long_text, number, short_text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "repositories",
        *(short_text("name", 255, key=True), short_text("project", 255), number("id"), long_text("description")),
        *(number("created_ms"), number("updated_ms")),
    )
    op.create_index("repositories_by_project", "repositories", ["project", "name"])
    op.create_index("repositories_by_id", "repositories", ["id"])
    op.create_table(
        "manifests",
        *(short_text("repository", 255, key=True), short_text("digest", 160, key=True), number("id")),
        *(
            short_text("media_type", 255),
            short_text("artifact_type", 255),
            short_text("config_digest", 160),
            short_text("subject", 160),
        ),
        *(number("manifest_bytes"), number("total_bytes"), long_text("annotations")),
        *(number("pushed_ms"), short_text("pushed_by", 512)),
    )
    op.create_index("manifests_by_subject", "manifests", ["repository", "subject"])
    op.create_index("manifests_by_digest", "manifests", ["digest"])
    op.create_index("manifests_by_id", "manifests", ["id"])
    op.create_table(
        "manifest_blobs",
        *(short_text("repository", 255, key=True), short_text("manifest", 160, key=True), short_text("blob", 160, key=True)),
        *(number("size"), flag("required")),
    )
    op.create_index("manifest_blobs_by_repository", "manifest_blobs", ["repository", "blob"])
    op.create_index("manifest_blobs_by_blob", "manifest_blobs", ["blob"])
    op.create_table(
        "manifest_children",
        *(short_text("repository", 255, key=True), short_text("parent", 160, key=True), short_text("child", 160, key=True)),
    )
    op.create_index("manifest_children_by_child", "manifest_children", ["repository", "child"])
    op.create_table(
        "tags",
        *(short_text("repository", 255, key=True), short_text("name", 128, key=True), number("id"), short_text("digest", 160)),
        *(flag("immutable"), number("pushed_ms"), short_text("pushed_by", 512)),
    )
    op.create_index("tags_by_digest", "tags", ["repository", "digest"])
    op.create_table(
        "blob_links",
        *(short_text("repository", 255, key=True), short_text("digest", 160, key=True), number("size"), number("linked_ms")),
    )
    op.create_index("blob_links_by_digest", "blob_links", ["digest"])
