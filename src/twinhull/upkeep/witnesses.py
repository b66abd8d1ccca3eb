"""The other members as witnesses that none of them needs certain blobs."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from contextlib import suppress
from typing import Final, Protocol

import msgspec

from twinhull.kit.errors import PeerUnavailable, TwinhullError
from twinhull.metadata.store import Store
from twinhull.records.change import VersionVector, covers, joined
from twinhull.replication.neighbours import Neighbour, Neighbours
from twinhull.replication.protocol import KeptAnswer, KeptQuery
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
        answers = await self._ask_all(KeptQuery(digests=[], vector={}, quiet_s=0))
        cut = await in_thread(self._executor, self._store.vector)
        for answer in answers:
            cut = joined(cut, answer.vector)
        for _ in range(_LOOKS_MAX):
            if covers(await in_thread(self._executor, self._store.vector), cut):
                return cut
            await asyncio.sleep(_LOOK_AGAIN_S)
        message = "this node is behind its peers, which may name what it would remove"
        raise PeerUnavailable(message, hint="see `twinhull cluster status`")

    async def kept(self, query: KeptQuery) -> set[str]:
        """Ask each of them."""
        return {digest for answer in await self._ask_all(query) for digest in answer.kept}

    async def _ask_all(self, query: KeptQuery) -> list[KeptAnswer]:
        neighbours = self._neighbours.all()
        return await asyncio.gather(*(self._ask(neighbour, query) for neighbour in neighbours))

    async def _ask(self, neighbour: Neighbour, query: KeptQuery) -> KeptAnswer:
        """Ask one of them, through another one if need be: not every office reaches every other."""
        try:
            return await neighbour.client.kept(query, timeout_s=_ASK_S)
        except TwinhullError as error:
            failure = error
        passed_on = msgspec.structs.replace(query, node=neighbour.node.id)
        for other in self._neighbours.all():
            if other is not neighbour and other.puller.connected:
                with suppress(TwinhullError):
                    return await other.client.kept(passed_on, timeout_s=_ASK_S)
        raise _silent(neighbour, failure) from failure


def _silent(neighbour: Neighbour, error: TwinhullError) -> PeerUnavailable:
    return PeerUnavailable(
        f"node {neighbour.node.name} cannot be asked what it needs: {error.message}",
        hint="its blobs are removed when it answers again; `twinhull cluster remove` if it never will",
    )
