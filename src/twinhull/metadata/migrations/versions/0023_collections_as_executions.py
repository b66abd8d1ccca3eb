"""Collections of garbage become executions, which every node shows. The list of those that were done begins anew."""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the table of this node alone."""
    op.drop_index("collections_by_status", "collections")
    op.drop_table("collections")
