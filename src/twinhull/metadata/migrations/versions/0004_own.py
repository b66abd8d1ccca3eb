"""What is this node's own. There is no way back from it but an empty data directory."""

from __future__ import annotations

from alembic import op

from twinhull.metadata.migrations.columns import long_text, number, short_text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table("origins", short_text("origin", 64, key=True), number("seq"), number("floor"))
    op.create_table("hybrid_clock", short_text("node", 64, key=True), number("ms"), number("counter"))
    op.create_table("id_counters", short_text("kind", 32, key=True), number("last_id"))
    op.create_table("invites", short_text("secret_hash", 64, key=True), number("expires_ms"))
    op.create_table("peer_acknowledgements", short_text("node", 64, key=True), long_text("vector"), number("heard_ms"))
    op.create_table(
        "conflicts",
        *(short_text("kind", 32, key=True), short_text("key", 1024, key=True), short_text("field", 64, key=True)),
        *(short_text("dots", 1024, key=True), long_text("winner"), long_text("candidates"), number("recorded_ms")),
    )
