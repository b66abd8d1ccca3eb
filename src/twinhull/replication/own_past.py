"""Whether this node's peers know of changes that it made and has forgotten: asked at its start, and at each greeting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Final

import aiohttp
import structlog

from twinhull.kit.clock import Clock
from twinhull.kit.errors import TwinhullError, Unavailable
from twinhull.metadata import members
from twinhull.metadata.members import Node
from twinhull.metadata.store import Store
from twinhull.records.change import VersionVector
from twinhull.replication.acknowledgements import Acknowledgements
from twinhull.replication.peer import Peer
from twinhull.replication.peer_client import peer_clients
from twinhull.replication.threads import in_thread
from twinhull.replication.trust import Trust

log = structlog.get_logger(__name__)

# A dead peer costs a start no more than this.
_ASK_S: Final = 2.0


def settle_own_past(store: Store, trust: Trust) -> None:
    """Let the node write under a new origin if its database is an old copy, or may be one and there are peers to mistake it."""
    with store.read() as connection:
        others = [node for node in members.nodes(connection) if node.id != store.node]
    settle_by_answers(store, asyncio.run(_ask(others, trust, store.clock)) if others else [])


def settle_by_answers(store: Store, vectors: Sequence[VersionVector | None]) -> None:
    """Do that by what each of the other members has applied; None stands for one that does not answer."""
    have, origin = store.vector().get(store.origin, 0), store.origin
    known = max((vector.get(origin, 0) for vector in vectors if vector is not None), default=0)
    # Also where all answer and know no more: what they were told outside of the stream is in no vector.
    if known > have or (vectors and store.is_copy()):
        began = store.begin_incarnation()
        log.warning("database is an old copy", origin=origin, has=have, peers_have=known, goes_on_as=began)
    else:
        store.settle()


async def check_own_past(
    store: Store, executor: Executor, acknowledgements: Acknowledgements, node: str, vector: VersionVector
) -> None:
    """Return if a peer with this vector knows no more of this node's changes than it does itself.

    Else the node goes on under a new origin, and Unavailable is raised: it has to greet its peers anew. As a rule that is
    found at the start; here, when no peer could be asked then.
    """
    origin = store.origin
    if vector.get(origin, 0) <= acknowledgements.own_seq:
        return
    have = (await in_thread(executor, store.vector)).get(origin, 0)
    if vector[origin] <= have and origin == store.origin:
        return
    began = await in_thread(executor, partial(store.begin_incarnation, instead_of=origin))
    acknowledgements.writes_as(began)
    log.error("log of this node has gone back in time", peer=node, origin=origin, has=have, goes_on_as=began)
    message = f"this node's log has gone back in time: it ends at {have}, and peer {node} has had {vector[origin]} of it"
    raise Unavailable(message)


async def _ask(nodes: Sequence[Node], trust: Trust, clock: Clock) -> list[VersionVector | None]:
    """Return what each of the nodes has applied, None for one that does not answer."""
    async with aiohttp.ClientSession() as session:
        call = peer_clients(session, trust, clock)
        return await asyncio.gather(*(_vector_of(call(node)) for node in nodes))


async def _vector_of(peer: Peer) -> VersionVector | None:
    try:
        return await peer.vector(timeout_s=_ASK_S)
    except TwinhullError as error:
        log.info("peer could not be asked what it knows of this node", peer=peer.node, error=str(error))
        return None
