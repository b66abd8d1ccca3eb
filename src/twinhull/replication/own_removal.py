"""What a node does that was removed from its cluster while it was away: it learns of it from who turns it away."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Final

import structlog

from twinhull.kit.errors import TwinhullError
from twinhull.metadata.store import Store
from twinhull.records.kinds import NODE
from twinhull.replication.apply import merge_records
from twinhull.replication.neighbours import Neighbours
from twinhull.replication.threads import in_thread

log = structlog.get_logger(__name__)

_ASK_S: Final = 2.0


async def learn_of_removal(store: Store, executor: Executor, neighbours: Neighbours, peer: str) -> None:
    """Take over the record of this node's removal if the peer has one.

    The record is the proof: a peer that merely does not know this node, since its own data are older, has none.
    """
    neighbour = neighbours.get(peer)
    if neighbour is None:
        return
    try:
        records = await neighbour.client.removal(timeout_s=_ASK_S)
    except TwinhullError as error:
        log.info("peer could not be asked whether this node was removed", peer=peer, error=str(error))
        return
    own = [record for record in records if (record.kind, record.key) == (NODE.name, store.node)]
    merged = await in_thread(executor, merge_records, store, own)
    if merged.taken:
        await neighbours.refresh()
