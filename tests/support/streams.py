"""Two agents joined in memory: a source's feed and a subscriber's puller over real stores, on a line that can be held."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from twinhull.kit.clock import Clock
from twinhull.metadata.migrate import migrate
from twinhull.metadata.sqlite import SqliteDatabase
from twinhull.metadata.store import Store
from twinhull.records.change import Change, VersionVector, joined
from twinhull.records.kinds import PROJECT
from twinhull.replication.acknowledgements import Acknowledgements
from twinhull.replication.feed import Feed
from twinhull.replication.own_past import check_own_past
from twinhull.replication.protocol import (
    Changes,
    FromSource,
    FromSubscriber,
    Hello,
    check_greeting,
    decode_from_source,
    decode_from_subscriber,
    encode,
)
from twinhull.replication.puller import Puller

CLUSTER: Final = "cluster"
LIMIT_S: Final = 10.0

P = ParamSpec("P")
T = TypeVar("T")


def new_store(folder: Path, node: str, slot: int, clock: Clock) -> Store:
    """Return an empty node's metadata."""
    database = SqliteDatabase(folder / node / "metadata.db", run_dir=folder / node / "run")
    migrate(database)
    return Store(database, node=node, slot=slot, clock=clock)


def write(store: Store, name: str, **metadata: str) -> int:
    """Make or change a project, and return the node's change number."""
    with store.write() as transaction:
        fields = {f"metadata.{key}": value for key, value in metadata.items()}
        if transaction.values(PROJECT, name) is None:
            now_ms = transaction.now_ms()
            transaction.create(PROJECT, name, {"owner": "admin", "created_ms": now_ms, "updated_ms": now_ms, **fields})
        else:
            transaction.put(PROJECT, name, fields)
    return transaction.seq


def write_many(store: Store, count: int) -> None:
    """Make so many projects in one transaction, each a change of its own."""
    with store.write() as transaction:
        for number in range(count):
            transaction.create(PROJECT, f"p{number}", {"owner": "admin", "created_ms": 1, "updated_ms": 1})


def value(store: Store, name: str, key: str) -> object:
    """Return what a project's metadata say, None if it is not there."""
    with store.write() as transaction:
        return (transaction.values(PROJECT, name) or {}).get(f"metadata.{key}")


async def until(look: Callable[[], bool]) -> None:
    """Return once that is true, or fail."""
    async with asyncio.timeout(LIMIT_S):
        while not look():
            await asyncio.sleep(0.001)


async def pause(seconds: float) -> None:
    """Let time pass, for a disturbance that shall last."""
    await asyncio.sleep(seconds)


