"""${message}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the previous schema to this one."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Bring this schema back to the previous one."""
    ${downgrades if downgrades else "pass"}
