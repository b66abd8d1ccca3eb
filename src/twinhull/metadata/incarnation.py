"""Under which origin this node writes: its id at first, and a new one after its database went back in time.

A sequence number names one write for ever. A node whose database is an old copy does not know which numbers it has used, so
it goes on under a name that it never had; what it wrote under the old one comes back from its peers like everybody's changes.
"""

from __future__ import annotations

import random
from typing import Final

from sqlalchemy import Connection, delete, func, select

from twinhull.metadata.tables.columns import upsert
from twinhull.metadata.tables.own import id_counters, incarnations
from twinhull.metadata.transaction import ID_BLOCK, SLOTS
from twinhull.records.change import origin_of

_WORD_BYTES: Final = 4
# A place that no database lies at: whoever opens it there next finds a copy.
ELSEWHERE: Final = "elsewhere"
# So many of the node's own blocks of ids are left out, and up to so many more: those that it gave out in what was lost, and
# in another life that began at the same copy.
_BLOCKS_LEFT_OUT: Final = 50
_BLOCKS_SPREAD: Final = 1000


def current_origin(connection: Connection, node: str) -> str:
    """Return the origin under which this node writes now."""
    found = connection.execute(select(incarnations.c.origin).where(incarnations.c.node == node)).scalar()
    return str(found) if found is not None else node


def is_copy(connection: Connection, node: str, place: str) -> bool:
    """Tell whether the database was opened last at another place than this one, so that it may be an old copy."""
    known = connection.execute(select(incarnations.c.place).where(incarnations.c.node == node)).scalar()
    return known is not None and known != place


def move(connection: Connection, node: str, place: str) -> None:
    """Note, in a writing transaction, where the database lies."""
    row = connection.execute(select(incarnations).where(incarnations.c.node == node)).first()
    origin, first_block = (row.origin, row.first_block) if row is not None else (node, 0)
    upsert(incarnations).run(connection, {"node": node, "origin": origin, "first_block": first_block, "place": place})


def begin_incarnation(connection: Connection, node: str, place: str, chance: random.Random) -> str:
    """Let the node write under a new, drawn origin from the next transaction on, and return it; in a writing transaction."""
    origin = origin_of(node, chance.randbytes(_WORD_BYTES).hex())
    last_id = int(connection.execute(select(func.max(id_counters.c.last_id))).scalar() or 0)
    round_of_slots = last_id // ID_BLOCK // SLOTS + _BLOCKS_LEFT_OUT + chance.randrange(_BLOCKS_SPREAD)
    row = {"node": node, "origin": origin, "first_block": round_of_slots * SLOTS, "place": place}
    upsert(incarnations).run(connection, row)
    connection.execute(delete(id_counters))
    return origin
