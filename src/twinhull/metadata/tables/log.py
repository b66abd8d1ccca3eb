"""The truth: records, the log of their changes, and the bytes of manifests."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, text

from twinhull.metadata.tables.columns import REPLICATED, metadata, name_type

records: Final = Table(
    "records",
    metadata,
    Column("kind", name_type(32), primary_key=True),
    Column("key", name_type(1024), primary_key=True),
    Column("record", LargeBinary, nullable=False),
    Column("dead", Boolean, nullable=False),
    # 0 to 255 by hash of the key; with the hash of the record's bytes this makes the state root.
    Column("bucket", Integer, nullable=False),
    Column("summary", BigInteger, nullable=False),
    Index("records_by_bucket", "kind", "dead", "bucket", "summary"),
    Index("records_dead", "kind", "key", sqlite_where=text("dead"), postgresql_where=text("dead")),
    info=REPLICATED,
)
manifest_contents: Final = Table(
    "manifest_contents",
    metadata,
    Column("digest", name_type(160), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    info=REPLICATED,
)
changes: Final = Table(
    "changes",
    metadata,
    # The order in which this node wrote or applied; readers keep their cursor in it.
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("origin", name_type(64), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", name_type(32), nullable=False),
    Column("key", name_type(1024), nullable=False),
    Column("record", LargeBinary, nullable=False),
    # Stands for all of the row but its position, so that damage shows; 0: written by a release that kept none.
    Column("summary", BigInteger, nullable=False),
    Index("changes_by_origin", "origin", "seq", unique=True),
    sqlite_autoincrement=True,
    info=REPLICATED,
)