class HoldingExecutor(Executor):
    """Threads that, when told to, keep what they have done to themselves for a while."""

    def __init__(self, threads: Executor) -> None:
        """Let others do the work."""
        self._threads = threads
        self._free = threading.Event()
        self._free.set()
        self.held = 0

    def hold(self) -> None:
        """Answer nothing from now on."""
        self._free.clear()

    def release(self) -> None:
        """Answer."""
        self._free.set()

    def submit(self, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> Future[T]:
        """Do it, and answer when nothing is held."""

        def run() -> T:
            done = function(*arguments, **named)
            if not self._free.is_set():
                self.held += 1
                self._free.wait(LIMIT_S)
            return done

        return self._threads.submit(run)


class Pipe:
    """Frames in one direction, encoded on the way; can be held back, and broken."""

    def __init__(self) -> None:
        """Let everything through."""
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.open = asyncio.Event()
        self.open.set()
        self.broken = False
        self.refused = 0
        # Frames of changes that get lost.
        self.loses = 0

    async def put(self, packed: bytes) -> None:
        """Put in whatever it is."""
        await self._frames.put(packed)

    async def send(self, frame: FromSource | FromSubscriber) -> None:
        """Put a frame in."""
        if self.loses and isinstance(frame, Changes):
            self.loses -= 1
            return
        if self.broken:
            self.refused += 1
            raise ConnectionResetError("the line is broken")
        await self._frames.put(encode(frame))

    async def receive(self) -> bytes | None:
        """Take the next one out, None at the end."""
        packed = await self._frames.get()
        await self.open.wait()
        return packed

    def end(self) -> None:
        """Let nothing more come."""
        self.broken = True
        self.open.set()
        self._frames.put_nowait(None)


class Stream:
    """Both pipes of one connection."""

    def __init__(self) -> None:
        """Open them."""
        self.out = Pipe()
        self.back = Pipe()
        # Why the subscriber left.
        self.reason = ""

    def end(self) -> None:
        """Break the connection."""
        self.out.end()
        self.back.end()


class SourceEnd:
    """What a puller holds."""

    def __init__(self, stream: Stream) -> None:
        """Take the connection."""
        self._stream = stream

    async def send(self, frame: FromSubscriber) -> None:
        """Send to the source."""
        await self._stream.out.send(frame)

    async def receive(self) -> FromSource | None:
        """Receive from it."""
        packed = await self._stream.back.receive()
        return decode_from_source(packed) if packed is not None else None

    async def close(self, reason: str = "") -> None:
        """Leave."""
        self._stream.reason = reason
        self._stream.end()


class SubscriberEnd:
    """What a feed holds."""

    def __init__(self, stream: Stream) -> None:
        """Take the connection."""
        self._stream = stream

    async def send(self, frame: FromSource) -> None:
        """Send to the subscriber."""
        await self._stream.back.send(frame)

    async def receive(self) -> FromSubscriber | None:
        """Receive from it."""
        packed = await self._stream.out.receive()
        return decode_from_subscriber(packed) if packed is not None else None


class Agent:
    """As much of an agent as streams need."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        clock: Clock,
        *,
        timeout_s: float = 2.0,
        lease_s: float = 1.5,
        ping_s: float = 0.02,
    ) -> None:
        """Take its metadata."""
        self.store = store
        self.executor = executor
        self.clock = clock
        self.ping_s = ping_s
        self.acks = Acknowledgements(store.origin, clock, timeout_s=timeout_s, lease_s=lease_s)
        self.pullers: dict[str, Puller] = {}
        self.feeds: list[Feed] = []
        self.streams: list[Stream] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.arrived: list[tuple[str, Change]] = []
        self.uploads: list[tuple[str, str | None]] = []
        self.inlined: dict[str, bytes] = {}
        self.lacking_bytes = 0
        self.refuses = False
        # How soon a change that a subscriber could not take is sent again.
        self.again_after_s = 0.05
        self._settled = store.vector()

    # -- Receiver --------------------------------------------------------------------------------------------------

    def applied(self, node: str, changes: list[Change], vector: VersionVector) -> None:
        """Remember what came, and pass it on."""
        self.arrived.extend((node, change) for change in changes)
        self._settled = joined(self._settled, vector)
        self.wake()

    def upload_grew(self, node: str, upload_id: str) -> None:
        """Remember."""
        self.uploads.append((upload_id, None))

    def upload_ended(self, node: str, upload_id: str, digest: str | None, size: int) -> None:
        """Remember."""
        self.uploads.append((upload_id, digest or ""))

    def inline_blob(self, digest: str, content: bytes) -> None:
        """Remember."""
        self.inlined[digest] = content

    def vector(self) -> VersionVector:
        """Return what is here."""
        return joined(self._settled, {self.store.origin: self.store.vector().get(self.store.origin, 0)})

    async def check_own_past(self, node: str, vector: VersionVector) -> None:
        """Do what the engine does."""
        await check_own_past(self.store, self.executor, self.acks, node, vector)

    def settled_as(self, vector: VersionVector) -> None:
        """Say from now on that all this is here."""
        self._settled = vector

    def linked(self) -> list[str]:
        """Return whom this one hears."""
        return [node for node, puller in self.pullers.items() if puller.connected]

    def missing_bytes(self) -> int:
        """Return what the test says."""
        return self.lacking_bytes

    def removed(self, node: str) -> None:
        """Do nothing."""

    def turned_away(self, node: str) -> None:
        """Do nothing."""

    def state_changed(self) -> None:
        """Do nothing."""

    # -- joining ---------------------------------------------------------------------------------------------------

    def reads_from(self, source: Agent) -> Puller:
        """Read another one's changes from now on."""
        return self._puller(source.store.node, lambda: self._dial(source))

    def _puller(self, node: str, dial: Callable[[], Awaitable[SourceEnd]]) -> Puller:
        puller = Puller(
            node,
            dial,
            cluster=CLUSTER,
            store=self.store,
            receiver=self,
            executor=self.executor,
            clock=self.clock,
            ping_s=self.ping_s,
            jitter=random.Random(1),
        )
        self.pullers[node] = puller
        self.tasks.append(asyncio.get_running_loop().create_task(puller.run()))
        return puller

    def dials(self, node: str) -> tuple[Puller, Stream]:
        """Read from a source that the test plays itself, on the first stream; there is no other."""
        streams = [Stream()]
        stream = streams[0]

        async def dial() -> SourceEnd:
            if not streams:
                raise ConnectionRefusedError("nobody listens")
            return SourceEnd(streams.pop())

        puller = self._puller(node, dial)
        return puller, stream

    async def _dial(self, source: Agent) -> SourceEnd:
        if source.refuses:
            raise ConnectionRefusedError("nobody listens")
        stream = Stream()
        source.streams.append(stream)
        source.tasks.append(asyncio.get_running_loop().create_task(source.serve(stream)))
        return SourceEnd(stream)

    async def serve(self, stream: Stream) -> None:
        """Feed a subscriber."""
        link = SubscriberEnd(stream)
        hello = await link.receive()
        assert isinstance(hello, Hello)
        check_greeting(hello, cluster=CLUSTER, node=hello.node)
        feed = Feed(
            link,
            hello,
            cluster=CLUSTER,
            store=self.store,
            acknowledgements=self.acks,
            executor=self.executor,
            clock=self.clock,
            linked=self.linked,
            again_after_s=self.again_after_s,
        )
        self.feeds.append(feed)
        try:
            await feed.run()
        except* OSError:
            pass
        finally:
            self.feeds.remove(feed)
            stream.end()

    def wake(self) -> None:
        """Look at the log."""
        self.acks.wrote(self.store.vector())
        for feed in self.feeds:
            feed.wake()

    def write(self, name: str, **metadata: str) -> int:
        """Write, and let the subscribers know."""
        seq = write(self.store, name, **metadata)
        self.wake()
        return seq

    async def close(self) -> None:
        """Stop everything."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.store.close()
