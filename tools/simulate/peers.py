"""How simulated nodes reach each other, and how workers reach their agent: over simulated lines, into the real code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from tools.simulate.loop import Process, current_process, nowhere
from tools.simulate.network import End, Machine, Network, SourceEnd, SubscriberEnd
from twinhull.blobs.store import BlobStore
from twinhull.kit.digest import Digest
from twinhull.kit.errors import BlobUnknown, PeerUnavailable, ProtocolError, TwinhullError
from twinhull.peer.gate import Gate
from twinhull.records.change import Change, VersionVector
from twinhull.replication.answers import Answers
from twinhull.replication.calls import WorkerCalls
from twinhull.replication.engine import Engine
from twinhull.replication.link import Call, Notice, Result
from twinhull.replication.mending import Mending
from twinhull.replication.peer import SourceLink
from twinhull.replication.protocol import (
    CheckAnswer,
    CheckQuery,
    KeptAnswer,
    KeptQuery,
    PresenceAnswer,
    PresenceQuery,
    RecordQuery,
    RecordsAnswer,
    SummaryAnswer,
)
from twinhull.replication.threads import in_thread

_DIAL_S: Final = 4.0
_PATIENCE_S: Final = 1.0
_LOCAL_S: Final = 0.0002


class Listening:
    """What a running agent answers others with."""

    def __init__(self, engine: Engine, gate: Gate, answers: Answers, calls: WorkerCalls, mending: Mending) -> None:
        """Take the real thing."""
        self.engine = engine
        self.gate = gate
        self.answers = answers
        self.calls = calls
        self.mending = mending

    async def admit(self, node: str) -> None:
        """Return if that node may ask, else raise why not."""
        names = (("DNS", f"{node}.node.twinhull.internal"),)
        await in_thread(self.engine.executor, self.gate.admit, {"subjectAltName": names})


class PeerMachine(Machine, Protocol):
    """A machine as another node's code needs it."""

    @property
    def listening(self) -> Listening:
        """What its running agent answers with."""
        ...

    @property
    def blobs(self) -> BlobStore:
        """The blobs on its disk."""
        ...


