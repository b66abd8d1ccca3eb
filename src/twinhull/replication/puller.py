"""What this node reads from one peer: its stream of changes, applied in order, acknowledged, for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Final, Protocol

import structlog

from twinhull.kit.clock import Clock
from twinhull.kit.errors import ProtocolError, TwinhullError
from twinhull.metadata.store import Store
from twinhull.records.change import Change, VersionVector, missing
from twinhull.replication.protocol import (
    PROTOCOL,
    Acknowledged,
    Changes,
    FromSource,
    FromSubscriber,
    Hello,
    InlineBlob,
    Ping,
    Pong,
    SnapshotPage,
    UploadEnded,
    UploadGrew,
    Welcome,
    check_greeting,
)
from twinhull.replication.threads import in_thread

log = structlog.get_logger(__name__)

_BACKOFF_MIN_S: Final = 0.2
_BACKOFF_MAX_S: Final = 5.0
_CHANGES_PER_TRANSACTION_MAX: Final = 500
_FRAMES_WAITING_MAX: Final = 64
# A source that answers no ping for this long is given up and dialled again.
_SILENCE_MAX_S: Final = 6.0


class SourceLink(Protocol):
    """The connection to a source."""

    async def send(self, frame: FromSubscriber) -> None:
        """Send a frame; raises an OSError when the connection is gone."""
        ...

    async def receive(self) -> FromSource | None:
        """Return the next frame, or None when the other side has closed."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


class Receiver(Protocol):
    """What the rest of the agent does with what arrives. Called on the event loop; must not wait."""

    def applied(self, node: str, changes: list[Change]) -> None:
        """Take note that changes are in the database now."""
        ...

    def upload_grew(self, node: str, upload_id: str) -> None:
        """Take note that a peer's upload can be followed."""
        ...

    def upload_ended(self, node: str, upload_id: str, digest: str | None, size: int) -> None:
        """Take note that a peer's upload became a blob, or was given up."""
        ...

    def inline_blob(self, digest: str, content: bytes) -> None:
        """Keep a small blob that came with the stream."""
        ...

    def linked(self) -> list[str]:
        """Return the nodes this node hears directly."""
        ...

    def missing_bytes(self) -> int:
        """Return how many bytes of blobs this node lacks."""
        ...

    def state_changed(self) -> None:
        """Recompute what depends on the state of all pullers."""
        ...


