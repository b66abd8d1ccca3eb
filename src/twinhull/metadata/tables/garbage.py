"""What may be garbage on this node."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Table

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