class SimulatedPeer:
    """One other master; see replication/peer.py for what it promises."""

    def __init__(self, node: str, source: str, machine: PeerMachine, network: Network) -> None:
        """Take who asks whom."""
        self._node = node
        self._source = source
        self._machine = machine
        self._network = network

    @property
    def node(self) -> str:
        """The peer's node id."""
        return self._node

    async def dial(self) -> SourceLink:
        """Open the stream of the peer's changes."""
        network, process = self._network, current_process()

        async def accept() -> End:
            listening, agent = self._machine.listening, current_process()
            await listening.admit(self._source)
            near = End(network, self._source, self._machine_of_source, process)
            far = End(network, self._node, self._machine, agent)
            near.other, far.other = far, near
            agent.spawn(_serve(listening, far, self._source))
            return near

        try:
            end = await network.ask(self._source, self._machine, accept, timeout_s=_DIAL_S)
        except ProtocolError as error:
            raise PeerUnavailable(str(error)) from error
        return SourceEnd(end)

    @property
    def _machine_of_source(self) -> Machine:
        return self._network.machines[self._source]

    async def find(self, kind: str, key: str, *, timeout_s: float) -> list[Change]:
        """Return the peer's record of that key and those it needs."""

        async def answer() -> list[Change]:
            await self._machine.listening.admit(self._source)
            return await self._machine.listening.answers.find(RecordQuery(kind=kind, key=key))

        return await self._network.ask(self._source, self._machine, answer, timeout_s=timeout_s)

    async def hold(self, blobs: list[tuple[str, int]], *, timeout_s: float) -> None:
        """Return when the peer has all these blobs on its disk."""

        async def answer() -> None:
            await self._machine.listening.admit(self._source)
            await self._machine.listening.calls.hold(blobs)

        await self._network.ask(self._source, self._machine, answer, timeout_s=timeout_s)

    async def summary(self, *, is_brief: bool = False, timeout_s: float) -> SummaryAnswer:
        """Return the peer's state in short."""

        async def answer() -> SummaryAnswer:
            await self._machine.listening.admit(self._source)
            return await self._machine.listening.answers.summary(is_brief=is_brief)

        return await self._network.ask(self._source, self._machine, answer, timeout_s=timeout_s)

    async def records(self, names: list[tuple[str, str]], *, timeout_s: float) -> RecordsAnswer:
        """Return the peer's records of these names."""

        async def answer() -> RecordsAnswer:
            await self._machine.listening.admit(self._source)
            return await self._machine.listening.mending.records(names)

        return await self._network.ask(self._source, self._machine, answer, timeout_s=timeout_s)

    async def offer(self, records: list[Change], *, timeout_s: float) -> int:
        """Let the peer merge these records."""

        async def answer() -> int:
            await self._machine.listening.admit(self._source)
            return await self._machine.listening.mending.take(self._source, records)

        return await self._network.ask(self._source, self._machine, answer, timeout_s=timeout_s)

    async def check(self, query: CheckQuery, *, timeout_s: float) -> CheckAnswer:
        """Let the peer look through a part of its own data."""

        async def answer() -> CheckAnswer:
            await self._machine.listening.admit(self._source)
            return await self._machine.listening.mending.check(query)

        return await self._network.ask(self._source, self._machine, answer, timeout_s=timeout_s)

    async def vector(self, *, timeout_s: float) -> VersionVector:
        """Return what the peer has applied."""

        async def answer() -> VersionVector:
            await self._machine.listening.admit(self._source)
            return await self._machine.listening.answers.vector()

        return await self._network.ask(self._source, self._machine, answer, timeout_s=timeout_s)

    async def presence(self, query: PresenceQuery, *, timeout_s: float) -> PresenceAnswer:
        """Return what the peer lacks of these records and blobs."""

        async def answer() -> PresenceAnswer:
            await self._machine.listening.admit(self._source)
            return await self._machine.listening.answers.presence(query)

        return await self._network.ask(self._source, self._machine, answer, timeout_s=timeout_s)

    async def removal(self, *, timeout_s: float) -> list[Change]:
        """Return the record of the asking node's removal, if it was removed."""

        async def answer() -> list[Change]:
            return await self._machine.listening.answers.removal(self._source)

        return await self._network.ask(self._source, self._machine, answer, timeout_s=timeout_s)

    async def kept(self, query: KeptQuery, *, timeout_s: float) -> KeptAnswer:
        """Return which of the blobs the peer needs."""

        async def answer() -> KeptAnswer:
            await self._machine.listening.admit(self._source)
            return await self._machine.listening.answers.kept(query)

        return await self._network.ask(self._source, self._machine, answer, timeout_s=timeout_s)

    async def cluster_keys(self, *, timeout_s: float) -> list[bytes]:  # noqa: ARG002 - as the protocol has it
        """Return none: nothing is sealed here."""
        return []

    async def bucket(self, kind: str, bucket: int, *, timeout_s: float) -> dict[str, int]:
        """Return the keys of one bucket of the peer's state."""

        async def answer() -> dict[str, int]:
            await self._machine.listening.admit(self._source)
            return await self._machine.listening.answers.bucket(kind, bucket)

        return await self._network.ask(self._source, self._machine, answer, timeout_s=timeout_s)

    def download(self, digest: Digest, start: int, sink: Callable[[memoryview], None]) -> None:
        """Hand over the blob's bytes; the line breaks half-way now and then."""
        network, agent = self._network, self._machine.agent
        if agent is None or not agent.alive or not network.are_joined(self._source, self._node):
            raise PeerUnavailable(f"peer {self._node} does not answer")
        size = self._machine.blobs.stat(digest)
        if size is None:
            raise BlobUnknown(f"peer {self._node} has no blob {digest}")
        content = self._machine.blobs.read(digest, start, size - start)
        if network.line(self._node, self._source).is_sick and network.chance.random() < 0.5:
            sink(memoryview(content)[: len(content) // 2])
            raise PeerUnavailable(f"peer {self._node}: the line broke")
        sink(memoryview(content))

    def follow(self, upload_id: str, start: int, sink: Callable[[memoryview], None]) -> None:  # noqa: ARG002 - as the protocol has it
        """Find nothing: blobs here are too small to be followed."""
        raise BlobUnknown(f"peer {self._node} has no upload {upload_id}")

    def cut(self) -> None:
        """Do nothing: no thread reads."""


async def _serve(listening: Listening, end: End, node: str) -> None:
    """Feed a subscriber, as the peer port does."""
    refusal = ""
    try:
        await listening.answers.stream(SubscriberEnd(end), node)
    except* TwinhullError as group:
        refusal = str(group.exceptions[0])
    except* OSError:
        pass
    end.close(refusal)


class SimulatedLink:
    """The way from a worker to the agent of its node; see replication/link.py for what it promises."""

    def __init__(self, agent: Callable[[], Process | None], listening: Callable[[], Listening]) -> None:
        """Take what tells which agent runs."""
        self._agent = agent
        self._listening = listening

    async def call(self, call: Call) -> Result:
        """Return the agent's answer."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _PATIENCE_S
        while (agent := self._agent()) is None or not agent.alive:
            if loop.time() >= until_s:
                raise PeerUnavailable("this node's agent is not running")
            await asyncio.sleep(0.1)
        answer: asyncio.Future[Result] = loop.create_future()
        listening = self._listening()

        def back(result: Result | None, error: TwinhullError | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            elif result is not None:
                answer.set_result(result)

        async def run() -> None:
            result: Result | None = None
            failure: TwinhullError | None = None
            try:
                result = await listening.calls.on_call(call)
            except TwinhullError as error:
                failure = error
            loop.call_later(_LOCAL_S, back, result, failure, context=nowhere())

        def gone() -> None:
            loop.call_soon(back, None, PeerUnavailable("this node's agent stopped"), context=nowhere())

        agent.on_death(gone)
        agent.spawn(run()).add_done_callback(lambda _: agent.forget(gone))
        return await answer

    def notify(self, notice: Notice) -> None:
        """Send a notice; lost when the agent is gone."""
        agent = self._agent()
        if agent is not None and agent.alive:
            listening = self._listening()

            async def run() -> None:
                listening.calls.on_notice(notice)

            agent.spawn(run())
