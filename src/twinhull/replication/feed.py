"""What this node sends to one peer that reads its changes: the log from where the peer is, and then live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, Protocol

import structlog

from twinhull.kit.clock import Clock
from twinhull.kit.errors import ProtocolError, Unavailable
from twinhull.metadata.store import RecordsPage, Store
from twinhull.records.change import Change, VersionVector, joined, node_of
from twinhull.replication.acknowledgements import Acknowledgements
from twinhull.replication.protocol import (
    CHANGES_PER_FRAME_MAX,
    FRAME_BYTES_SOFT,
    NEWEST_PROTOCOL,
    OLDEST_PROTOCOL,
    Acknowledged,
    Changes,
    FromSource,
    FromSubscriber,
    Hello,
    Ping,
    Pong,
    SnapshotPage,
    Welcome,
)
from twinhull.replication.threads import in_thread

log = structlog.get_logger(__name__)

# Another node's changes are passed on only when the peer has not had them from there for this long.
FORWARD_AFTER_S: Final = 2.0
# A change that the peer could not take is sent again after so long: its clock, or its release, may be another by then.
AGAIN_AFTER_S: Final = 10.0
_IDLE_CHECK_S: Final = 1.0
# A subscriber pings several times in a second; one that says nothing for this long is gone, though its line may not be.
_SILENCE_MAX_S: Final = 10.0
_SNAPSHOT_PAGE_RECORDS: Final = 500


class SubscriberLink(Protocol):
    """The connection to one subscriber."""

    async def send(self, frame: FromSource) -> None:
        """Send a frame; raises an OSError or ConnectionError when the connection is gone."""
        ...

    async def receive(self) -> FromSubscriber | None:
        """Return the next frame, or None when the other side has closed."""
        ...


class Feed:
    """One subscriber's stream. Runs until the connection ends."""

    def __init__(
        self,
        link: SubscriberLink,
        hello: Hello,
        *,
        cluster: str,
        store: Store,
        acknowledgements: Acknowledgements,
        executor: Executor,
        clock: Clock,
        linked: Callable[[], list[str]],
        again_after_s: float = AGAIN_AFTER_S,
    ) -> None:
        """Take the connection, on which Hello has been read and checked, and what tells whom this node hears directly."""
        self._linked = linked
        self._link = link
        self._peer = hello.node
        # Of these changes alone it surely has all.
        self._origin = hello.origin or hello.node
        self._cluster = cluster
        self._store = store
        self._acknowledgements = acknowledgements
        self._executor = executor
        self._clock = clock
        # What the subscriber has, by its own word, and the nodes that it hears directly.
        self._vector: VersionVector = dict(hello.vector)
        self._hears = hello.linked
        self._sent: VersionVector = dict(hello.vector)
        self._pings: list[int] = []
        self._wake = asyncio.Event()
        self._frames: asyncio.Queue[FromSource] = asyncio.Queue(maxsize=1000)
        # Per node, since when the peer lacks some of its changes.
        self._lacking_since_s: dict[str, float] = {}
        self._running: list[asyncio.Task[None]] = []
        # The origins of which the peer says that it can't take the next change, and why.
        self.held_there: dict[str, str] = {}
        self._again_after_s = again_after_s
        self._sent_again_s: dict[str, float] = {}

    @property
    def peer(self) -> str:
        """The subscriber's node id."""
        return self._peer

    def wake(self) -> None:
        """Look at the log: something was written."""
        self._wake.set()

    def offer(self, frame: FromSource) -> None:
        """Send a frame that is only a help to the peer (uploads, small blobs); dropped when the connection is behind."""
        if not self._frames.full():
            self._frames.put_nowait(frame)
            self._wake.set()

    def stop(self) -> None:
        """End the stream: the peer came back on another one, or is to be left alone."""
        for task in self._running:
            task.cancel()

    async def run(self) -> None:
        """Serve the subscriber until it leaves or errs."""
        subscription: int | None = None
        try:
            vector = await in_thread(self._executor, self._store.vector)
            self._acknowledgements.wrote(vector)
            await self._link.send(_welcome(self._cluster, self._store.node, vector))
            await self._send_snapshot_if_needed()
            subscription = self._acknowledgements.subscribed(self._peer, self._vector, self._hears, origin=self._origin)
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(self._listen())
                sending = group.create_task(self._send_for_ever())
                listening.add_done_callback(lambda _: sending.cancel())
                self._running = [listening, sending]
        finally:
            if subscription is not None:
                self._acknowledgements.lost(self._peer, subscription)

    # -- receiving -------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while (frame := await self._receive()) is not None:
            match frame:
                case Acknowledged():
                    await self._confirmed(frame)
                case Ping():
                    await self._confirmed(frame)
                    self._pings.append(frame.number)
                    self._wake.set()
                case Hello():
                    message = f"peer {self._peer} greeted twice"
                    raise ProtocolError(message)

    async def _receive(self) -> FromSubscriber | None:
        async with asyncio.timeout(_SILENCE_MAX_S):
            return await self._link.receive()

    async def _confirmed(self, frame: Acknowledged | Ping) -> None:
        await self._require_possible(frame.vector)
        self._vector, self._hears = joined(self._vector, frame.vector), frame.linked
        self._acknowledgements.acknowledged(self._peer, frame.vector, frame.linked, frame.missing_bytes)
        self._note_held(frame.held)

    async def _require_possible(self, vector: VersionVector) -> None:
        """Raise ProtocolError when the peer says it has changes of this node that this node has not made.

        It would count as having confirmed what is written next.
        """
        origin = self._store.origin
        if vector.get(origin, 0) <= self._acknowledgements.own_seq:
            return
        own = await in_thread(self._executor, self._store.vector)
        self._acknowledgements.wrote(own)
        if vector[origin] > own.get(origin, 0) and origin == self._store.origin:
            message = f"peer {self._peer} says it has change {vector[origin]} of this node, which has made {own.get(origin, 0)}"
            raise ProtocolError(message)

    def _note_held(self, held: dict[str, str]) -> None:
        for origin, reason in held.items():
            if self.held_there.get(origin) != reason:
                log.warning("peer holds changes back", peer=self._peer, origin=origin, reason=reason)
            if self._clock.monotonic_s() - self._sent_again_s.get(origin, -self._again_after_s) >= self._again_after_s:
                self._sent_again_s[origin] = self._clock.monotonic_s()
                self._sent[origin] = self._vector.get(origin, 0)
                self._wake.set()
        self.held_there = dict(held)

    # -- sending ---------------------------------------------------------------------------------------------------

    async def _send_for_ever(self) -> None:
        while True:
            self._wake.clear()
            pings, self._pings = self._pings, []
            # Promised before the look at the log: a write that was acknowledged without the subscriber is in what follows,
            # a write that comes later waits for it.
            lease_s = self._acknowledgements.promise(self._peer) if pings else 0.0
            while not self._frames.empty():
                await self._link.send(self._frames.get_nowait())
            vector = await self._send_changes()
            for number in pings:
                await self._link.send(Pong(number=number, vector=vector, lease_ms=int(lease_s * 1000), linked=self._linked()))
            try:
                async with asyncio.timeout(_IDLE_CHECK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _send_changes(self) -> VersionVector:
        """Send what the peer lacks, until a look at the log finds nothing more; return what this node had at that look."""
        while True:
            due, vector = await in_thread(self._executor, self._read_due, dict(self._sent), self._held_back())
            if not due:
                return vector
            for chunk in frames_of(due):
                await self._link.send(Changes(changes=chunk))
            for change in due:
                self._sent[change.origin] = change.seq

    def _held_back(self) -> set[str]:
        """Return the nodes whose changes the peer should be getting from them themselves."""
        now_s = self._clock.monotonic_s()
        held = set()
        for node in self._hears:
            if node == self._store.node:
                continue
            since = self._lacking_since_s.setdefault(node, now_s)
            if now_s - since < FORWARD_AFTER_S:
                held.add(node)
        return held

    def _read_due(self, sent: VersionVector, held_back: set[str]) -> tuple[list[Change], VersionVector]:
        vector = self._store.vector()
        confirmed = self._vector
        pages: list[list[tuple[int, Change]]] = []
        lacking: set[str] = set()
        for origin in sorted(vector):
            have = max(sent.get(origin, 0), confirmed.get(origin, 0))
            if vector[origin] <= have:
                continue
            lacking.add(node_of(origin))
            if origin == self._origin or node_of(origin) in held_back:
                continue
            page = self._store.changes_of(origin, have, CHANGES_PER_FRAME_MAX)
            if not page:
                self._give_up_on(origin, have + 1)
            pages.append(page)
        for node in self._lacking_since_s.keys() - lacking:
            self._lacking_since_s.pop(node, None)
        return _in_log_order(pages), vector

    def _give_up_on(self, origin: str, seq: int) -> None:
        """Have the peer dial anew, for a snapshot, since the log does not hold a change whole that it lacks."""
        self._store.cut_log(origin, seq)
        log.error("change is damaged in the log, peers are sent all records instead", origin=origin, seq=seq)
        raise Unavailable(f"change {seq} of {origin} is damaged in this node's log; it sends all its records instead")

    async def _send_snapshot_if_needed(self) -> None:
        floors = await in_thread(self._executor, self._store.floors)
        if all(self._sent.get(origin, 0) >= floor for origin, floor in floors.items() if origin != self._origin):
            return
        # The vector is read first: records read later may hold more, which the log will then say again, harmlessly.
        vector = await in_thread(self._executor, self._store.vector)
        kind, key = "", ""
        number = 1
        while (page := await self._page_after(kind, key)).records:
            for chunk in frames_of(page.records):
                await self._link.send(SnapshotPage(records=chunk, damaged=page.damaged, number=number))
                number += 1
            kind, key = page.records[-1].kind, page.records[-1].key
        await self._link.send(SnapshotPage(records=[], damaged=page.damaged, vector=vector, number=number))
        self._sent = {origin: max(seq, self._sent.get(origin, 0)) for origin, seq in vector.items()}

    async def _page_after(self, kind: str, key: str) -> RecordsPage:
        return await in_thread(self._executor, self._store.records_after, kind, key, _SNAPSHOT_PAGE_RECORDS)


def _welcome(cluster: str, node: str, vector: VersionVector) -> Welcome:
    return Welcome(protocol=OLDEST_PROTOCOL, newest=NEWEST_PROTOCOL, cluster=cluster, node=node, vector=vector)


def _in_log_order(pages: list[list[tuple[int, Change]]]) -> list[Change]:
    """Put several origins' changes into the order in which this node has them, so that none comes before what it rests on.

    Where an origin has more than its page holds, nothing that came later in the log is sent with it.
    """
    full = [page[-1][0] for page in pages if len(page) >= CHANGES_PER_FRAME_MAX]
    last = min(full, default=None)
    found = sorted((entry for page in pages for entry in page), key=lambda entry: entry[0])
    return [change for position, change in found if last is None or position <= last]


def frames_of(changes: list[Change]) -> list[list[Change]]:
    """Split changes so that no frame grows much beyond its soft limit."""
    chunks: list[list[Change]] = [[]]
    size = 0
    for change in changes:
        change_size = len(change.record) + len(change.content or b"")
        if chunks[-1] and size + change_size > FRAME_BYTES_SOFT:
            chunks.append([])
            size = 0
        chunks[-1].append(change)
        size += change_size
    return chunks
