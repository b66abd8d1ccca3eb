"""The tables. Each is declared replicated, derived or node-local here, in one place; a test fails when one is not.

Replicated: what peers exchange. Derived: projections of records, rebuilt from them at any time. Node-local: facts about
this node alone. Times are milliseconds since 1970; sizes are bytes.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text, text
from sqlalchemy.sql.elements import TextClause

metadata: Final = MetaData()

REPLICATED: Final = {"replication": "replicated"}
DERIVED: Final = {"replication": "derived"}
NODE_LOCAL: Final = {"replication": "node-local"}

# -- replicated ----------------------------------------------------------------------------------------------------

records: Final = Table(
    "records",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("key", String(1024), primary_key=True),
    Column("record", LargeBinary, nullable=False),
    Column("dead", Boolean, nullable=False),
    # 0 to 255 by hash of the key; with the hash of the record's dots this makes the state root.
    Column("bucket", Integer, nullable=False),
    Column("summary", BigInteger, nullable=False),
    Index("records_by_bucket", "kind", "bucket", "summary"),
    info=REPLICATED,
)
manifest_contents: Final = Table(
    "manifest_contents",
    metadata,
    Column("digest", String(160), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    info=REPLICATED,
)
changes: Final = Table(
    "changes",
    metadata,
    # The order in which this node wrote or applied; readers keep their cursor in it.
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("origin", String(64), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("key", String(1024), nullable=False),
    Column("record", LargeBinary, nullable=False),
    Index("changes_by_origin", "origin", "seq", unique=True),
    sqlite_autoincrement=True,
    info=REPLICATED,
)

# -- derived -------------------------------------------------------------------------------------------------------

nodes: Final = Table(
    "nodes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("slot", Integer, nullable=False),
    Column("address", String(255), nullable=False),
    Column("url", String(255), nullable=False),
    Column("token_keys", Text, nullable=False),
    Column("joined_ms", BigInteger, nullable=False),
    info=DERIVED,
)
settings: Final = Table(
    "settings",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("value", Text, nullable=False),
    info=DERIVED,
)
users: Final = Table(
    "users",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("email", String(255), nullable=False),
    Column("realname", String(255), nullable=False),
    Column("comment", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("sysadmin", Boolean, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("users_by_id", "id"),
    Index("users_by_email", "email"),
    info=DERIVED,
)
projects: Final = Table(
    "projects",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("owner", String(255), nullable=False),
    # JSON object of Harbor's metadata strings: public, auto_scan, …
    Column("metadata", Text, nullable=False),
    Column("public", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("projects_by_id", "id"),
    info=DERIVED,
)
members: Final = Table(
    "members",
    metadata,
    Column("project", String(255), primary_key=True),
    Column("entity_type", String(1), primary_key=True),
    Column("entity", String(255), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("role", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("members_by_entity", "entity", "entity_type"),
    Index("members_by_id", "id"),
    info=DERIVED,
)
robots: Final = Table(
    "robots",
    metadata,
    # Without the configurable prefix: "name", or "project+name".
    Column("name", String(512), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("level", String(16), nullable=False),
    # Empty for system robots.
    Column("project", String(255), nullable=False),
    Column("description", Text, nullable=False),
    # JSON list as Harbor's API has it: [{kind, namespace, access: [{resource, action, effect}]}].
    Column("permissions", Text, nullable=False),
    Column("disable", Boolean, nullable=False),
    Column("secret_hash", Text, nullable=False),
    # Days as given by the caller (-1: never), and seconds since 1970 (-1: never).
    Column("duration_days", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("robots_by_id", "id"),
    Index("robots_by_project", "project"),
    info=DERIVED,
)
repositories: Final = Table(
    "repositories",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("project", String(255), nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("repositories_by_project", "project", "name"),
    Index("repositories_by_id", "id"),
    info=DERIVED,
)
manifests: Final = Table(
    "manifests",
    metadata,
    Column("repository", String(255), primary_key=True),
    Column("digest", String(160), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("media_type", String(255), nullable=False),
    Column("artifact_type", String(255), nullable=False),
    Column("config_digest", String(160), nullable=False),
    # The digest this manifest refers to, or empty.
    Column("subject", String(160), nullable=False),
    # Of the manifest's own bytes, and of all it names.
    Column("manifest_bytes", BigInteger, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    # JSON object.
    Column("annotations", Text, nullable=False),
    Column("pushed_ms", BigInteger, nullable=False),
    Column("pushed_by", String(512), nullable=False),
    Index("manifests_by_subject", "repository", "subject"),
    Index("manifests_by_digest", "digest"),
    Index("manifests_by_id", "id"),
    info=DERIVED,
)
manifest_blobs: Final = Table(
    "manifest_blobs",
    metadata,
    Column("repository", String(255), primary_key=True),
    Column("manifest", String(160), primary_key=True),
    Column("blob", String(160), primary_key=True),
    Column("size", BigInteger, nullable=False),
    # Non-distributable layers are named but need not be here.
    Column("required", Boolean, nullable=False),
    Index("manifest_blobs_by_repository", "repository", "blob"),
    Index("manifest_blobs_by_blob", "blob"),
    info=DERIVED,
)
manifest_children: Final = Table(
    "manifest_children",
    metadata,
    Column("repository", String(255), primary_key=True),
    Column("parent", String(160), primary_key=True),
    Column("child", String(160), primary_key=True),
    Index("manifest_children_by_child", "repository", "child"),
    info=DERIVED,
)
tags: Final = Table(
    "tags",
    metadata,
    Column("repository", String(255), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("digest", String(160), nullable=False),
    Column("immutable", Boolean, nullable=False),
    Column("pushed_ms", BigInteger, nullable=False),
    Column("pushed_by", String(512), nullable=False),
    Index("tags_by_digest", "repository", "digest"),
    info=DERIVED,
)
blob_links: Final = Table(
    "blob_links",
    metadata,
    Column("repository", String(255), primary_key=True),
    Column("digest", String(160), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("linked_ms", BigInteger, nullable=False),
    Index("blob_links_by_digest", "digest"),
    info=DERIVED,
)
id_aliases: Final = Table(
    "id_aliases",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("id", BigInteger, primary_key=True),
    Column("key", String(1024), nullable=False),
    info=DERIVED,
)
conflicts: Final = Table(
    "conflicts",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("key", String(1024), primary_key=True),
    Column("field", String(64), primary_key=True),
    # Names the concurrent writes, so that one conflict is recorded once however often it is merged.
    Column("dots", String(512), primary_key=True),
    Column("winner", Text, nullable=False),
    Column("candidates", Text, nullable=False),
    Column("recorded_ms", BigInteger, nullable=False),
    info=DERIVED,
)

# -- node-local ----------------------------------------------------------------------------------------------------

origins: Final = Table(
    "origins",
    metadata,
    Column("origin", String(64), primary_key=True),
    # The highest change of this origin that is applied here: together, the node's version vector.
    Column("seq", BigInteger, nullable=False),
    # Changes up to this one came by snapshot, so this node cannot serve them one by one.
    Column("floor", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
hybrid_clock: Final = Table(
    "hybrid_clock",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("ms", BigInteger, nullable=False),
    Column("counter", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
id_counters: Final = Table(
    "id_counters",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("last_id", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
invites: Final = Table(
    "invites",
    metadata,
    Column("secret_hash", String(64), primary_key=True),
    Column("expires_ms", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
peer_acknowledgements: Final = Table(
    "peer_acknowledgements",
    metadata,
    Column("node", String(64), primary_key=True),
    # JSON object: the version vector that the peer last confirmed.
    Column("vector", Text, nullable=False),
    Column("heard_ms", BigInteger, nullable=False),
    info=NODE_LOCAL,
)


@cache
def upsert(table: Table) -> TextClause:
    """Return "insert, or replace the row with the same primary key": the same text for SQLite and PostgreSQL."""
    columns = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key.columns]
    others = [name for name in columns if name not in keys]
    action = "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in others) if others else "NOTHING"
    # Names come from the table definitions above, never from input.
    statement = (
        f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)}) "  # noqa: S608
        f"ON CONFLICT ({', '.join(keys)}) DO {action}"
    )
    return text(statement)
