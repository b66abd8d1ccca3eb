"""What this node reads from one peer: its stream of changes, applied in order, acknowledged, for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Final

import structlog

from twinhull.kit.clock import Clock
from twinhull.kit.errors import NotAMember, ProtocolError, SnapshotRefused, TwinhullError
from twinhull.metadata.store import Store
from twinhull.records.change import VersionVector, covers, joined
from twinhull.replication.peer import SourceLink
from twinhull.replication.protocol import (
    NEWEST_PROTOCOL,
    OLDEST_PROTOCOL,
    Acknowledged,
    Changes,
    FromSource,
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
from twinhull.replication.taking import Receiver, Taking
from twinhull.replication.threads import in_thread

log = structlog.get_logger(__name__)

_BACKOFF_MIN_S: Final = 0.2
# Short: until the next try this node takes its peer for dead, and says "not found" without asking it.
_BACKOFF_MAX_S: Final = 1.0
_SNAPSHOT_BACKOFF_S: Final = 30.0
_CHANGES_PER_TRANSACTION_MAX: Final = 500
_FRAMES_WAITING_MAX: Final = 64
# A source that sends nothing for this long, asked several times in a second, is given up and dialled again.
_SILENCE_MAX_S: Final = 6.0
# A peer that refuses connections at once is asked all the same: it may be back at any moment. One that let us wait is left
# alone for a while.
_PROMPT_S: Final = 0.3
_PROBE_AFTER_S: Final = 2.0


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
        ping_s: float,
        jitter: random.Random,
    ) -> None:
        """Take the peer's node id, how to reach it, and how often to ask it whether there is more."""
        self.node = node
        self._dial = dial
        self._cluster = cluster
        self._store = store
        self._receiver = receiver
        self._executor = executor
        self.taking = Taking(node, store, receiver, executor)
        self._clock = clock
        self._ping_s = ping_s
        self._jitter = jitter
        self._sent_pings: dict[int, float] = {}
        self._ping_number = 0
        self._ping_now = asyncio.Event()
        # Until when (monotonic seconds) this node has seen all that the peer had acknowledged to anyone.
        self.sure_until_s = 0.0
        # Whether this node has had, at some moment, all that the peer had.
        self.complete = False
        # False from the first failure to reach the peer until it is heard of again: nobody waits for it meanwhile.
        self.reachable = True
        self.connected = False
        # The nodes that the peer hears directly, as it said last.
        self.peer_hears: frozenset[str] = frozenset()
        self.last_error = ""
        self.source_vector: VersionVector = {}
        self._is_costly = False
        self._failures = 0
        self._failed_s = 0.0
        self._failed_promptly = True
        self._heard_s = 0.0
        self._retry = asyncio.Event()
        # Set when a try to reach the peer has ended, or led to a stream; then there is a new one.
        self._tried = asyncio.Event()

    async def run(self) -> None:
        """Read for ever; each failure is kept in `last_error` and answered by another try."""
        while True:
            began_s = self._clock.monotonic_s()
            self._retry.clear()
            try:
                await self._session()
            except* (OSError, TwinhullError, TimeoutError) as group:
                self._failed(_first(group), began_s)
            except* Exception as group:  # a fault of ours must not end the reading for ever
                log.exception("peer stream broke for a reason that should not be", peer=self.node)
                self._failed(_first(group), began_s)
            # A failure at the same moment hides that this was cancelled: a task group raises the one, not the other.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                return
            self._note_try()
            self.connected, self.sure_until_s = False, 0.0
            self._receiver.state_changed()
            ceiling = min(_BACKOFF_MAX_S, _BACKOFF_MIN_S * 2 ** min(self._failures, 10))
            # A whole snapshot for one record is nothing to ask for once in a second.
            ceiling = _SNAPSHOT_BACKOFF_S if self._is_costly else ceiling
            try:
                async with asyncio.timeout(ceiling * (0.5 + self._jitter.random() / 2)):
                    await self._retry.wait()
            except TimeoutError:
                continue

    def retry_now(self) -> None:
        """Dial at once if there is no stream."""
        self._failures = 0
        self._retry.set()

    async def tried(self) -> None:
        """Return once the next try to reach the peer has ended, or led to a stream."""
        await self._tried.wait()

    def _note_try(self) -> None:
        self._tried.set()
        self._tried = asyncio.Event()

    def heard_of(self) -> None:
        """Take the peer for reachable again, since it has just called; dial at once."""
        self.retry_now()
        if not self.reachable:
            self.reachable = True
            self._receiver.state_changed()

    def gave_no_answer(self, took_s: float) -> None:
        """Do not wait for the peer, which could not be asked, until it has answered a ping."""
        self._failed_s, self._failed_promptly = self._clock.monotonic_s(), took_s < _PROMPT_S
        self.reachable = False
        self._receiver.state_changed()

    def answered(self) -> None:
        """Take note that the peer could be asked."""
        if not self.reachable:
            self.heard_of()

    def is_worth_asking(self) -> bool:
        """Tell whether a question may get an answer: the peer is reachable, or may be again by now."""
        if self.reachable or self._failed_promptly:
            return True
        return self._clock.monotonic_s() - self._failed_s >= _PROBE_AFTER_S

    def distrust(self) -> None:
        """Take back what pings vouched for, those on their way too, and ask again."""
        self._sent_pings.clear()
        self.sure_until_s = 0.0
        self._ping_now.set()

    def _failed(self, error: BaseException, began_s: float) -> None:
        self._failures += 1
        self._failed_s = self._clock.monotonic_s()
        self._failed_promptly = self.connected or self._failed_s - began_s < _PROMPT_S
        self.reachable = False
        self._is_costly = isinstance(error, SnapshotRefused)
        if isinstance(error, NotAMember):
            self._receiver.turned_away(self.node)
        text = str(error) or type(error).__name__
        if text != self.last_error:
            log.warning("peer stream broke", peer=self.node, error=text)
        self.last_error = text

    async def _session(self) -> None:
        link = await self._dial()
        reason = ""
        try:
            vector = await in_thread(self._executor, self._store.vector)
            hello = _hello(self._cluster, self._store, vector, self._receiver.linked())
            welcome = await _greeted(link, hello, self.node)
            await self._receiver.check_own_past(self.node, welcome.vector)
            self.taking.begin(welcome.vector)
            self.source_vector = welcome.vector
            self.connected, self.reachable, self._failures, self.last_error = True, True, 0, ""
            self._note_try()
            self._heard_s = self._clock.monotonic_s()
            self._sent_pings.clear()
            self._receiver.state_changed()
            frames: asyncio.Queue[FromSource | None] = asyncio.Queue(maxsize=_FRAMES_WAITING_MAX)
            async with asyncio.TaskGroup() as group:
                pinging = group.create_task(self._ping_for_ever(link, frames))
                reading = group.create_task(self._read(link, frames))
                await self._apply_for_ever(link, frames)
                pinging.cancel()
                reading.cancel()
        except* ProtocolError as group:
            reason = str(_first(group))
            raise
        finally:
            self.taking.end()
            await link.close(reason)

    async def _read(self, link: SourceLink, frames: asyncio.Queue[FromSource | None]) -> None:
        while (frame := await link.receive()) is not None:
            self._heard_s = self._clock.monotonic_s()
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

    async def _ping_for_ever(self, link: SourceLink, frames: asyncio.Queue[FromSource | None]) -> None:
        while True:
            now_s = self._clock.monotonic_s()
            # While what came is still being applied, nothing more is read, and the silence is ours.
            if now_s - self._heard_s > _SILENCE_MAX_S and not frames.full():
                message = f"peer {self.node} has been silent for {_SILENCE_MAX_S:.0f} s"
                raise TimeoutError(message)
            self._ping_number += 1
            self._sent_pings[self._ping_number] = now_s
            await link.send(
                Ping(
                    number=self._ping_number,
                    vector=self._receiver.vector(),
                    linked=self._receiver.linked(),
                    missing_bytes=self._receiver.missing_bytes(),
                    held=self.taking.reasons(),
                )
            )
            self._ping_now.clear()
            try:
                async with asyncio.timeout(self._ping_s):
                    await self._ping_now.wait()
            except TimeoutError:
                continue

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
                        await self._acknowledge(link, await self.taking.changes(frame.changes))
                        self.taking.require_all()
                    case SnapshotPage():
                        vector = await self.taking.page(frame)
                        if frame.vector is not None:
                            await self._acknowledge(link, vector)
                    case Pong():
                        self._heard(frame)
                    case _:
                        message = f"peer {self.node} sent a frame that has no place here"
                        raise ProtocolError(message)

    async def _acknowledge(self, link: SourceLink, vector: VersionVector) -> None:
        await link.send(
            Acknowledged(
                vector=vector,
                linked=self._receiver.linked(),
                missing_bytes=self._receiver.missing_bytes(),
                held=self.taking.reasons(),
            )
        )

    def _heard(self, pong: Pong) -> None:
        sent_s = self._sent_pings.pop(pong.number, None)
        self.peer_hears = frozenset(pong.linked)
        self.source_vector = joined(self.source_vector, pong.vector)
        self.reachable = True
        theirs = {origin: seq for origin, seq in pong.vector.items() if origin != self._store.origin}
        if covers(self._receiver.vector(), theirs):
            self.complete = True
            if sent_s is not None:
                # Counted from when the question was asked: the peer's answer cannot vouch for what came after it.
                self.sure_until_s = max(self.sure_until_s, sent_s + pong.lease_ms / 1000)
        for earlier in [ping for ping in self._sent_pings if ping < pong.number]:
            del self._sent_pings[earlier]
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


def _hello(cluster: str, store: Store, vector: VersionVector, linked: list[str]) -> Hello:
    return Hello(
        protocol=OLDEST_PROTOCOL,
        newest=NEWEST_PROTOCOL,
        cluster=cluster,
        node=store.node,
        vector=vector,
        linked=linked,
        origin=store.origin,
    )


async def _greeted(link: SourceLink, hello: Hello, node: str) -> Welcome:
    """Return how the node answers the greeting."""
    await link.send(hello)
    welcome = await link.receive()
    if not isinstance(welcome, Welcome):
        message = f"peer {node} closed the stream instead of greeting"
        raise ProtocolError(message, hint="its log says why; is this node still a member?")
    check_greeting(welcome, cluster=hello.cluster, node=node)
    return welcome


def _first(error: BaseException) -> BaseException:
    """Return the first failure inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
