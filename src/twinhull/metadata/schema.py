"""The tables. Each is declared replicated, derived or node-local here, in one place; a test fails when one is not.

Replicated: what peers exchange. Derived: projections of records, rebuilt from them at any time. Node-local: facts about
this node alone. Times are milliseconds since 1970; sizes are bytes.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.types import TypeEngine

from twinhull.metadata.statement import Statement

metadata: Final = MetaData()


def _name(length: int) -> TypeEngine[str]:
    """Return a short text that sorts by its bytes, as OCI's lists do and SQLite does.

    PostgreSQL would sort by the language that the database was made for.
    """
    return String(length).with_variant(String(length, collation="C"), "postgresql")


REPLICATED: Final = {"replication": "replicated"}
DERIVED: Final = {"replication": "derived"}
NODE_LOCAL: Final = {"replication": "node-local"}

# -- replicated ----------------------------------------------------------------------------------------------------

records: Final = Table(
    "records",
    metadata,
    Column("kind", _name(32), primary_key=True),
    Column("key", _name(1024), primary_key=True),
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
    Column("digest", _name(160), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    info=REPLICATED,
)
changes: Final = Table(
    "changes",
    metadata,
    # The order in which this node wrote or applied; readers keep their cursor in it.
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("origin", _name(64), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", _name(32), nullable=False),
    Column("key", _name(1024), nullable=False),
    Column("record", LargeBinary, nullable=False),
    Index("changes_by_origin", "origin", "seq", unique=True),
    sqlite_autoincrement=True,
    info=REPLICATED,
)

# -- derived -------------------------------------------------------------------------------------------------------

nodes: Final = Table(
    "nodes",
    metadata,
    Column("id", _name(64), primary_key=True),
    Column("name", _name(255), nullable=False),
    Column("slot", Integer, nullable=False),
    Column("address", _name(255), nullable=False),
    Column("url", _name(255), nullable=False),
    Column("token_keys", Text, nullable=False),
    Column("joined_ms", BigInteger, nullable=False),
    info=DERIVED,
)
settings: Final = Table(
    "settings",
    metadata,
    Column("name", _name(255), primary_key=True),
    Column("value", Text, nullable=False),
    info=DERIVED,
)
users: Final = Table(
    "users",
    metadata,
    Column("name", _name(255), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("email", _name(255), nullable=False),
    Column("realname", _name(255), nullable=False),
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
    Column("name", _name(255), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("owner", _name(255), nullable=False),
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
    Column("project", _name(255), primary_key=True),
    Column("entity_type", _name(1), primary_key=True),
    Column("entity", _name(255), primary_key=True),
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
    Column("name", _name(512), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("level", _name(16), nullable=False),
    # Empty for system robots.
    Column("project", _name(255), nullable=False),
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
    Column("name", _name(255), primary_key=True),
    Column("project", _name(255), nullable=False),
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
    Column("repository", _name(255), primary_key=True),
    Column("digest", _name(160), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("media_type", _name(255), nullable=False),
    Column("artifact_type", _name(255), nullable=False),
    Column("config_digest", _name(160), nullable=False),
    # The digest this manifest refers to, or empty.
    Column("subject", _name(160), nullable=False),
    # Of the manifest's own bytes, and of all it names.
    Column("manifest_bytes", BigInteger, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    # JSON object.
    Column("annotations", Text, nullable=False),
    Column("pushed_ms", BigInteger, nullable=False),
    Column("pushed_by", _name(512), nullable=False),
    Index("manifests_by_subject", "repository", "subject"),
    Index("manifests_by_digest", "digest"),
    Index("manifests_by_id", "id"),
    info=DERIVED,
)
manifest_blobs: Final = Table(
    "manifest_blobs",
    metadata,
    Column("repository", _name(255), primary_key=True),
    Column("manifest", _name(160), primary_key=True),
    Column("blob", _name(160), primary_key=True),
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
    Column("repository", _name(255), primary_key=True),
    Column("parent", _name(160), primary_key=True),
    Column("child", _name(160), primary_key=True),
    Index("manifest_children_by_child", "repository", "child"),
    info=DERIVED,
)
tags: Final = Table(
    "tags",
    metadata,
    Column("repository", _name(255), primary_key=True),
    Column("name", _name(128), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("digest", _name(160), nullable=False),
    Column("immutable", Boolean, nullable=False),
    Column("pushed_ms", BigInteger, nullable=False),
    Column("pushed_by", _name(512), nullable=False),
    Index("tags_by_digest", "repository", "digest"),
    info=DERIVED,
)
blob_links: Final = Table(
    "blob_links",
    metadata,
    Column("repository", _name(255), primary_key=True),
    Column("digest", _name(160), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("linked_ms", BigInteger, nullable=False),
    Index("blob_links_by_digest", "digest"),
    info=DERIVED,
)
id_aliases: Final = Table(
    "id_aliases",
    metadata,
    Column("kind", _name(32), primary_key=True),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("key", _name(1024), nullable=False),
    info=DERIVED,
)
# -- node-local ----------------------------------------------------------------------------------------------------

origins: Final = Table(
    "origins",
    metadata,
    Column("origin", _name(64), primary_key=True),
    # The highest change of this origin that is applied here: together, the node's version vector.
    Column("seq", BigInteger, nullable=False),
    # Changes up to this one came by snapshot, so this node cannot serve them one by one.
    Column("floor", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
hybrid_clock: Final = Table(
    "hybrid_clock",
    metadata,
    Column("node", _name(64), primary_key=True),
    Column("ms", BigInteger, nullable=False),
    Column("counter", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
id_counters: Final = Table(
    "id_counters",
    metadata,
    Column("kind", _name(32), primary_key=True),
    Column("last_id", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
invites: Final = Table(
    "invites",
    metadata,
    Column("secret_hash", _name(64), primary_key=True),
    Column("expires_ms", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
peer_acknowledgements: Final = Table(
    "peer_acknowledgements",
    metadata,
    Column("node", _name(64), primary_key=True),
    # JSON object: the version vector that the peer last confirmed.
    Column("vector", Text, nullable=False),
    Column("heard_ms", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
# Not derived: what is written after a conflict settles it, and its record shows it no more.
conflicts: Final = Table(
    "conflicts",
    metadata,
    Column("kind", _name(32), primary_key=True),
    Column("key", _name(1024), primary_key=True),
    Column("field", _name(64), primary_key=True),
    # Names the concurrent writes, so that one conflict is recorded once however often it is merged.
    Column("dots", _name(1024), primary_key=True),
    Column("winner", Text, nullable=False),
    Column("candidates", Text, nullable=False),
    Column("recorded_ms", BigInteger, nullable=False),
    info=NODE_LOCAL,
)


@cache
def upsert(table: Table) -> Statement:
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
    return Statement(statement)
