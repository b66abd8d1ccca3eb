"""Nodes, settings and accounts. There is no way back from it but an empty data directory."""

from __future__ import annotations

from alembic import op

from twinhull.metadata.migrations.columns import flag, long_text, number, short_text, small_number

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "users",
        *(short_text("name", 255, key=True), number("id")),
        *(short_text("email", 255), short_text("realname", 255), long_text("comment"), long_text("password_hash")),
        *(flag("sysadmin"), flag("disabled"), number("created_ms"), number("updated_ms")),
    )
    op.create_index("users_by_id", "users", ["id"])
    op.create_index("users_by_email", "users", ["email"])
    op.create_table(
        "projects",
        *(short_text("name", 255, key=True), number("id"), short_text("owner", 255)),
        *(long_text("metadata"), flag("public"), number("created_ms"), number("updated_ms")),
    )
    op.create_index("projects_by_id", "projects", ["id"])
    op.create_table(
        "members",
        *(short_text("project", 255, key=True), short_text("entity_type", 1, key=True), short_text("entity", 255, key=True)),
        *(number("id"), small_number("role"), number("created_ms"), number("updated_ms")),
    )
    op.create_index("members_by_entity", "members", ["entity", "entity_type"])
    op.create_index("members_by_id", "members", ["id"])
    op.create_table(
        "robots",
        *(short_text("name", 512, key=True), number("id"), short_text("level", 16), short_text("project", 255)),
        *(long_text("description"), long_text("permissions"), flag("disable"), long_text("secret_hash")),
        *(number("duration_days"), number("expires_at_s"), number("created_ms"), number("updated_ms")),
    )
    op.create_index("robots_by_id", "robots", ["id"])
    op.create_index("robots_by_project", "robots", ["project"])
    op.create_table("id_aliases", short_text("kind", 32, key=True), number("id", key=True), short_text("key", 1024))
    op.create_table("settings", short_text("name", 255, key=True), long_text("value"))
    op.create_table(
        "nodes",
        *(
            short_text("id", 64, key=True),
            short_text("name", 255),
            small_number("slot"),
            short_text("address", 255),
            short_text("url", 255),
        ),
        *(long_text("token_keys"), number("joined_ms")),
    )
