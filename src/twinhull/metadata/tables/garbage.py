"""What may be garbage on this node, and the collections that were asked for and done."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Table, Text

from twinhull.metadata.tables.columns import NODE_LOCAL, metadata, name_type

# So that a collection takes time by what may be garbage, not by what is stored. A row says "look at this", never "this is
# garbage"; a row too many is dropped by the next collection, a row too few is found by its walk over the disk.
garbage_candidates: Final = Table(
    "garbage_candidates",
    metadata,
    Column("digest", name_type(160), primary_key=True),
    # The repository in which no manifest names the blob any more, or yet; "" for the bytes on this node's disk.
    Column("repository", name_type(255), primary_key=True),
    # When a collector first saw it so; 0: not yet.
    Column("since_ms", BigInteger, nullable=False),
    Index("garbage_candidates_by_since", "since_ms"),
    info=NODE_LOCAL,
)
collections: Final = Table(
    "collections",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("status", name_type(16), nullable=False),
    # JSON of upkeep's Order and Outcome.
    Column("wanted", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    # Empty unless it failed.
    Column("error", Text, nullable=False),
    Column("asked_ms", BigInteger, nullable=False),
    # 0: not yet.
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=False),
    Index("collections_by_status", "status"),
    info=NODE_LOCAL,
)
