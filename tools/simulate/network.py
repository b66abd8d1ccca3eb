"""The lines between machines: directed, each with its own delay, and each may be cut in one direction or both.

What is sent over a cut line is held back, as TCP does, and comes when the line is whole again, if its connection still lives.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

from tools.simulate.loop import Process, VirtualLoop, nowhere
from twinhull.kit.errors import PeerUnavailable, ProtocolError, TwinhullError
from twinhull.replication.protocol import (
    FromSource,
    FromSubscriber,
    decode_from_source,
    decode_from_subscriber,
    encode,
)

T = TypeVar("T")
V = TypeVar("V")

_CONNECT_S: Final = 2.0
_APART_S: Final = 1e-7
_OVERTAKEN_S: Final = 0.6
_GOOD_MAX_S: Final = 0.06
_SICK_MAX_S: Final = 2.5


class Machine(Protocol):
    """What stands at the end of a line."""

    @property
    def node(self) -> str:
        """Its node's id."""
        ...

    @property
    def is_on(self) -> bool:
        """Whether it has power: one that has not answers nothing, not even that nobody listens."""
        ...

    @property
    def agent(self) -> Process | None:
        """The process that listens, if it runs."""
        ...


class Line:
    """One direction between two machines."""

    def __init__(self, loop: VirtualLoop, chance: random.Random) -> None:
        """Be whole and quick."""
        self._loop = loop
        self._chance = chance
        self._held: list[Callable[[], None]] = []
        self._cuts = 0
        self._burdens = 0
        # When it was last anything but good.
        self.bad_s = -1e9

    def carry(self, action: Callable[[], None], *, not_before_s: float = 0.0) -> float:
        """Do something at the other end, and return when, if the line is whole then."""
        # Mostly quick, now and then late: what is late shows what somebody did not wait for.
        delay_s = self._chance.random() * _SICK_MAX_S if self.is_sick else self._chance.random() ** 4 * _GOOD_MAX_S
        # Strictly later: of timers that end at the same moment any may come first.
        when_s = max(self._loop.time() + delay_s, not_before_s + _APART_S)
        self._loop.call_at(when_s, self._arrive, action, context=nowhere())
        return when_s

    def _arrive(self, action: Callable[[], None]) -> None:
        if self.is_cut:
            self._held.append(action)
        else:
            action()

    def cut(self) -> None:
        """Let nothing through; faults may lie over each other, so it is whole when each has been mended."""
        self._cuts += 1

    def mend(self) -> None:
        """Take back one cut, and let through what was held back if it was the last."""
        self._cuts -= 1
        self.bad_s = self._loop.time()
        if not self._cuts:
            held, self._held = self._held, []
            for action in held:
                self._loop.call_soon(action, context=nowhere())

    def slow_down(self) -> None:
        """Take long to carry anything."""
        self._burdens += 1

    def speed_up(self) -> None:
        """Be quick again."""
        self._burdens -= 1
        self.bad_s = self._loop.time()

    @property
    def is_cut(self) -> bool:
        """Whether nothing gets through."""
        return self._cuts > 0

    @property
    def is_sick(self) -> bool:
        """Whether it takes long."""
        return self._burdens > 0

    def good_since_s(self) -> float:
        """Return since when it has been whole and quick; the end of time if it is not."""
        return 1e9 if self._cuts or self._burdens else self.bad_s


class Trace:
    """What happened, as a hash: two runs of one seed must have the same."""

    def __init__(self, loop: VirtualLoop) -> None:
        """Begin."""
        self._loop = loop
        self._hash = hashlib.blake2b(digest_size=12)
        self.listen: Callable[[str], None] | None = None

    def add(self, what: str, packed: bytes = b"") -> None:
        """Note that something happened now."""
        line = f"{self._loop.time():.6f} {what}"
        self._hash.update(line.encode() + b"\x00" + packed + b"\x00")
        if self.listen is not None:
            self.listen(line)

    @property
    def now_s(self) -> float:
        """The virtual seconds since the start."""
        return self._loop.time()

    def digest(self) -> str:
        """Return the hash so far."""
        return self._hash.hexdigest()


class Network:
    """All lines, and what is said over them."""

    def __init__(self, loop: VirtualLoop, chance: random.Random, trace: Trace) -> None:
        """Begin without machines."""
        self.loop = loop
        self.chance = chance
        self.trace = trace
        self.machines: dict[str, Machine] = {}
        self._lines: dict[tuple[str, str], Line] = {}
        # The share of frames that come twice, or in another order.
        self.twisted = 0.0
        # When it was so last.
        self.twisted_s = -1e9
        self.counts: dict[str, int] = {}

    def line(self, source: str, target: str) -> Line:
        """Return the line from one node to another."""
        if (source, target) not in self._lines:
            self._lines[source, target] = Line(self.loop, self.chance)
        return self._lines[source, target]

    def lines(self) -> list[Line]:
        """Return all lines."""
        return list(self._lines.values())

    def count(self, what: str) -> None:
        """Count something that went wrong on purpose."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def are_joined(self, one: str, other: str) -> bool:
        """Tell whether the lines are whole both ways."""
        return not (self.line(one, other).is_cut or self.line(other, one).is_cut)

    async def ask(self, source: str, target: Machine, action: Callable[[], Awaitable[T]], *, timeout_s: float) -> T:
        """Return what the other node's agent answers; raises PeerUnavailable, or ProtocolError when it refuses."""
        question = _Question(self, source, target, action)
        # A connection is made first, which takes both directions.
        limit_s = timeout_s if self.are_joined(source, target.node) else min(timeout_s, _CONNECT_S)
        self.line(source, target.node).carry(question.arrive)
        try:
            async with asyncio.timeout(limit_s):
                return await question.answer
        except TimeoutError as error:
            raise PeerUnavailable(f"peer {target.node} does not answer: time is up") from error


