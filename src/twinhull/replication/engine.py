"""The agent's heart: pullers to all members, feeds to those that read from here, and the blobs that must come along."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import aiohttp
import structlog

from twinhull.blobs.store import BlobStore
from twinhull.kit.clock import Clock
from twinhull.kit.digest import Digest
from twinhull.metadata import members
from twinhull.metadata.store import Store
from twinhull.records.change import Change
from twinhull.records.kinds import BLOB, KINDS, MANIFEST, NODE, split_content_key
from twinhull.records.merge import decode, is_dead, values_of
from twinhull.replication.acknowledgements import Acknowledgements
from twinhull.replication.feed import Feed
from twinhull.replication.neighbours import Neighbours
from twinhull.replication.page import FOREVER_MS, SyncPage
from twinhull.replication.protocol import FromSource
from twinhull.replication.tails import Tails
from twinhull.replication.threads import in_thread
from twinhull.replication.transfers import Transfers
from twinhull.replication.trust import Identity, Trust

log = structlog.get_logger(__name__)

_NAMED_BLOBS_PAGE: Final = 1000
_LOOK_AT_LOG_S: Final = 0.1
# The share of the time after which a peer stops waiting for this node; see docs/decisions/0004.
_LEASE_SHARE: Final = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What can be set."""

    ack_timeout_s: float = 2.0
    refuse_on_loss: bool = False
    full_copies: int = 1


