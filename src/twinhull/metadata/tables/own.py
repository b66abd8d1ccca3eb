"""What is this node's alone: how far it has come, its clock, counters and readers of the log, invites, and conflicts it saw."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Table, Text

from twinhull.metadata.tables.columns import NODE_LOCAL, metadata, name_type

origins: Final = Table(
    "origins",
    metadata,
    Column("origin", name_type(64), primary_key=True),
    # The highest change of this origin that is applied here: together, the node's version vector.
    Column("seq", BigInteger, nullable=False),
    # Changes up to this one came by snapshot, so this node cannot serve them one by one.
    Column("floor", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
hybrid_clock: Final = Table(
    "hybrid_clock",
    metadata,
    Column("node", name_type(64), primary_key=True),
    Column("ms", BigInteger, nullable=False),
    Column("counter", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
# Under which origin the node writes since it was restored; see docs/decisions/0011.
incarnations: Final = Table(
    "incarnations",
    metadata,
    Column("node", name_type(64), primary_key=True),
    Column("origin", name_type(64), nullable=False),
    # Where its ids begin, out of reach of those that it gave out in what was lost.
    Column("first_block", BigInteger, nullable=False),
    # Where the database was when it was last opened: a copy of it is elsewhere.
    Column("place", name_type(255), nullable=False),
    info=NODE_LOCAL,
)
id_counters: Final = Table(
    "id_counters",
    metadata,
    Column("kind", name_type(32), primary_key=True),
    Column("last_id", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
invites: Final = Table(
    "invites",
    metadata,
    Column("secret_hash", name_type(64), primary_key=True),
    Column("expires_ms", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
peer_acknowledgements: Final = Table(
    "peer_acknowledgements",
    metadata,
    Column("node", name_type(64), primary_key=True),
    # JSON object: the version vector that the peer last confirmed.
    Column("vector", Text, nullable=False),
    Column("heard_ms", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
# Up to where in the log those have come who read it to do something about it: webhooks, policies.
readers: Final = Table(
    "readers",
    metadata,
    Column("name", name_type(64), primary_key=True),
    Column("position", BigInteger, nullable=False),
    info=NODE_LOCAL,
)
# Not derived: what is written after a conflict settles it, and its record shows it no more.
conflicts: Final = Table(
    "conflicts",
    metadata,
    Column("kind", name_type(32), primary_key=True),
    Column("key", name_type(1024), primary_key=True),
    Column("field", name_type(64), primary_key=True),
    # Names the concurrent writes, so that one conflict is recorded once however often it is merged.
    Column("dots", name_type(1024), primary_key=True),
    Column("winner", Text, nullable=False),
    Column("candidates", Text, nullable=False),
    Column("recorded_ms", BigInteger, nullable=False),
    # A short name for all of the key.
    Column("id", name_type(32), nullable=False),
    Index("conflicts_by_id", "id"),
    Index("conflicts_by_time", "recorded_ms"),
    info=NODE_LOCAL,
)
