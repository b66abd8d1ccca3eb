"""Who there is and what they may do: nodes, settings, users, projects, members, robots."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, Text

from twinhull.metadata.tables.columns import DERIVED, metadata, name_type

nodes: Final = Table(
    "nodes",
    metadata,
    Column("id", name_type(64), primary_key=True),
    Column("name", name_type(255), nullable=False),
    Column("slot", Integer, nullable=False),
    Column("address", name_type(255), nullable=False),
    Column("url", name_type(255), nullable=False),
    Column("token_keys", Text, nullable=False),
    Column("joined_ms", BigInteger, nullable=False),
    info=DERIVED,
)
settings: Final = Table(
    "settings",
    metadata,
    Column("name", name_type(255), primary_key=True),
    Column("value", Text, nullable=False),
    info=DERIVED,
)
users: Final = Table(
    "users",
    metadata,
    Column("name", name_type(255), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("email", name_type(255), nullable=False),
    Column("realname", name_type(255), nullable=False),
    Column("comment", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("sysadmin", Boolean, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    # How they sign in: with a password of ours (empty), or what vouches for them.
    Column("source", name_type(16), nullable=False),
    # Who they are to what vouches for them: a DN, or an issuer's name for them.
    Column("external_id", name_type(512), nullable=False),
    # JSON list: the user groups that they were in when they last signed in.
    Column("groups", Text, nullable=False),
    # Sealed: what stands for a password with command-line clients.
    Column("cli_secret", Text, nullable=False),
    # Whether a group there makes them a system administrator.
    Column("admin_in_auth", Boolean, nullable=False),
    Index("users_by_id", "id"),
    Index("users_by_email", "email"),
    Index("users_by_external_id", "external_id"),
    info=DERIVED,
)
projects: Final = Table(
    "projects",
    metadata,
    Column("name", name_type(255), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("owner", name_type(255), nullable=False),
    # JSON object of Harbor's metadata strings: public, auto_scan, …
    Column("metadata", Text, nullable=False),
    Column("public", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    # The registry whose content it stands for; empty for all others.
    Column("registry", name_type(512), nullable=False),
    Index("projects_by_id", "id"),
    info=DERIVED,
)
members: Final = Table(
    "members",
    metadata,
    Column("project", name_type(255), primary_key=True),
    Column("entity_type", name_type(1), primary_key=True),
    Column("entity", name_type(255), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("role", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    # The id of the project, and of the user or group, in whose life it was made; 0: any.
    Column("project_life", BigInteger, nullable=False),
    Column("entity_life", BigInteger, nullable=False),
    Index("members_by_entity", "entity", "entity_type"),
    Index("members_by_id", "id"),
    info=DERIVED,
)
robots: Final = Table(
    "robots",
    metadata,
    # Without the configurable prefix: "name", or "project+name".
    Column("name", name_type(512), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("level", name_type(16), nullable=False),
    # Empty for system robots.
    Column("project", name_type(255), nullable=False),
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
    # The id of the project in whose life it was made; 0: any.
    Column("project_life", BigInteger, nullable=False),
    Index("robots_by_id", "id"),
    Index("robots_by_project", "project"),
    info=DERIVED,
)
# Browsers' sessions that were logged out before they ran out.
ended_sessions: Final = Table(
    "ended_sessions",
    metadata,
    Column("id", name_type(64), primary_key=True),
    Column("expires_ms", BigInteger, nullable=False),
    info=DERIVED,
)
id_aliases: Final = Table(
    "id_aliases",
    metadata,
    Column("kind", name_type(32), primary_key=True),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("key", name_type(1024), nullable=False),
    info=DERIVED,
)
