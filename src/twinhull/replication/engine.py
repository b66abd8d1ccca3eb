"""The agent's heart: pullers to all members, feeds to those that read from here, and the blobs that must come along."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from twinhull.blobs.store import BlobStore
from twinhull.kit.clock import Clock
from twinhull.kit.digest import Digest
from twinhull.kit.errors import TwinhullError
from twinhull.metadata.members import Node
from twinhull.metadata.store import Store
from twinhull.records.change import Change, VersionVector, joined
from twinhull.records.kinds import BLOB, MANIFEST, NODE
from twinhull.replication.acknowledgements import Acknowledgements
from twinhull.replication.feed import Feed
from twinhull.replication.following import FOLLOWED_MAX, Following
from twinhull.replication.neighbours import Neighbours
from twinhull.replication.own_past import check_own_past
from twinhull.replication.own_removal import learn_of_removal
from twinhull.replication.page import FOREVER_MS, SyncPage
from twinhull.replication.peer import Peer
from twinhull.replication.protocol import FromSource
from twinhull.replication.tails import Tails
from twinhull.replication.threads import in_thread
from twinhull.replication.transfers import Transfers
from twinhull.replication.trust import Identity, Trust
from twinhull.replication.wants import Wants, is_named

log = structlog.get_logger(__name__)

_LOOK_AT_LOG_S: Final = 0.1
# The share of the time after which a peer is not waited for any more; see docs/decisions/0004.
_LEASE_SHARE: Final = 0.75
_PINGS_IN_A_LEASE: Final = 3
# Threads that wait for bytes of peers: for those that are followed, and for as many that are fetched.
_MOVERS: Final = FOLLOWED_MAX + 16
_TIDY_EVERY_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What can be set."""

    ack_timeout_s: float = 2.0
    full_copies: int = 1
    # What an upload or a transfer may rest before it is taken for abandoned.
    upload_idle_s: float = 7 * 24 * 3600.0


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
        call: Callable[[Node], Peer],
        executor: Executor,
        clock: Clock,
        settings: EngineSettings,
    ) -> None:
        """Take who this node is, what it has, and what gives the means to call a member."""
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
        self._tasks: set[asyncio.Task[None]] = set()
        timeout_s, lease_s = settings.ack_timeout_s, settings.ack_timeout_s * _LEASE_SHARE
        self.acknowledgements = _acknowledgements(store.origin, clock, page, timeout_s=timeout_s, lease_s=lease_s)
        self.neighbours = Neighbours(
            cluster=identity.cluster,
            store=store,
            acknowledgements=self.acknowledgements,
            call=call,
            executor=executor,
            clock=clock,
            ping_s=lease_s / _PINGS_IN_A_LEASE,
            jitter=jitter,
        )
        self.neighbours.receiver = self
        self.tails = Tails(blobs, clock)
        self._movers = ThreadPoolExecutor(_MOVERS, thread_name_prefix="mover")
        self.transfers = Transfers(
            blobs,
            self.neighbours.sources,
            executor=executor,
            movers=self._movers,
            is_named=partial(is_named, store),
            jitter=jitter,
        )
        self._wants = Wants(store, blobs, self.transfers.backlog, executor=executor)
        self.following = Following(blobs, self.transfers, executor=executor)
        self.sent_bytes: dict[str, int] = {}  # of blobs, by peer
        self._counting = threading.Lock()
        self.started = asyncio.Event()
        # What is applied here, and whose blobs are on their way.
        self._settled: VersionVector = {}
        self._reachable: frozenset[str] = frozenset()
        self._feeds: list[Feed] = []
        self._looking_at_log = asyncio.Event()
        self._log_listeners: list[Callable[[], None]] = []

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Dial the members, and look for blobs that records name but the disk lacks."""
        self._page.set_until(0)
        self._settled = await in_thread(self.executor, self.store.vector)
        self.acknowledgements.wrote(self._settled)
        await in_thread(self.executor, self.following.drop_leftovers)
        await self.neighbours.refresh()
        self.spawn(self._wants.look_for_ever())
        self.spawn(self._watch_log())
        self.spawn(_tidy_for_ever(self))
        self.started.set()

    async def close(self) -> None:
        """Leave the peers and stop transfers; everything goes on where it was after the next start."""
        self._page.set_until(0)
        for task in list(self._tasks):
            task.cancel()
        await self.transfers.close()
        await self.neighbours.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._movers.shutdown(wait=False, cancel_futures=True)

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
    def feeds(self) -> Sequence[Feed]:
        """The streams of the peers that read from here."""
        return self._feeds

    async def serve_feed(self, feed: Feed) -> None:
        """Run a subscriber's stream until it ends."""
        for older in [other for other in self._feeds if other.peer == feed.peer]:
            older.stop()
        self._feeds.append(feed)
        neighbour = self.neighbours.get(feed.peer)
        if neighbour is not None:
            # It dialled us, so it is there: no need to wait for our own next try.
            neighbour.puller.heard_of()
        for frame in self.tails.news():
            feed.offer(frame)
        try:
            await feed.run()
        finally:
            self._feeds.remove(feed)

    def offer(self, frame: FromSource) -> None:
        """Send a frame that is only a help to all who read from here."""
        for feed in self._feeds:
            feed.offer(frame)

    def sent(self, node: str, count: int) -> None:
        """Count bytes of blobs that were sent to a peer, by any thread."""
        with self._counting:
            self.sent_bytes[node] = self.sent_bytes.get(node, 0) + count

    def wrote(self, seq: int) -> None:
        """Let the feeds send what this node has just written."""
        self.acknowledgements.wrote({self.store.origin: seq})
        self._looking_at_log.set()
        for feed in self._feeds:
            feed.wake()

    def listen_to_log(self, on_move: Callable[[], None]) -> None:
        """Call this, on the event loop, whenever the log has grown."""
        self._log_listeners.append(on_move)

    async def _watch_log(self) -> None:
        """Wake the feeds, and who listens, when the log has grown, also by writes that nobody waits for."""
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
                for on_move in self._log_listeners:
                    on_move()
            self._looking_at_log.clear()
            try:
                async with asyncio.timeout(_LOOK_AT_LOG_S):
                    await self._looking_at_log.wait()
            except TimeoutError:
                continue

    # -- Receiver: what the pullers bring --------------------------------------------------------------------------

    def applied(self, node: str, changes: list[Change], vector: VersionVector) -> None:
        """Forward what was applied, fetch the blobs that it names, follow the members that it changes."""
        del node
        self._looking_at_log.set()
        for change in changes:
            if change.kind in (MANIFEST.name, BLOB.name):
                self._wants.named_by(change)
            elif change.kind == NODE.name:
                self.spawn(self.neighbours.refresh())
        self._settled = joined(self._settled, vector)

    def upload_grew(self, node: str, upload_id: str) -> None:
        """Follow a peer's upload."""
        neighbour = self.neighbours.get(node)
        if neighbour is not None:
            self.following.follow(neighbour.client, upload_id)

    def upload_ended(self, node: str, upload_id: str, digest: str | None, size: int) -> None:
        """Finish what is followed."""
        del node
        self.following.upload_ended(upload_id, Digest(digest) if digest is not None else None, size)

    def inline_blob(self, digest: str, content: bytes) -> None:
        """Keep a small blob."""
        self.transfers.inline(Digest(digest), content)

    def vector(self) -> VersionVector:
        """Return what this node has applied, and whose blobs are here or wanted."""
        return joined(self._settled, {self.store.origin: self.acknowledgements.own_seq})

    async def check_own_past(self, node: str, vector: VersionVector) -> None:
        """Write under another origin, and have the puller greet anew, when a peer knows more of this node's changes than it."""
        await check_own_past(self.store, self.executor, self.acknowledgements, node, vector)

    def removed(self, node: str) -> None:
        """Send nothing more to a node that is no member any more."""
        for feed in list(self._feeds):
            if feed.peer == node:
                feed.stop()

    def turned_away(self, node: str) -> None:
        """Ask a peer that turns this node away whether it was removed."""
        self.spawn(learn_of_removal(self.store, self.executor, self.neighbours, node))

    def linked(self) -> list[str]:
        """Return the nodes this node hears directly."""
        return self.neighbours.linked()

    def missing_bytes(self) -> int:
        """Return how many bytes of blobs this node lacks."""
        return self._wants.missing_bytes

    def missing_blobs(self) -> int:
        """Return how many blobs this node lacks."""
        return self._wants.missing_blobs

    def state_changed(self) -> None:
        """Tell the workers until when this node is sure to know everything."""
        reachable = [neighbour.puller for neighbour in self.neighbours.active() if neighbour.puller.reachable]
        before, self._reachable = self._reachable, frozenset(puller.node for puller in reachable)
        if before - self._reachable:
            # What the others vouch for by now may lack what a lost peer has told only them: ask again.
            for puller in reachable:
                puller.distrust()
        if self._reachable - before:
            self.transfers.backlog.retry_now()
        hidden = {neighbour.node.id for neighbour in self.neighbours.all()} - self._reachable
        if any(hidden & puller.peer_hears for puller in reachable):
            # A peer hears somebody whom this node can't hear, and alone confirms what is written there: always ask it.
            self._page.set_until(0)
        else:
            self._page.set_until(int(min(puller.sure_until_s for puller in reachable) * 1000) if reachable else FOREVER_MS)
        if not self._is_ready and any(puller.complete for puller in reachable):
            # A newcomer serves from the moment at which it has had everything once.
            self._is_ready = True
            self._trust.took_over()
            log.info("took over the cluster's state")


async def _tidy_for_ever(engine: Engine) -> None:
    """Remove, now and then, what clients and peers have left half done and never came back to."""
    while True:
        await asyncio.sleep(_TIDY_EVERY_S)
        older_than_ms = engine.clock.unix_ms() - int(engine.settings.upload_idle_s * 1000)
        try:
            dropped = await in_thread(engine.executor, engine.blobs.recover, older_than_ms)
        except TwinhullError as error:
            log.warning("abandoned uploads could not be removed", error=str(error))
            continue
        if dropped:
            log.info("removed abandoned uploads", count=len(dropped))


def _acknowledgements(origin: str, clock: Clock, page: SyncPage, *, timeout_s: float, lease_s: float) -> Acknowledgements:
    return Acknowledgements(
        origin,
        clock,
        timeout_s=timeout_s,
        lease_s=lease_s,
        inherited_s=min(page.promised_s(clock), lease_s),
        on_promise=page.set_promised,
    )
