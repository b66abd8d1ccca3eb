"""On which nodes something is: its records, and all of its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from twinhull.blobs.store import BlobStore
from twinhull.kit.digest import Digest, is_known
from twinhull.kit.errors import TwinhullError
from twinhull.metadata import members
from twinhull.metadata.members import Node
from twinhull.metadata.store import Store
from twinhull.records.kinds import KINDS
from twinhull.records.merge import decode, is_dead
from twinhull.replication.engine import Engine
from twinhull.replication.neighbours import Neighbour
from twinhull.replication.protocol import PresenceAnswer, PresenceQuery
from twinhull.replication.threads import in_thread

_ASK_S: Final = 3.0


class Whereabouts(msgspec.Struct, frozen=True, kw_only=True):
    """What of it is on one node; None where the node could not be asked."""

    id: str
    name: str
    metadata: bool | None = None
    bytes: bool | None = None
    missing_blobs: int | None = None
    missing_bytes: int | None = None
    error: str = ""


def present(store: Store, blobs: BlobStore, query: PresenceQuery) -> PresenceAnswer:
    """Return what this node lacks of these records and blobs; waits for database and disk."""
    lacking = 0
    for kind, key in query.records:
        change = store.record(kind, key)
        lacking += kind not in KINDS or change is None or is_dead(KINDS[kind], decode(change.record))
    absent = [digest for digest in query.blobs if not is_known(digest) or blobs.stat(Digest(digest)) is None]
    return PresenceAnswer(lacking_records=lacking, lacking_blobs=absent)


async def whereabouts(
    engine: Engine, records: Sequence[tuple[str, str]], sizes: Sequence[tuple[str, int]]
) -> list[Whereabouts]:
    """Ask every member at the same time, this node first."""
    query = PresenceQuery(records=list(records), blobs=[digest for digest, _ in sizes])
    own = await in_thread(engine.executor, present, engine.store, engine.blobs, query)
    asked = [_ask(neighbour, query, dict(sizes)) for neighbour in engine.neighbours.all()]
    return [_described(await in_thread(engine.executor, _own_node, engine), own, dict(sizes)), *await asyncio.gather(*asked)]


def _own_node(engine: Engine) -> tuple[str, str]:
    with engine.store.read() as connection:
        known: dict[str, Node] = {node.id: node for node in members.nodes(connection)}
    own = known.get(engine.identity.node)
    return engine.identity.node, own.name if own is not None else engine.identity.name


async def _ask(neighbour: Neighbour, query: PresenceQuery, sizes: dict[str, int]) -> Whereabouts:
    node = neighbour.node.id, neighbour.node.name
    try:
        return _described(node, await neighbour.client.presence(query, timeout_s=_ASK_S), sizes)
    except TwinhullError as error:
        return Whereabouts(id=node[0], name=node[1], error=error.message)


def _described(node: tuple[str, str], answer: PresenceAnswer, sizes: dict[str, int]) -> Whereabouts:
    lacking = [digest for digest in answer.lacking_blobs if digest in sizes]
    return Whereabouts(
        id=node[0],
        name=node[1],
        metadata=not answer.lacking_records,
        bytes=not lacking,
        missing_blobs=len(lacking),
        missing_bytes=sum(sizes[digest] for digest in lacking),
    )
