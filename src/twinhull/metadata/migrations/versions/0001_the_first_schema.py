"""The first schema. There is no way back from it but an empty data directory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make all tables."""
    _make_log()
    _make_accounts()
    _make_content()
    _make_what_is_this_nodes_own()


def _name(name: str, length: int, *, key: bool = False) -> sa.Column[str]:
    in_order_of_bytes = sa.String(length, collation="C")
    return sa.Column(name, sa.String(length).with_variant(in_order_of_bytes, "postgresql"), primary_key=key, nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def _number(name: str, *, key: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), primary_key=key, autoincrement=False, nullable=False)


def _small(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _make_log() -> None:
    op.create_table(
        "records",
        _name("kind", 32, key=True),
        _name("key", 1024, key=True),
        _bytes("record"),
        _flag("dead"),
        _small("bucket"),
        _number("summary"),
    )
    op.create_index("records_by_bucket", "records", ["kind", "bucket", "summary"])
    op.create_table("manifest_contents", _name("digest", 160, key=True), _bytes("content"))
    op.create_table(
        "changes",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        _name("origin", 64),
        _number("seq"),
        _name("kind", 32),
        _name("key", 1024),
        _bytes("record"),
        sqlite_autoincrement=True,
    )
    op.create_index("changes_by_origin", "changes", ["origin", "seq"], unique=True)


def _make_accounts() -> None:
    op.create_table(
        "users",
        *(_name("name", 255, key=True), _number("id")),
        *(_name("email", 255), _name("realname", 255), _text("comment"), _text("password_hash")),
        *(_flag("sysadmin"), _flag("disabled"), _number("created_ms"), _number("updated_ms")),
    )
    op.create_index("users_by_id", "users", ["id"])
    op.create_index("users_by_email", "users", ["email"])
    op.create_table(
        "projects",
        *(_name("name", 255, key=True), _number("id"), _name("owner", 255)),
        *(_text("metadata"), _flag("public"), _number("created_ms"), _number("updated_ms")),
    )
    op.create_index("projects_by_id", "projects", ["id"])
    op.create_table(
        "members",
        *(_name("project", 255, key=True), _name("entity_type", 1, key=True), _name("entity", 255, key=True)),
        *(_number("id"), _small("role"), _number("created_ms"), _number("updated_ms")),
    )
    op.create_index("members_by_entity", "members", ["entity", "entity_type"])
    op.create_index("members_by_id", "members", ["id"])
    op.create_table(
        "robots",
        *(_name("name", 512, key=True), _number("id"), _name("level", 16), _name("project", 255)),
        *(_text("description"), _text("permissions"), _flag("disable"), _text("secret_hash")),
        *(_number("duration_days"), _number("expires_at_s"), _number("created_ms"), _number("updated_ms")),
    )
    op.create_index("robots_by_id", "robots", ["id"])
    op.create_index("robots_by_project", "robots", ["project"])
    op.create_table("id_aliases", _name("kind", 32, key=True), _number("id", key=True), _name("key", 1024))
    op.create_table("settings", _name("name", 255, key=True), _text("value"))
    op.create_table(
        "nodes",
        *(_name("id", 64, key=True), _name("name", 255), _small("slot"), _name("address", 255), _name("url", 255)),
        *(_text("token_keys"), _number("joined_ms")),
    )


def _make_content() -> None:
    op.create_table(
        "repositories",
        *(_name("name", 255, key=True), _name("project", 255), _number("id"), _text("description")),
        *(_number("created_ms"), _number("updated_ms")),
    )
    op.create_index("repositories_by_project", "repositories", ["project", "name"])
    op.create_index("repositories_by_id", "repositories", ["id"])
    op.create_table(
        "manifests",
        *(_name("repository", 255, key=True), _name("digest", 160, key=True), _number("id")),
        *(_name("media_type", 255), _name("artifact_type", 255), _name("config_digest", 160), _name("subject", 160)),
        *(_number("manifest_bytes"), _number("total_bytes"), _text("annotations")),
        *(_number("pushed_ms"), _name("pushed_by", 512)),
    )
    op.create_index("manifests_by_subject", "manifests", ["repository", "subject"])
    op.create_index("manifests_by_digest", "manifests", ["digest"])
    op.create_index("manifests_by_id", "manifests", ["id"])
    op.create_table(
        "manifest_blobs",
        *(_name("repository", 255, key=True), _name("manifest", 160, key=True), _name("blob", 160, key=True)),
        *(_number("size"), _flag("required")),
    )
    op.create_index("manifest_blobs_by_repository", "manifest_blobs", ["repository", "blob"])
    op.create_index("manifest_blobs_by_blob", "manifest_blobs", ["blob"])
    op.create_table(
        "manifest_children",
        *(_name("repository", 255, key=True), _name("parent", 160, key=True), _name("child", 160, key=True)),
    )
    op.create_index("manifest_children_by_child", "manifest_children", ["repository", "child"])
    op.create_table(
        "tags",
        *(_name("repository", 255, key=True), _name("name", 128, key=True), _number("id"), _name("digest", 160)),
        *(_flag("immutable"), _number("pushed_ms"), _name("pushed_by", 512)),
    )
    op.create_index("tags_by_digest", "tags", ["repository", "digest"])
    op.create_table(
        "blob_links",
        *(_name("repository", 255, key=True), _name("digest", 160, key=True), _number("size"), _number("linked_ms")),
    )
    op.create_index("blob_links_by_digest", "blob_links", ["digest"])


def _make_what_is_this_nodes_own() -> None:
    op.create_table("origins", _name("origin", 64, key=True), _number("seq"), _number("floor"))
    op.create_table("hybrid_clock", _name("node", 64, key=True), _number("ms"), _number("counter"))
    op.create_table("id_counters", _name("kind", 32, key=True), _number("last_id"))
    op.create_table("invites", _name("secret_hash", 64, key=True), _number("expires_ms"))
    op.create_table("peer_acknowledgements", _name("node", 64, key=True), _text("vector"), _number("heard_ms"))
    op.create_table(
        "conflicts",
        *(_name("kind", 32, key=True), _name("key", 1024, key=True), _name("field", 64, key=True)),
        *(_name("dots", 1024, key=True), _text("winner"), _text("candidates"), _number("recorded_ms")),
    )