class Engine:
    """Everything that happens between this node and its peers. Lives on the agent's event loop."""

    def __init__(
        self,
        *,
        identity: Identity,
        trust: Trust,
        store: Store,
        blobs: BlobStore,
        page: SyncPage,
        session: aiohttp.ClientSession,
        executor: Executor,
        clock: Clock,
        settings: EngineSettings,
    ) -> None:
        """Take who this node is and what it has."""
        self.identity = identity
        self.store = store
        self.blobs = blobs
        self.executor = executor
        self.clock = clock
        self.settings = settings
        self._trust = trust
        self._page = page
        self._is_ready = trust.is_ready()
        jitter = random.Random(identity.node)  # noqa: S311 - spreads retries, hides nothing
        self.acknowledgements = Acknowledgements(identity.node, clock, timeout_s=settings.ack_timeout_s)
        self.neighbours = Neighbours(
            cluster=identity.cluster,
            store=store,
            acknowledgements=self.acknowledgements,
            session=session,
            tls=trust.client_context(),
            executor=executor,
            clock=clock,
            lease_s=settings.ack_timeout_s * _LEASE_SHARE,
            jitter=jitter,
        )
        self.neighbours.receiver = self
        self.tails = Tails(blobs, executor)
        self.transfers = Transfers(blobs, self.neighbours.sources, executor=executor, clock=clock, jitter=jitter)
        self._feeds: set[Feed] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking_at_log = asyncio.Event()

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Dial the members, and look for blobs that records name but the disk lacks."""
        self.acknowledgements.wrote(await in_thread(self.executor, self.store.vector))
        await self.neighbours.refresh()
        self.spawn(self._want_missing_blobs())
        self.spawn(self._watch_log())

    async def close(self) -> None:
        """Leave the peers and stop transfers; everything goes on where it was after the next start."""
        self._page.set_until(0)
        for task in list(self._tasks):
            task.cancel()
        await self.transfers.close()
        await self.neighbours.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run something in the background for as long as this lives."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def pause(self, node: str | None) -> None:
        """Exchange nothing with this peer, or with any, until `resume`."""
        self.neighbours.pause(node)
        for feed in list(self._feeds):
            if self.neighbours.is_paused(feed.peer):
                feed.stop()

    # -- feeds -----------------------------------------------------------------------------------------------------

    @property
    def has_subscribers(self) -> bool:
        """Whether any peer reads from here."""
        return bool(self._feeds)

    async def serve_feed(self, feed: Feed) -> None:
        """Run a subscriber's stream until it ends."""
        for older in [other for other in self._feeds if other.peer == feed.peer]:
            older.stop()
        self._feeds.add(feed)
        neighbour = self.neighbours.get(feed.peer)
        if neighbour is not None:
            # It dialled us, so it is there: no need to wait for our own next try.
            neighbour.puller.retry_now()
        try:
            await feed.run()
        finally:
            self._feeds.discard(feed)

    def offer(self, frame: FromSource) -> None:
        """Send a frame that is only a help to all who read from here."""
        for feed in self._feeds:
            feed.offer(frame)

    def wrote(self, seq: int) -> None:
        """Let the feeds send what this node has just written."""
        self.acknowledgements.wrote({self.identity.node: seq})
        self._looking_at_log.set()
        for feed in self._feeds:
            feed.wake()

    async def _watch_log(self) -> None:
        """Wake the feeds when the log has grown, also by writes that nobody waits for."""
        seen = -1
        while True:
            position = self.store.position_hint()
            if position is None:
                position = await in_thread(self.executor, self.store.position)
            if position != seen:
                seen = position
                self.acknowledgements.wrote(await in_thread(self.executor, self.store.vector))
                for feed in self._feeds:
                    feed.wake()
            self._looking_at_log.clear()
            try:
                async with asyncio.timeout(_LOOK_AT_LOG_S):
                    await self._looking_at_log.wait()
            except TimeoutError:
                continue

    # -- Receiver: what the pullers bring --------------------------------------------------------------------------

    def applied(self, node: str, changes: list[Change]) -> None:
        """Forward what was applied, fetch the blobs that it names, follow the members that it changes."""
        del node
        self._looking_at_log.set()
        for change in changes:
            if change.kind in (MANIFEST.name, BLOB.name):
                self._want_blobs_of(change)
            elif change.kind == NODE.name:
                self.spawn(self.neighbours.refresh())

    def _want_blobs_of(self, change: Change) -> None:
        kind = KINDS[change.kind]
        record = decode(change.record)
        if is_dead(kind, record):
            return
        values = values_of(kind, record)
        named: list[tuple[str, int]] = []
        if kind is BLOB:
            size = values.get("size")
            named = [(split_content_key(change.key)[1], size if isinstance(size, int) else 0)]
        elif isinstance(blobs := values.get("blobs"), list):
            named = [(digest, size) for digest, size, required in blobs if required]
        for digest, size in named:
            running = self.transfers.running(Digest(digest))
            if running is None and self.blobs.stat(Digest(digest)) is None:
                self.transfers.want(Digest(digest), size)

    def upload_grew(self, node: str, upload_id: str) -> None:
        """Follow a peer's upload."""
        neighbour = self.neighbours.get(node)
        if neighbour is not None:
            self.transfers.follow(neighbour.client, upload_id)

    def upload_ended(self, node: str, upload_id: str, digest: str | None, size: int) -> None:
        """Finish what is followed."""
        del node
        self.transfers.upload_ended(upload_id, Digest(digest) if digest is not None else None, size)

    def inline_blob(self, digest: str, content: bytes) -> None:
        """Keep a small blob."""
        self.transfers.inline(Digest(digest), content)

    def linked(self) -> list[str]:
        """Return the nodes this node hears directly."""
        return self.neighbours.linked()

    def missing_bytes(self) -> int:
        """Return how many bytes of blobs this node lacks."""
        return self.transfers.wanted_bytes

    def state_changed(self) -> None:
        """Tell the workers until when this node is sure to know everything."""
        active = self.neighbours.active()
        until_s = [neighbour.puller.sure_until_s for neighbour in active if neighbour.puller.reachable]
        self._page.set_until(int(min(until_s) * 1000) if until_s else FOREVER_MS)
        if not self._is_ready and any(neighbour.puller.sure_until_s for neighbour in active):
            # A newcomer serves from the moment at which it has had everything once.
            self._is_ready = True
            self._trust.took_over()
            log.info("took over the cluster's state")

    async def _want_missing_blobs(self) -> None:
        """Go through all blobs that records name, and fetch those that the disk lacks."""

        def page_after(after: str) -> tuple[str, list[tuple[Digest, int]]]:
            with self.store.read() as connection:
                named = members.named_blobs_page(connection, after, _NAMED_BLOBS_PAGE)
            absent = [(digest, size) for digest, size in named if self.blobs.stat(digest) is None]
            return (named[-1][0] if named else ""), absent

        after = ""
        while True:
            after, absent = await in_thread(self.executor, page_after, after)
            for digest, size in absent:
                self.transfers.want(digest, size)
            if not after:
                return
