"""How much is stored in each project: sums over other tables, kept while records become rows."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Table

from twinhull.metadata.tables.columns import NODE_LOCAL, metadata, name_type

# A sum tells of many records, so no record can make its row anew; when all tables are made anew, so is this.
project_usage: Final = Table(
    "project_usage",
    metadata,
    Column("project", name_type(255), primary_key=True),
    # Of its distinct blobs and manifests, once each however many of its repositories have them.
    Column("bytes", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
