"""The other members: who they are, what is read from them, and which of them are left alone for now."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import structlog

from twinhull.kit.clock import Clock
from twinhull.metadata import members
from twinhull.metadata.members import Node
from twinhull.metadata.store import Store
from twinhull.replication.acknowledgements import Acknowledgements
from twinhull.replication.peer import Peer
from twinhull.replication.puller import Puller
from twinhull.replication.taking import Receiver
from twinhull.replication.threads import in_thread

log = structlog.get_logger(__name__)

_TRY_MAX_S: Final = 5.0
_LAST_WORDS_S: Final = 0.5
REMOVED_HINT: Final = "invite it again, and join with --merge or --discard"


@dataclass(slots=True)
class Neighbour:
    """One other member, how to call it, and the task that reads its changes."""

    node: Node
    client: Peer
    puller: Puller
    task: asyncio.Task[None]


class Neighbours:
    """All other members. Used on the agent's event loop."""

    def __init__(
        self,
        *,
        cluster: str,
        store: Store,
        acknowledgements: Acknowledgements,
        call: Callable[[Node], Peer],
        executor: Executor,
        clock: Clock,
        ping_s: float,
        jitter: random.Random,
    ) -> None:
        """Take what a puller is made of, and what gives the means to call a member; `receiver` is set before the first use."""
        self.receiver: Receiver
        self._cluster = cluster
        self._store = store
        self._acknowledgements = acknowledgements
        self._call = call
        self._executor = executor
        self._clock = clock
        self._ping_s = ping_s
        self._jitter = jitter
        self._all: dict[str, Neighbour] = {}
        self._paused: set[str] = set()
        self._all_paused = False
        self._refreshing = asyncio.Lock()
        # This node itself is no member any more.
        self.is_removed = False

    def all(self) -> list[Neighbour]:
        """Return the other members."""
        return list(self._all.values())

    def active(self) -> list[Neighbour]:
        """Return the other members with whom something is exchanged."""
        return [neighbour for neighbour in self._all.values() if not self.is_paused(neighbour.node.id)]

    def get(self, node: str) -> Neighbour | None:
        """Return a member by its id."""
        return self._all.get(node)

    def name_of(self, node: str) -> str:
        """Return what a member is called, its id if it is none; may be asked by any thread."""
        neighbour = self._all.get(node)
        return neighbour.node.name if neighbour is not None else node

    async def refresh(self) -> None:
        """Dial who is a member now, and leave who is not."""

        def read() -> tuple[list[Node], bool]:
            with self._store.read() as connection:
                return members.nodes(connection), members.was_removed(connection, self._store.node)

        # One at a time: an older answer of the database must not come after a newer one.
        async with self._refreshing:
            known, is_removed = await in_thread(self._executor, read)
            if is_removed and not self.is_removed:
                log.error("this node was removed from its cluster", hint=REMOVED_HINT)
                self.is_removed = True
                # Who removed it waits for its confirmation.
                await asyncio.sleep(_LAST_WORDS_S)
            # A node that leaves is removed for a moment, and then a cluster of its own.
            self.is_removed = is_removed
            wanted = {node.id: node for node in known if node.id != self._store.node and not is_removed}
            for node_id, neighbour in list(self._all.items()):
                if wanted.get(node_id) != neighbour.node:
                    self._leave(neighbour)
                    if node_id not in wanted:
                        self._acknowledgements.forget(node_id)
                        self.receiver.removed(node_id)
                        if not is_removed:
                            log.info("peer removed", peer=node_id, name=neighbour.node.name)
            for node_id, node in wanted.items():
                if node_id not in self._all:
                    self._all[node_id] = self._dialled(node)
        self.receiver.state_changed()

    def _leave(self, neighbour: Neighbour) -> None:
        neighbour.task.cancel()
        neighbour.client.cut()
        self._all.pop(neighbour.node.id, None)

    def _dialled(self, node: Node) -> Neighbour:
        client = self._call(node)
        puller = Puller(
            node.id,
            client.dial,
            cluster=self._cluster,
            store=self._store,
            receiver=self.receiver,
            executor=self._executor,
            clock=self._clock,
            ping_s=self._ping_s,
            jitter=self._jitter,
        )
        self._acknowledgements.peer(node.id)
        return Neighbour(node, client, puller, asyncio.get_running_loop().create_task(self._pull(puller)))

    async def _pull(self, puller: Puller) -> None:
        if not self.is_paused(puller.node):
            await puller.run()

    def sources(self) -> list[Peer]:
        """Return the peers to ask for blobs, those that answer first."""
        usable = self.active()
        usable.sort(key=lambda neighbour: (not neighbour.puller.connected, not neighbour.puller.reachable))
        return [neighbour.client for neighbour in usable]

    def linked(self) -> list[str]:
        """Return the nodes this node hears directly."""
        return [neighbour.node.id for neighbour in self._all.values() if neighbour.puller.connected]

    # -- pausing ---------------------------------------------------------------------------------------------------

    def is_paused(self, node: str) -> bool:
        """Tell whether nothing is exchanged with this peer."""
        return self._all_paused or node in self._paused

    def pause(self, node: str | None) -> None:
        """Read nothing from this peer, or from any, until `resume`."""
        self._paused.update([node] if node else self._all)
        self._all_paused = self._all_paused or node is None
        for neighbour in self._all.values():
            if self.is_paused(neighbour.node.id):
                neighbour.task.cancel()
                neighbour.client.cut()
                neighbour.puller.connected, neighbour.puller.sure_until_s = False, 0.0
                self._acknowledgements.lost(neighbour.node.id)
        self.receiver.state_changed()

    async def resume(self, node: str | None) -> None:
        """Read again from this peer, or from all."""
        resumed = [node] if node else [*self._paused, *self._all]
        self._paused.difference_update(resumed)
        self._all_paused = False
        for neighbour in self.all():
            # Its reader may still be on its way out: another one takes its place.
            if neighbour.node.id in resumed and not neighbour.puller.connected:
                self._leave(neighbour)
        await self.refresh()
        for neighbour in self._all.values():
            neighbour.puller.retry_now()

    async def try_all(self) -> None:
        """Return once each peer that was taken for unreachable has been dialled once more, or that takes too long."""
        tried = []
        for neighbour in self.active():
            if not neighbour.puller.reachable and not neighbour.puller.connected:
                neighbour.puller.retry_now()
                tried.append(asyncio.ensure_future(neighbour.puller.tried()))
        if tried:
            _, pending = await asyncio.wait(tried, timeout=_TRY_MAX_S)
            for end in pending:
                end.cancel()

    async def close(self) -> None:
        """Leave all peers."""
        tasks = [neighbour.task for neighbour in self._all.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