class Puller:
    """Reads one peer's changes. Its attributes say how that goes."""

    def __init__(
        self,
        node: str,
        dial: Callable[[], Awaitable[SourceLink]],
        *,
        cluster: str,
        store: Store,
        receiver: Receiver,
        executor: Executor,
        clock: Clock,
        lease_s: float,
        jitter: random.Random,
    ) -> None:
        """Take the peer's node id and how to reach it; `lease_s` is how long an answered ping vouches for being up to date."""
        self.node = node
        self._dial = dial
        self._cluster = cluster
        self._store = store
        self._receiver = receiver
        self._executor = executor
        self._clock = clock
        self._lease_s = lease_s
        self._jitter = jitter
        self._sent_pings: dict[int, float] = {}
        self._ping_number = 0
        # Until when (monotonic seconds) this node has seen all that the peer had acknowledged to anyone.
        self.sure_until_s = 0.0
        # False from the first failure to reach the peer until it answers again: nobody waits for it meanwhile.
        self.reachable = True
        self.connected = False
        self.last_error = ""
        self.source_vector: VersionVector = {}
        self.changes_applied = 0
        self._failures = 0
        self._retry = asyncio.Event()

    async def run(self) -> None:
        """Read for ever; each failure is kept in `last_error` and answered by another try."""
        while True:
            try:
                await self._session()
            except* (OSError, TwinhullError, TimeoutError) as group:
                self._failed(_first(group))
            self.connected, self.sure_until_s = False, 0.0
            self._receiver.state_changed()
            ceiling = min(_BACKOFF_MAX_S, _BACKOFF_MIN_S * 2 ** min(self._failures, 10))
            self._retry.clear()
            try:
                async with asyncio.timeout(ceiling * (0.5 + self._jitter.random() / 2)):
                    await self._retry.wait()
            except TimeoutError:
                continue

    def retry_now(self) -> None:
        """Dial at once: the peer was just heard of."""
        self._failures = 0
        self._retry.set()

    def gave_no_answer(self) -> None:
        """Do not wait for the peer, which let a question time out, until it has answered a ping."""
        self.reachable = False
        self._receiver.state_changed()

    def lag_changes(self, vector: VersionVector) -> int:
        """Return how many of the peer's changes this node lacks, as far as the peer has said."""
        return missing(vector, self.source_vector)

    def _failed(self, error: BaseException) -> None:
        self._failures += 1
        self.reachable = False
        text = str(error) or type(error).__name__
        if text != self.last_error:
            log.warning("peer stream broke", peer=self.node, error=text)
        self.last_error = text

    async def _session(self) -> None:
        link = await self._dial()
        try:
            vector = await in_thread(self._executor, self._store.vector)
            await link.send(
                Hello(
                    protocol=PROTOCOL,
                    cluster=self._cluster,
                    node=self._store.node,
                    vector=vector,
                    linked=self._receiver.linked(),
                )
            )
            welcome = await link.receive()
            if not isinstance(welcome, Welcome):
                message = f"peer {self.node} closed the stream instead of greeting"
                raise ProtocolError(message, hint="its log says why; is this node still a member?")
            check_greeting(welcome, cluster=self._cluster, node=self.node)
            self.source_vector = welcome.vector
            self.connected, self._failures, self.last_error = True, 0, ""
            self._sent_pings.clear()
            self._receiver.state_changed()
            frames: asyncio.Queue[FromSource | None] = asyncio.Queue(maxsize=_FRAMES_WAITING_MAX)
            async with asyncio.TaskGroup() as group:
                pinging = group.create_task(self._ping_for_ever(link))
                reading = group.create_task(self._read(link, frames))
                await self._apply_for_ever(link, frames)
                pinging.cancel()
                reading.cancel()
        finally:
            await link.close()

    async def _read(self, link: SourceLink, frames: asyncio.Queue[FromSource | None]) -> None:
        while (frame := await link.receive()) is not None:
            # What is only announced need not queue behind what must be applied.
            match frame:
                case UploadGrew():
                    self._receiver.upload_grew(self.node, frame.upload_id)
                case UploadEnded():
                    self._receiver.upload_ended(self.node, frame.upload_id, frame.digest, frame.size)
                case InlineBlob():
                    self._receiver.inline_blob(frame.digest, frame.content)
                case _:
                    await frames.put(frame)
        await frames.put(None)

    async def _ping_for_ever(self, link: SourceLink) -> None:
        while True:
            now_s = self._clock.monotonic_s()
            oldest = min(self._sent_pings.values(), default=now_s)
            if now_s - oldest > _SILENCE_MAX_S:
                message = f"peer {self.node} has been silent for {_SILENCE_MAX_S:.0f} s"
                raise TimeoutError(message)
            self._ping_number += 1
            self._sent_pings[self._ping_number] = now_s
            await link.send(Ping(number=self._ping_number))
            await asyncio.sleep(self._lease_s / 3)

    async def _apply_for_ever(self, link: SourceLink, frames: asyncio.Queue[FromSource | None]) -> None:
        while True:
            waiting = [await frames.get()]
            while not frames.empty():
                waiting.append(frames.get_nowait())
            for frame in _gathered(waiting):
                match frame:
                    case None:
                        return
                    case Changes():
                        # One transaction for all that are waiting: one fsync, however fast the peer writes.
                        vector = await in_thread(self._executor, self._apply_batch, frame.changes)
                        self.changes_applied += len(frame.changes)
                        self._receiver.applied(self.node, frame.changes)
                        await self._acknowledge(link, vector)
                    case SnapshotPage():
                        vector = await in_thread(self._executor, self._apply_page, frame)
                        self._receiver.applied(self.node, frame.records)
                        if frame.vector is not None:
                            await self._acknowledge(link, vector)
                    case Pong():
                        self._heard(frame.number)
                    case _:
                        message = f"peer {self.node} sent a frame that has no place here"
                        raise ProtocolError(message)

    def _apply_batch(self, batch: list[Change]) -> VersionVector:
        with self._store.write() as transaction:
            for change in batch:
                transaction.apply(change)
        return self._store.vector()

    def _apply_page(self, page: SnapshotPage) -> VersionVector:
        with self._store.write() as transaction:
            for record in page.records:
                transaction.merge_record(record)
            if page.vector is not None:
                transaction.reached(page.vector)
        return self._store.vector()

    async def _acknowledge(self, link: SourceLink, vector: VersionVector) -> None:
        await link.send(
            Acknowledged(vector=vector, linked=self._receiver.linked(), missing_bytes=self._receiver.missing_bytes())
        )

    def _heard(self, number: int) -> None:
        sent_s = self._sent_pings.pop(number, None)
        if sent_s is None:
            return
        for earlier in [ping for ping in self._sent_pings if ping < number]:
            del self._sent_pings[earlier]
        # Counted from when the question was asked: the peer's answer cannot vouch for what came after it.
        self.sure_until_s = sent_s + self._lease_s
        self.reachable = True
        self._receiver.state_changed()


def _gathered(frames: list[FromSource | None]) -> list[FromSource | None]:
    """Join neighbouring frames of changes, up to what one transaction shall hold."""
    gathered: list[FromSource | None] = []
    for frame in frames:
        last = gathered[-1] if gathered else None
        if isinstance(frame, Changes) and isinstance(last, Changes):
            changes = last.changes + frame.changes
            if len(changes) <= _CHANGES_PER_TRANSACTION_MAX:
                gathered[-1] = Changes(changes=changes)
                continue
        gathered.append(frame)
    return gathered


def _first(error: BaseException) -> BaseException:
    """Return the first failure inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
