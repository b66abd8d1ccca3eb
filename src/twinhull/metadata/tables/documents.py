"""Configuration that is read whole, labels on artifacts, counts of pulls, executions and tasks, audit records."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Table, Text

from twinhull.metadata.tables.columns import DERIVED, metadata, name_type

documents: Final = Table(
    "documents",
    metadata,
    Column("kind", name_type(32), primary_key=True),
    Column("key", name_type(1024), primary_key=True),
    Column("id", BigInteger, nullable=False),
    # Empty for what the whole cluster has.
    Column("project", name_type(255), nullable=False),
    # The id of the project in whose life it was made; 0: any.
    Column("project_id", BigInteger, nullable=False),
    Column("name", name_type(512), nullable=False),
    # JSON object of all other fields.
    Column("body", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("documents_by_id", "kind", "id"),
    Index("documents_by_project", "kind", "project", "name"),
    info=DERIVED,
)
artifact_labels: Final = Table(
    "artifact_labels",
    metadata,
    Column("repository", name_type(255), primary_key=True),
    Column("digest", name_type(160), primary_key=True),
    # The label's key.
    Column("label", name_type(768), primary_key=True),
    # The id of the label in whose life it was attached; 0: any.
    Column("label_id", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("artifact_labels_by_label", "label", "repository"),
    info=DERIVED,
)
pulls: Final = Table(
    "pulls",
    metadata,
    Column("repository", name_type(255), primary_key=True),
    # Empty for the repository as a whole.
    Column("digest", name_type(160), primary_key=True),
    Column("node", name_type(64), primary_key=True),
    Column("pulls", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    # JSON object: when it was last pulled by each tag.
    Column("tags", Text, nullable=False),
    info=DERIVED,
)
executions: Final = Table(
    "executions",
    metadata,
    # The node that runs it, and alone writes about it.
    Column("node", name_type(64), primary_key=True),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    # What it is an execution of: GARBAGE_COLLECTION, RETENTION, REPLICATION, …, and the id of the policy or schedule.
    Column("vendor_type", name_type(64), nullable=False),
    Column("vendor_id", BigInteger, nullable=False),
    Column("status", name_type(32), nullable=False),
    Column("trigger", name_type(32), nullable=False),
    # JSON object of all other fields.
    Column("body", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("executions_by_id", "id"),
    Index("executions_by_vendor", "vendor_type", "vendor_id", "created_ms"),
    Index("executions_by_status", "status", "vendor_type"),
    info=DERIVED,
)
tasks: Final = Table(
    "tasks",
    metadata,
    Column("node", name_type(64), primary_key=True),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("execution_id", BigInteger, nullable=False),
    Column("vendor_type", name_type(64), nullable=False),
    Column("status", name_type(32), nullable=False),
    # JSON object of all other fields.
    Column("body", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("tasks_by_id", "id"),
    Index("tasks_by_execution", "execution_id", "created_ms"),
    Index("tasks_by_status", "status", "vendor_type"),
    info=DERIVED,
)
# What each node has said that it has applied, and up to where it has dropped deletions.
progress: Final = Table(
    "progress",
    metadata,
    Column("node", name_type(64), primary_key=True),
    Column("origin", name_type(64), primary_key=True),
    Column("applied", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    info=DERIVED,
)
audit_records: Final = Table(
    "audit_records",
    metadata,
    Column("node", name_type(64), primary_key=True),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    # Empty for what belongs to none.
    Column("project", name_type(255), nullable=False),
    Column("username", name_type(512), nullable=False),
    Column("operation", name_type(64), nullable=False),
    Column("resource_type", name_type(64), nullable=False),
    Column("resource", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("succeeded", Boolean, nullable=False),
    Column("client_address", name_type(64), nullable=False),
    Index("audit_records_by_time", "at_ms", "id"),
    Index("audit_records_by_project", "project", "at_ms", "id"),
    Index("audit_records_by_operation", "operation", "at_ms", "id"),
    info=DERIVED,
)
