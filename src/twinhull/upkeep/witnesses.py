"""The other members as witnesses that none of them needs certain blobs."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final, Protocol

from twinhull.kit.errors import PeerUnavailable, TwinhullError
from twinhull.metadata.store import Store
from twinhull.records.change import VersionVector, covers, joined
from twinhull.replication.neighbours import Neighbour, Neighbours
from twinhull.replication.protocol import KeptQuery
from twinhull.replication.threads import in_thread

_ASK_S: Final = 20.0
# What the peers have is waited for so often, and so long between two looks.
_LOOKS_MAX: Final = 300
_LOOK_AGAIN_S: Final = 0.1


class Witnesses(Protocol):
    """All other members together. Everything raises PeerUnavailable, naming the member, unless all of them answer."""

    def asked(self) -> frozenset[str]:
        """Return the ids of the members that are asked."""
        ...

    async def cut(self) -> VersionVector:
        """Return a vector that covers what each member has by now, once this node has all of it too."""
        ...

    async def kept(self, query: KeptQuery) -> set[str]:
        """Return those of the blobs that some member needs."""
        ...


class Members:
    """The members that this node knows, over the lines that replication uses."""

    def __init__(self, neighbours: Neighbours, store: Store, executor: Executor) -> None:
        """Take who they are and what this node has."""
        self._neighbours = neighbours
        self._store = store
        self._executor = executor

    def asked(self) -> frozenset[str]:
        """Return their ids."""
        return frozenset(neighbour.node.id for neighbour in self._neighbours.all())

    async def cut(self) -> VersionVector:
        """Ask each for its vector, and wait until this node has what they have."""
        neighbours = self._neighbours.all()
        vectors = await asyncio.gather(*(_vector_of(neighbour) for neighbour in neighbours))
        cut = await in_thread(self._executor, self._store.vector)
        for vector in vectors:
            cut = joined(cut, vector)
        for _ in range(_LOOKS_MAX):
            if covers(await in_thread(self._executor, self._store.vector), cut):
                return cut
            await asyncio.sleep(_LOOK_AGAIN_S)
        message = "this node is behind its peers, which may name what it would remove"
        raise PeerUnavailable(message, hint="see `twinhull cluster status`")

    async def kept(self, query: KeptQuery) -> set[str]:
        """Ask each of them."""
        answers = await asyncio.gather(*(_kept_by(neighbour, query) for neighbour in self._neighbours.all()))
        return set().union(*answers)


async def _vector_of(neighbour: Neighbour) -> VersionVector:
    try:
        return await neighbour.client.vector(timeout_s=_ASK_S)
    except TwinhullError as error:
        raise _silent(neighbour, error) from error


async def _kept_by(neighbour: Neighbour, query: KeptQuery) -> set[str]:
    try:
        return await neighbour.client.kept(query, timeout_s=_ASK_S)
    except TwinhullError as error:
        raise _silent(neighbour, error) from error


def _silent(neighbour: Neighbour, error: TwinhullError) -> PeerUnavailable:
    return PeerUnavailable(
        f"node {neighbour.node.name} cannot be asked what it needs: {error.message}",
        hint="its blobs are removed when it answers again; `twinhull cluster remove` if it never will",
    )
