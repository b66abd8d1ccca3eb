"""What is stored: repositories, manifests and what they name, tags, blobs by repository."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Table, Text

from twinhull.metadata.tables.columns import DERIVED, metadata, name_type

repositories: Final = Table(
    "repositories",
    metadata,
    Column("name", name_type(255), primary_key=True),
    Column("project", name_type(255), nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("repositories_by_project", "project", "name"),
    # For lists, newest first, of one project and of all.
    Index("repositories_listed", "project", "created_ms", "id", "name"),
    Index("repositories_by_age", "created_ms", "id", "project", "name"),
    Index("repositories_by_id", "id"),
    info=DERIVED,
)
manifests: Final = Table(
    "manifests",
    metadata,
    Column("repository", name_type(255), primary_key=True),
    Column("digest", name_type(160), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("media_type", name_type(255), nullable=False),
    Column("artifact_type", name_type(255), nullable=False),
    # What the artifact is: its configuration's media type, and Harbor's word for it.
    Column("config_type", name_type(255), nullable=False),
    Column("type", name_type(64), nullable=False),
    # The digest of the layer that is its picture, or empty.
    Column("icon", name_type(160), nullable=False),
    # JSON object: what its configuration says of it; empty where that is not known.
    Column("attributes", Text, nullable=False),
    Column("config_digest", name_type(160), nullable=False),
    # The digest this manifest refers to, or empty.
    Column("subject", name_type(160), nullable=False),
    # Of the manifest's own bytes, and of all it names.
    Column("manifest_bytes", BigInteger, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    # JSON object.
    Column("annotations", Text, nullable=False),
    Column("pushed_ms", BigInteger, nullable=False),
    Column("pushed_by", name_type(512), nullable=False),
    # What it is to another artifact and which, told by its subject or by a tag; whether a tag names it; whether lists show
    # it. See projections/standing.py.
    Column("accessory_type", name_type(64), nullable=False),
    Column("accessory_of", name_type(160), nullable=False),
    Column("tagged", Boolean, nullable=False),
    Column("listed", Boolean, nullable=False),
    Index("manifests_by_subject", "repository", "subject"),
    Index("manifests_by_accessory_of", "repository", "accessory_of"),
    # Holds all that it takes to find a page of a repository's list and to count it.
    Index("manifests_listed", "repository", "listed", "pushed_ms", "id", "tagged", "digest"),
    Index("manifests_by_digest", "digest", "repository"),
    Index("manifests_by_id", "id"),
    info=DERIVED,
)
manifest_blobs: Final = Table(
    "manifest_blobs",
    metadata,
    Column("repository", name_type(255), primary_key=True),
    Column("manifest", name_type(160), primary_key=True),
    Column("blob", name_type(160), primary_key=True),
    Column("size", BigInteger, nullable=False),
    # Non-distributable layers are named but need not be here.
    Column("required", Boolean, nullable=False),
    Index("manifest_blobs_by_repository", "repository", "blob"),
    Index("manifest_blobs_by_blob", "blob", "repository", "size"),
    info=DERIVED,
)
manifest_children: Final = Table(
    "manifest_children",
    metadata,
    Column("repository", name_type(255), primary_key=True),
    Column("parent", name_type(160), primary_key=True),
    Column("child", name_type(160), primary_key=True),
    Index("manifest_children_by_child", "repository", "child"),
    info=DERIVED,
)
tags: Final = Table(
    "tags",
    metadata,
    Column("repository", name_type(255), primary_key=True),
    Column("name", name_type(128), primary_key=True),
    Column("id", BigInteger, nullable=False),
    Column("digest", name_type(160), nullable=False),
    Column("immutable", Boolean, nullable=False),
    Column("pushed_ms", BigInteger, nullable=False),
    Column("pushed_by", name_type(512), nullable=False),
    Index("tags_by_digest", "repository", "digest", "name"),
    info=DERIVED,
)
blob_links: Final = Table(
    "blob_links",
    metadata,
    Column("repository", name_type(255), primary_key=True),
    Column("digest", name_type(160), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("linked_ms", BigInteger, nullable=False),
    Index("blob_links_by_digest", "digest", "repository"),
    info=DERIVED,
)
