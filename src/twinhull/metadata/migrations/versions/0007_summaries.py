"""Summaries stand for a record's bytes, and not for its versions' names alone. Older releases would compare them in vain."""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_PAGE = 1000


def upgrade() -> None:
    """Make the summaries anew."""
    connection = op.get_bind()
    page = sa.text("SELECT kind, key, record FROM records WHERE (kind, key) > (:kind, :key) ORDER BY kind, key LIMIT :limit")
    update = sa.text("UPDATE records SET summary = :summary WHERE kind = :kind AND key = :key")
    kind, key = "", ""
    while rows := connection.execute(page, {"kind": kind, "key": key, "limit": _PAGE}).all():
        summed = []
        for kind, key, record in rows:
            digest = hashlib.blake2b(key.encode() + b"\0" + record, digest_size=6).digest()
            summed.append({"summary": int.from_bytes(digest, "big"), "kind": kind, "key": key})
        connection.execute(update, summed)