class _Question(Generic[T]):
    """A request on its way, and its answer."""

    def __init__(self, network: Network, source: str, target: Machine, action: Callable[[], Awaitable[T]]) -> None:
        self._network = network
        self._source = source
        self._target = target
        self._action = action
        self.answer: asyncio.Future[T] = network.loop.create_future()

    def arrive(self) -> None:
        """Have it answered where it was sent to, if anybody is there."""
        agent = self._target.agent
        if agent is not None and agent.alive:
            agent.on_death(self._reset)
            agent.spawn(self._run()).add_done_callback(lambda _: agent.forget(self._reset))
        elif self._target.is_on:
            self._fail("connection refused")

    async def _run(self) -> None:
        try:
            result = await self._action()
        except TwinhullError as error:
            self._back(self.answer.set_exception, ProtocolError(f"peer refused: {error}"))
        else:
            self._back(self.answer.set_result, result)

    def _reset(self) -> None:
        if self._target.is_on:
            self._fail("connection reset")

    def _fail(self, reason: str) -> None:
        self._back(self.answer.set_exception, PeerUnavailable(f"peer {self._target.node} does not answer: {reason}"))

    def _back(self, settle: Callable[[V], None], value: V) -> None:
        def reply() -> None:
            if not self.answer.done():
                settle(value)

        self._network.line(self._target.node, self._source).carry(reply)


class End:
    """One end of a connection: frames come in order and whole, or the connection breaks."""

    def __init__(self, network: Network, node: str, machine: Machine, process: Process) -> None:
        """Belong to a process."""
        self._network = network
        self.node = node
        self._machine = machine
        self._process = process
        self.other: End
        self._inbox: deque[bytes | None] = deque()
        self._arrived = asyncio.Event()
        self._refusal = ""
        self._is_closed = False
        self._last_s = 0.0
        process.on_death(self._died)

    # -- sending ---------------------------------------------------------------------------------------------------

    def put(self, packed: bytes) -> None:
        """Send bytes; raises ConnectionResetError when the connection is known to be gone."""
        if self._is_closed:
            raise ConnectionResetError("the connection is closed")
        network = self._network
        self._carry(packed)
        if network.twisted and network.chance.random() < network.twisted:
            network.count("frame doubled")
            self._carry(packed)

    def _carry(self, packed: bytes | None, refusal: str = "") -> None:
        network, other = self._network, self.other
        if packed is not None and network.twisted and network.chance.random() < network.twisted:
            # Overtaken by what is sent after it.
            network.count("frame reordered")
            late_s = self._last_s + network.chance.random() * _OVERTAKEN_S
            network.line(self.node, other.node).carry(lambda: other.take(packed, refusal), not_before_s=late_s)
            return
        line = network.line(self.node, other.node)
        self._last_s = line.carry(lambda: other.take(packed, refusal), not_before_s=self._last_s)

    def close(self, refusal: str = "") -> None:
        """Close this end; the other one hears of it when all that was sent has come."""
        if not self._is_closed:
            self._is_closed = True
            self._arrived.set()
            self._process.forget(self._died)
            self._carry(None, refusal)

    def _died(self) -> None:
        # The machine's kernel closes what its processes leave, as long as it runs itself.
        self._is_closed = True
        if self._machine.is_on:
            self._carry(None)

    # -- receiving -------------------------------------------------------------------------------------------------

    def take(self, packed: bytes | None, refusal: str) -> None:
        """Take what comes off the line."""
        network = self._network
        if self._is_closed or not self._process.alive:
            if packed is not None and self._machine.is_on:
                other = self.other
                network.line(self.node, other.node).carry(other.reset)
            return
        network.trace.add(f"{self.other.node} > {self.node}", packed or b"")
        if packed is None:
            self._refusal = refusal
            self._process.forget(self._died)
        self._inbox.append(packed)
        self._arrived.set()

    def reset(self) -> None:
        """Hear that nobody is at the other end any more."""
        if not self._is_closed:
            self._inbox.append(None)
            self._is_closed = True
            self._process.forget(self._died)
            self._arrived.set()

    async def get(self) -> bytes | None:
        """Return the next bytes, None at the end; raises ProtocolError when the other side closed for a cause."""
        while not self._inbox:
            if self._is_closed:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        packed = self._inbox.popleft()
        if packed is None:
            self._inbox.append(None)
            if self._refusal:
                raise ProtocolError(f"the peer refused: {self._refusal}")
        return packed


class SourceEnd:
    """What a puller holds."""

    def __init__(self, end: End) -> None:
        """Take the connection's end."""
        self._end = end

    async def send(self, frame: FromSubscriber) -> None:
        """Send a frame."""
        self._end.put(encode(frame))

    async def receive(self) -> FromSource | None:
        """Return the next frame, or None at the end."""
        packed = await self._end.get()
        return None if packed is None else decode_from_source(packed)

    async def close(self, reason: str = "") -> None:
        """Close the stream; a reason tells the source what it did wrong."""
        self._end.close(reason)


class SubscriberEnd:
    """What a feed holds."""

    def __init__(self, end: End) -> None:
        """Take the connection's end."""
        self._end = end

    async def send(self, frame: FromSource) -> None:
        """Send a frame."""
        self._end.put(encode(frame))

    async def receive(self) -> FromSubscriber | None:
        """Return the next frame, or None at the end."""
        packed = await self._end.get()
        return None if packed is None else decode_from_subscriber(packed)
