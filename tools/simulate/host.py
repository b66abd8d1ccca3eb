"""One simulated machine with a node on it: a disk that stays, and processes that come and go."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

from tests.support.memory_blobs import MemoryBlobs
from tools.simulate.disk import MemoryDatabase, empty_database
from tools.simulate.facts import Ledger, WitnessedStore
from tools.simulate.loop import Process, VirtualClock, current_process, nowhere
from tools.simulate.network import Network
from tools.simulate.peers import Listening, SimulatedLink, SimulatedPeer
from tools.simulate.trust import SimulatedTrust
from tools.simulate.worker import Worker
from twinhull.kit.errors import TwinhullError
from twinhull.metadata import members
from twinhull.metadata.members import Node
from twinhull.peer.gate import Gate
from twinhull.records.change import VersionVector
from twinhull.replication.answers import Answers
from twinhull.replication.calls import WorkerCalls
from twinhull.replication.engine import Engine, EngineSettings
from twinhull.replication.mending import Mending
from twinhull.replication.own_past import settle_by_answers
from twinhull.replication.page import SyncPage
from twinhull.replication.threads import in_thread

_ASK_S: Final = 2.0
_QUICK_S: Final = 0.02
_AGAIN_S: Final = 1.0
_SLOW_S: Final = 0.4


class NoThreads(Executor):
    """Stands where threads are asked for; the loop calls what they would run."""


class Host:
    """A machine. Its processes are killed and started; its disk, its clock and its shared pages stay."""

    def __init__(self, node: str, name: str, trust: SimulatedTrust, *, network: Network, ledger: Ledger, folder: Path) -> None:
        """Take which node it is; nothing runs yet."""
        self._node = node
        self.name = name
        self.trust = trust
        self.network = network
        self.clock = VirtualClock(network.loop, started_ms=1_700_000_000_000)
        self.database = MemoryDatabase(empty_database())
        self._blobs = MemoryBlobs(clock=self.clock)
        self._ledger = ledger
        self._folder = folder
        self._pages = self.scratch("in-sync")
        self._executor = NoThreads()
        self._is_on = False
        self._agent: Process | None = None
        self._listening: Listening | None = None
        self._starting: Process | None = None
        self._worker: Worker | None = None
        self.has_slow_disk = False
        self.is_paused = False
        # When it was last slow, full, paused, or had a wrong clock; and when a process of it last died or began.
        self._bad_s = 0.0
        self._turned_s = 0.0
        # When its database was last put back; and whether it is being taken out of the cluster.
        self.restored_s = -1e9
        self.is_leaving = False
        self.is_newcomer = False
        network.machines[node] = self

    # -- what others see -------------------------------------------------------------------------------------------

    @property
    def node(self) -> str:
        """Its node's id."""
        return self._node

    @property
    def is_on(self) -> bool:
        """Whether the machine has power."""
        return self._is_on

    @property
    def agent(self) -> Process | None:
        """The agent's process while it listens."""
        return self._agent

    @property
    def listening(self) -> Listening:
        """What the running agent answers with."""
        assert self._listening is not None
        return self._listening

    @property
    def engine(self) -> Engine:
        """The running agent's heart."""
        return self.listening.engine

    @property
    def blobs(self) -> MemoryBlobs:
        """The blobs on its disk."""
        return self._blobs

    @property
    def worker(self) -> Worker | None:
        """The worker that takes requests, if it runs."""
        return self._worker if self._worker is not None and self._worker.process.alive else None

    @property
    def is_serving(self) -> bool:
        """Whether both its processes run."""
        return self.worker is not None and self._agent is not None and self._agent.alive

    def note_bad(self) -> None:
        """Note that until now something was wrong with it."""
        self._bad_s = self.network.loop.time()

    def _note_turn(self) -> None:
        self._turned_s = self.network.loop.time()

    def well_since_s(self) -> float:
        """Return since when its disk and clock have been right; the end of time if they are not."""
        is_bad = self.has_slow_disk or self.is_paused or self.database.is_full or self.clock.off_ms
        return 1e9 if is_bad else self._bad_s

    def up_since_s(self) -> float:
        """Return since when all its processes have been running; the end of time if they are not."""
        return self._turned_s if self.is_serving else 1e9

    def vouched_for(self) -> frozenset[str]:
        """Return the nodes of which it is sure to have all that they have acknowledged, so that it answers alone."""
        if self._listening is None or not SyncPage(self._pages).is_sure(self.clock):
            return frozenset()
        neighbours = self._listening.engine.neighbours.active()
        return frozenset(one.node.id for one in neighbours if one.puller.reachable)

    def vector(self) -> VersionVector:
        """Return what its disk has."""
        return self.store().vector()

    def scratch(self, name: str) -> Path:
        """Return where a file of its own may lie."""
        return self._folder / f"{self._node}-{name}"

    # -- starting --------------------------------------------------------------------------------------------------

    def store(self) -> WitnessedStore:
        """Return its metadata, as one process opens them."""
        identity = self.trust.identity()
        return WitnessedStore(
            self.database,
            node=self._node,
            slot=identity.slot,
            clock=self.clock,
            chance=self.network.chance,
            ledger=self._ledger,
            trace=self.network.trace,
        )

    def _process(self, kind: str) -> Process:
        return Process(f"{self._node} {kind}", self._disk_delay_s)

    def _disk_delay_s(self) -> float:
        chance = self.network.chance
        return chance.random() * _SLOW_S if self.has_slow_disk else chance.random() ** 4 * _QUICK_S

    def start(self) -> None:
        """Switch it on, and start the node."""
        self._is_on = True
        self._starting = self._process("start")
        self._starting.spawn(self._start())

    async def _start(self) -> None:
        """Try until it works, as a supervisor does: a full disk or a wrong clock may be in the way."""
        while True:
            try:
                await self._initialise()
            except TwinhullError:
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _initialise(self) -> None:
        """Do what a node does before its processes run; see node/start.py."""
        store = self.store()
        vectors = await asyncio.gather(*(self._vector_of(node) for node in await in_thread(self._executor, self.others)))

        def settle() -> None:
            settle_by_answers(store, vectors)

        await in_thread(self._executor, settle)
        await in_thread(self._executor, self._take_first_members, store)
        SyncPage(self._pages).set_until(0)
        self.start_agent()
        self.start_worker()

    def _take_first_members(self, store: WitnessedStore) -> None:
        store.refresh_position()
        with store.write() as transaction:
            for record in self.trust.first_members():
                transaction.merge_record(record)

    def others(self) -> list[Node]:
        """Return the other members as far as its disk tells."""
        with self.database.read() as connection:
            return [node for node in members.nodes(connection) if node.id != self._node]

    async def _vector_of(self, node: Node) -> VersionVector | None:
        try:
            return await self._call(node).vector(timeout_s=_ASK_S)
        except TwinhullError:
            return None

    def _call(self, node: Node) -> SimulatedPeer:
        machine = self.network.machines[node.id]
        assert isinstance(machine, Host)
        return SimulatedPeer(node.id, self._node, machine, self.network)

    def start_agent(self) -> None:
        """Start the process that talks to others."""
        self._note_turn()
        self._process("agent").spawn(self._run_agent())

    async def _run_agent(self) -> None:
        process = current_process()
        store = self.store()
        try:
            await in_thread(self._executor, store.refresh_position)
        except TwinhullError:
            # It ends, and its supervisor starts another one.
            self.network.loop.call_later(_AGAIN_S, self.start_agent, context=nowhere())
            return
        engine = Engine(
            identity=self.trust.identity(),
            trust=self.trust,
            store=store,
            blobs=self._blobs,
            page=SyncPage(self._pages),
            call=self._call,
            executor=self._executor,
            clock=self.clock,
            settings=EngineSettings(),
        )
        gate = Gate(store, engine.neighbours.is_paused)
        mending = Mending(engine, self.scratch("made-anew.db"))
        self._listening = Listening(engine, gate, Answers(engine), WorkerCalls(engine), mending)
        self._agent = process
        await engine.start()

    def start_worker(self) -> None:
        """Start the process that takes requests."""
        self._note_turn()
        self._worker = Worker(
            self._process("worker"),
            store=self.store(),
            blobs=self._blobs,
            link=SimulatedLink(lambda: self._agent, lambda: self.listening),
            page=SyncPage(self._pages),
            executor=self._executor,
            clock=self.clock,
            chance=self.network.chance,
        )

    # -- dying -----------------------------------------------------------------------------------------------------

    def kill_agent(self) -> None:
        """Kill the process that talks to others; a supervisor starts it again."""
        self._note_turn()
        if self._agent is not None:
            self._agent.kill()
        self._release_uploads()

    def _release_uploads(self) -> None:
        """Let go of what a dead process had claimed, as the kernel does with its locks."""
        for held in self._blobs.pending.values():
            held.claimed_by = None

    def kill(self, *, power: bool) -> None:
        """Kill all processes, with the machine's power or without."""
        if power:
            self._is_on = False
            self.clock.reboot()
        for process in (self._starting, self._agent, self._worker.process if self._worker else None):
            if process is not None:
                process.kill()
        self._release_uploads()
