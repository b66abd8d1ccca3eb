"""Documents, labels on artifacts, pulls, executions, tasks, audit. There is no way back from it but an empty data directory."""

from __future__ import annotations

from alembic import op

from twinhull.metadata.migrations.columns import flag, long_text, number, short_text

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "documents",
        *(short_text("kind", 32, key=True), short_text("key", 1024, key=True), number("id"), short_text("project", 255)),
        *(number("project_id"), short_text("name", 512), long_text("body"), number("created_ms"), number("updated_ms")),
    )
    op.create_index("documents_by_id", "documents", ["kind", "id"])
    op.create_index("documents_by_project", "documents", ["kind", "project", "name"])
    op.create_table(
        "artifact_labels",
        *(short_text("repository", 255, key=True), short_text("digest", 160, key=True), short_text("label", 768, key=True)),
        *(number("label_id"), number("created_ms")),
    )
    op.create_index("artifact_labels_by_label", "artifact_labels", ["label", "repository"])
    op.create_table(
        "pulls",
        *(short_text("repository", 255, key=True), short_text("digest", 160, key=True), short_text("node", 64, key=True)),
        *(number("pulls"), number("last_ms")),
    )
    _jobs()
    op.create_table(
        "audit_records",
        *(short_text("node", 64, key=True), number("id", key=True), number("at_ms"), short_text("project", 255)),
        *(short_text("username", 512), short_text("operation", 64), short_text("resource_type", 64), long_text("resource")),
        *(long_text("description"), flag("succeeded"), short_text("client_address", 64)),
    )
    op.create_index("audit_records_by_time", "audit_records", ["at_ms", "id"])
    op.create_index("audit_records_by_project", "audit_records", ["project", "at_ms", "id"])
    op.create_index("audit_records_by_operation", "audit_records", ["operation", "at_ms", "id"])


def _jobs() -> None:
    op.create_table(
        "executions",
        *(short_text("node", 64, key=True), number("id", key=True), short_text("vendor_type", 64), number("vendor_id")),
        *(short_text("status", 32), short_text("trigger", 32), long_text("body"), number("created_ms"), number("updated_ms")),
    )
    op.create_index("executions_by_id", "executions", ["id"])
    op.create_index("executions_by_vendor", "executions", ["vendor_type", "vendor_id", "created_ms"])
    op.create_index("executions_by_status", "executions", ["status", "vendor_type"])
    op.create_table(
        "tasks",
        *(short_text("node", 64, key=True), number("id", key=True), number("execution_id"), short_text("vendor_type", 64)),
        *(short_text("status", 32), long_text("body"), number("created_ms"), number("updated_ms")),
    )
    op.create_index("tasks_by_id", "tasks", ["id"])
    op.create_index("tasks_by_execution", "tasks", ["execution_id", "created_ms"])
    op.create_index("tasks_by_status", "tasks", ["status", "vendor_type"])
