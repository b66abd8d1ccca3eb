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
from twinhull.kit.errors import DurabilityUnreached, TwinhullError
from twinhull.metadata import members
from twinhull.metadata.members import Node
from twinhull.metadata.store import Store
from twinhull.records.change import Change
from twinhull.records.kinds import BLOB, KINDS, MANIFEST, NODE, split_content_key
from twinhull.records.merge import decode, is_dead, values_of
from twinhull.replication.acknowledgements import Acknowledgements
from twinhull.replication.feed import Feed
from twinhull.replication.link import Beyond, Call, Ended, Fetch, Find, Grown, Notice, Reach, Result
from twinhull.replication.page import FOREVER_MS, SyncPage
from twinhull.replication.peer_client import PeerClient
from twinhull.replication.protocol import (
    FOLLOWED_UPLOAD_BYTES_MIN,
    INLINE_BLOB_BYTES_MAX,
    FromSource,
    InlineBlob,
    UploadEnded,
    UploadGrew,
)
from twinhull.replication.puller import Puller
from twinhull.replication.tails import Tails
from twinhull.replication.threads import in_thread
from twinhull.replication.transfers import Transfers
from twinhull.replication.trust import Identity, Trust

log = structlog.get_logger(__name__)

# A question to the peers on behalf of a waiting client takes no longer than this.
_FIND_TIMEOUT_S: Final = 0.5
_HOLD_TIMEOUT_S: Final = 600.0
_NAMED_BLOBS_PAGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What can be set."""

    ack_timeout_s: float = 2.0
    refuse_on_loss: bool = False
    full_copies: int = 1


@dataclass(slots=True)
class _Peer:
    node: Node
    client: PeerClient
    puller: Puller
    task: asyncio.Task[None]


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
        self._trust = trust
        self._page = page
        self._session = session
        self._settings = settings
        self._jitter = random.Random(identity.node)  # noqa: S311 - spreads retries, hides nothing
        self.acknowledgements = Acknowledgements(identity.node, clock, timeout_s=settings.ack_timeout_s)
        self.tails = Tails(blobs, executor)
        self.transfers = Transfers(blobs, self._sources, executor=executor, clock=clock, jitter=self._jitter)
        self._tls = trust.client_context()
        self._peers: dict[str, _Peer] = {}
        self._feeds: set[Feed] = set()
        self._paused: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking_at_log = asyncio.Event()
        self._is_ready = trust.is_ready()

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Dial the members, and look for blobs that records name but the disk lacks."""
        self.acknowledgements.wrote(await in_thread(self.executor, self.store.vector))
        await self.refresh_members()
        self._spawn(self._want_missing_blobs())
        self._spawn(self._watch_log())

    async def close(self) -> None:
        """Leave the peers and stop transfers; everything goes on where it was after the next start."""
        self._page.set_until(0)
        for peer in list(self._peers.values()):
            peer.task.cancel()
        for task in list(self._tasks):
            task.cancel()
        await self.transfers.close()
        await asyncio.gather(*self._tasks, *(peer.task for peer in self._peers.values()), return_exceptions=True)

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- members ---------------------------------------------------------------------------------------------------

    async def refresh_members(self) -> None:
        """Dial who is a member now, and leave who is not."""

        def read() -> list[Node]:
            with self.store.read() as connection:
                return members.nodes(connection)

        wanted = {node.id: node for node in await in_thread(self.executor, read) if node.id != self.identity.node}
        for node_id, peer in list(self._peers.items()):
            if wanted.get(node_id) != peer.node:
                peer.task.cancel()
                del self._peers[node_id]
                if node_id not in wanted:
                    self.acknowledgements.forget(node_id)
                    log.info("peer removed", peer=node_id, name=peer.node.name)
        for node_id, node in wanted.items():
            if node_id not in self._peers:
                self._peers[node_id] = self._dialled(node)
        self.state_changed()

    def _dialled(self, node: Node) -> _Peer:
        client = PeerClient(node.id, node.address, session=self._session, tls=self._tls)
        puller = Puller(
            node.id,
            client.dial,
            cluster=self.identity.cluster,
            store=self.store,
            receiver=self,
            executor=self.executor,
            clock=self.clock,
            # Shorter than the time after which the peer stops waiting for us: see Puller.sure_until_s.
            lease_s=self._settings.ack_timeout_s * 0.75,
            jitter=self._jitter,
        )
        self.acknowledgements.peer(node.id)
        return _Peer(node, client, puller, asyncio.get_running_loop().create_task(self._pull(puller)))

    async def _pull(self, puller: Puller) -> None:
        if not self.is_paused(puller.node):
            await puller.run()

    def pause(self, node: str | None) -> None:
        """Exchange nothing with this peer, or with any, until `resume`."""
        self._paused.update([node] if node else ["*", *self._peers])
        for peer in self._peers.values():
            if self.is_paused(peer.node.id):
                peer.task.cancel()
                peer.puller.connected, peer.puller.sure_until_s = False, 0.0
                self.acknowledgements.lost(peer.node.id)
        for feed in list(self._feeds):
            if self.is_paused(feed.peer):
                feed.stop()
        self.state_changed()

    async def resume(self, node: str | None) -> None:
        """Exchange again with this peer, or with all."""
        self._paused.difference_update([node] if node else list(self._paused))
        for peer in list(self._peers.values()):
            if not self.is_paused(peer.node.id) and peer.task.done():
                del self._peers[peer.node.id]
        await self.refresh_members()
        for peer in self._peers.values():
            peer.puller.retry_now()

    def is_paused(self, node: str) -> bool:
        """Tell whether nothing is exchanged with this peer."""
        return "*" in self._paused or node in self._paused

    def peers(self) -> list[tuple[Node, Puller]]:
        """Return the other members and what is read from them."""
        return [(peer.node, peer.puller) for peer in self._peers.values()]

    def client(self, node: str) -> PeerClient | None:
        """Return how to call a member."""
        peer = self._peers.get(node)
        return peer.client if peer is not None else None

    def _sources(self) -> list[PeerClient]:
        """Return the peers to ask for blobs, those that answer first."""
        usable = [peer for peer in self._peers.values() if not self.is_paused(peer.node.id)]
        usable.sort(key=lambda peer: (not peer.puller.connected, not peer.puller.reachable))
        return [peer.client for peer in usable]

    # -- feeds -----------------------------------------------------------------------------------------------------

    async def serve_feed(self, feed: Feed) -> None:
        """Run a subscriber's stream until it ends."""
        for older in [other for other in self._feeds if other.peer == feed.peer]:
            older.stop()
        self._feeds.add(feed)
        peer = self._peers.get(feed.peer)
        if peer is not None:
            # It dialled us, so it is there: no need to wait for our own next try.
            peer.puller.retry_now()
        try:
            await feed.run()
        finally:
            self._feeds.discard(feed)
            if any(other.peer == feed.peer for other in self._feeds):
                log.debug("subscriber came back before its old stream ended", peer=feed.peer)

    def _offer(self, frame: FromSource) -> None:
        for feed in self._feeds:
            feed.offer(frame)

    async def _watch_log(self) -> None:
        """Wake the feeds when the log has grown, also by writes whose worker did not ask for more than its own disk."""
        seen = -1
        while True:
            position = self.store.position_hint()
            if position is None:
                position = await in_thread(self.executor, self.store.position)
            if position != seen:
                seen = position
                await self._log_grew()
            self._looking_at_log.clear()
            try:
                async with asyncio.timeout(0.1):
                    await self._looking_at_log.wait()
            except TimeoutError:
                continue

    async def _log_grew(self) -> None:
        self.acknowledgements.wrote(await in_thread(self.executor, self.store.vector))
        for feed in self._feeds:
            feed.wake()

    # -- Receiver: what the pullers bring ----------------------------------------------------------------------------

    def applied(self, node: str, changes: list[Change]) -> None:
        """Forward what was applied, fetch the blobs that it names, follow the members that it changes."""
        del node
        self._looking_at_log.set()
        for change in changes:
            if change.kind in (MANIFEST.name, BLOB.name):
                self._want_blobs_of(change)
            elif change.kind == NODE.name:
                self._spawn(self.refresh_members())

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
        peer = self._peers.get(node)
        if peer is not None:
            self.transfers.follow(peer.client, upload_id)

    def upload_ended(self, node: str, upload_id: str, digest: str | None, size: int) -> None:
        """Finish what is followed."""
        del node
        self.transfers.upload_ended(upload_id, Digest(digest) if digest is not None else None, size)

    def inline_blob(self, digest: str, content: bytes) -> None:
        """Keep a small blob."""
        self.transfers.inline(Digest(digest), content)

    def linked(self) -> list[str]:
        """Return the nodes this node hears directly."""
        return [peer.node.id for peer in self._peers.values() if peer.puller.connected]

    def missing_bytes(self) -> int:
        """Return how many bytes of blobs this node lacks."""
        return self.transfers.wanted_bytes

    def state_changed(self) -> None:
        """Tell the workers until when this node is sure to know everything."""
        until_s = [
            peer.puller.sure_until_s
            for peer in self._peers.values()
            if peer.puller.reachable and not self.is_paused(peer.node.id)
        ]
        self._page.set_until(int(min(until_s) * 1000) if until_s else FOREVER_MS)
        if not self._is_ready and any(peer.puller.sure_until_s for peer in self._peers.values()):
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

    # -- what the workers ask ----------------------------------------------------------------------------------------

    async def on_call(self, call: Call) -> Result:
        """Answer a worker."""
        match call:
            case Reach():
                return await self._reach(call)
            case Find():
                return await self._find(call)
            case Fetch():
                return await self._fetch(Digest(call.digest), call.size)
            case Beyond():
                transfer = self.transfers.running(Digest(call.digest))
                if transfer is None:
                    return -1
                offset = await transfer.wait_beyond(call.offset)
                return -1 if transfer.ended.done() else offset

    def on_notice(self, notice: Notice) -> None:
        """Take note of an upload's progress."""
        match notice:
            case Grown():
                if self.tails.grew(notice.upload_id, notice.size) and notice.size >= FOLLOWED_UPLOAD_BYTES_MIN:
                    self._offer(UploadGrew(upload_id=notice.upload_id))
            case Ended():
                self._spawn(self._upload_ended(notice))

    async def _upload_ended(self, notice: Ended) -> None:
        digest = Digest(notice.digest) if notice.digest is not None else None
        followed = self.tails.ended(notice.upload_id)
        if not self._feeds:
            return
        size = await in_thread(self.executor, self.blobs.stat, digest) if digest is not None else 0
        if followed:
            self._offer(UploadEnded(upload_id=notice.upload_id, digest=digest, size=size or 0))
        elif digest is not None and size is not None and size <= INLINE_BLOB_BYTES_MAX:
            content = await in_thread(self.executor, self.blobs.read, digest, 0, size) if size else b""
            self._offer(InlineBlob(digest=digest, content=content))

    async def _reach(self, call: Reach) -> str:
        self._looking_at_log.set()
        self.acknowledgements.wrote({self.identity.node: call.seq})
        for feed in self._feeds:
            feed.wake()
        if call.level == "local" or not self._peers:
            return "local"
        have = await self.acknowledgements.wait(call.seq)
        expected = {node for node in self._peers if not self.is_paused(node)}
        if self._settings.refuse_on_loss and not expected <= have:
            names = ", ".join(sorted(self._peers[node].node.name for node in expected - have))
            raise DurabilityUnreached(f"written here, but not confirmed by {names}", hint="see `twinhull cluster status`")
        if not have:
            return "local"
        if call.level == "full" and await self._hold(call.blobs, have):
            return "full"
        if call.level == "full" and self._settings.refuse_on_loss:
            raise DurabilityUnreached("written here, but its blobs are not on enough peers yet")
        return "metadata"

    async def _hold(self, blobs: list[tuple[str, int]], nodes: set[str]) -> bool:
        """Tell whether enough peers have all these blobs, once they say so."""
        clients = [self._peers[node].client for node in nodes if node in self._peers]
        wanted = min(self._settings.full_copies, len(clients))
        answers = [asyncio.ensure_future(client.hold(blobs, timeout_s=_HOLD_TIMEOUT_S)) for client in clients]
        confirmed = 0
        try:
            for answer in asyncio.as_completed(answers):
                try:
                    await answer
                except TwinhullError as error:
                    log.warning("peer does not hold the blobs", error=str(error))
                    continue
                confirmed += 1
                if confirmed >= wanted:
                    return confirmed >= self._settings.full_copies
        finally:
            for answer in answers:
                answer.cancel()
        return False

    async def _find(self, call: Find) -> bool:
        peers = [peer for peer in self._peers.values() if peer.puller.reachable and not self.is_paused(peer.node.id)]
        if not peers:
            return False
        answers = await asyncio.gather(*(self._find_at(peer, call) for peer in peers))
        records = [record for answer in answers for record in answer]
        return await in_thread(self.executor, self._merge, records) if records else False

    async def _find_at(self, peer: _Peer, call: Find) -> list[Change]:
        try:
            return await peer.client.find(call.kind, call.key, timeout_s=_FIND_TIMEOUT_S)
        except TwinhullError as error:
            log.info("peer gave no answer", peer=peer.node.id, error=str(error))
            peer.puller.gave_no_answer()
            return []

    def _merge(self, records: list[Change]) -> bool:
        with self.store.write() as transaction:
            changed = [transaction.merge_record(record) for record in records]
        return any(changed)

    async def _fetch(self, digest: Digest, size: int) -> str:
        if await in_thread(self.executor, self.blobs.stat, digest) is not None:
            return ""
        transfer = self.transfers.start(digest, size)
        await transfer.wait_beyond(0)
        return "" if transfer.ended.done() else transfer.upload_id

    async def hold(self, blobs: list[tuple[str, int]]) -> None:
        """Return when all these blobs are on this node's disk."""
        for digest, size in blobs:
            if await in_thread(self.executor, self.blobs.stat, Digest(digest)) is None:
                await asyncio.shield(self.transfers.start(Digest(digest), size).ended)
