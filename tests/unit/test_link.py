"""Between a worker and the agent: calls, failures, notices, and an agent that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.config.durability import Wish
from twinhull.kit.clock import SystemClock
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import DurabilityUnreached, Invalid, PeerUnavailable, ProtocolError
from twinhull.replication.link import Beyond, Call, Ended, Fetch, Find, Grown, LinkClient, LinkServer, Notice, Reach, Result
from twinhull.replication.page import FOREVER_MS, SyncPage
from twinhull.replication.remote import LINK_FAILURES, RemotePeers

LIMIT_S = 10
MANIFEST = digest_of(b"manifest")


class Agent:
    """An agent that answers as the test wants."""

    def __init__(self, path: Path) -> None:
        self.calls: list[Call] = []
        self.notices: list[Notice] = []
        self.answer: Result | Exception = True
        self.held = asyncio.Event()
        self.held.set()
        self.server = LinkServer(path, on_call=self.on_call, on_notice=self.notices.append)

    async def on_call(self, call: Call) -> Result:
        self.calls.append(call)
        await self.held.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[LinkClient]:
    """A worker's end that keeps its connection."""
    client = LinkClient(path, failures=LINK_FAILURES)
    running = asyncio.ensure_future(client.run())
    try:
        yield client
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    """Where the agent listens."""
    return tmp_path / "link.sock"


async def test_answer_goes_to_the_call_that_it_belongs_to(socket: Path) -> None:
    agent = Agent(socket)
    await agent.server.start()
    async with connected(socket) as client:
        agent.held.clear()
        agent.answer = "metadata"
        slow = asyncio.ensure_future(client.call(Reach(seq=1, level="metadata")))
        async with asyncio.timeout(LIMIT_S):
            while not agent.calls:
                await asyncio.sleep(0)
            agent.answer = True
            quick = asyncio.ensure_future(client.call(Find(kind="tag", key="library/a:b")))
            while len(agent.calls) < 2:
                await asyncio.sleep(0)
            agent.held.set()
            assert await quick is True
            assert await slow is True
    await agent.server.close()


async def test_failure_of_the_agent_arrives_as_itself_where_that_is_known(socket: Path) -> None:
    agent = Agent(socket)
    await agent.server.start()
    async with connected(socket) as client, asyncio.timeout(LIMIT_S):
        agent.answer = DurabilityUnreached("not confirmed by b")
        with pytest.raises(DurabilityUnreached, match="not confirmed by b"):
            await client.call(Reach(seq=1, level="full"))
        agent.answer = ProtocolError("a secret of the protocol")
        with pytest.raises(PeerUnavailable):
            await client.call(Find(kind="tag", key="x"))
    await agent.server.close()


async def test_call_is_told_at_once_when_the_agent_dies_under_it(socket: Path) -> None:
    agent = Agent(socket)
    await agent.server.start()
    async with connected(socket) as client, asyncio.timeout(LIMIT_S):
        agent.held.clear()
        call = asyncio.ensure_future(client.call(Find(kind="tag", key="x")))
        while not agent.calls:
            await asyncio.sleep(0)
        await agent.server.close()
        with pytest.raises(PeerUnavailable, match="agent stopped"):
            await call


async def test_worker_waits_a_moment_for_an_agent_that_is_about_to_come(socket: Path) -> None:
    async with connected(socket) as client, asyncio.timeout(LIMIT_S):
        call = asyncio.ensure_future(client.call(Find(kind="tag", key="x")))
        await asyncio.sleep(0)
        agent = Agent(socket)
        await agent.server.start()
        assert await call is True
        assert client.is_connected
        await agent.server.close()


async def test_notice_is_lost_without_harm_when_no_agent_is_there(socket: Path) -> None:
    client = LinkClient(socket, failures=LINK_FAILURES)
    client.notify(Grown(upload_id="u", size=1))
    assert not client.is_connected


async def test_notices_come_in_order_and_cost_no_answer(socket: Path) -> None:
    agent = Agent(socket)
    await agent.server.start()
    notices: list[Notice] = [Grown(upload_id="u", size=size) for size in range(100)]
    notices.append(Ended(upload_id="u", digest=None))
    async with connected(socket) as client, asyncio.timeout(LIMIT_S):
        await client.call(Find(kind="tag", key="x"))
        for notice in notices:
            client.notify(notice)
        while len(agent.notices) < len(notices):
            await asyncio.sleep(0)
    assert agent.notices == notices
    await agent.server.close()


async def test_frame_that_cannot_be_read_ends_that_connection_alone(socket: Path) -> None:
    agent = Agent(socket)
    await agent.server.start()
    async with connected(socket) as client, asyncio.timeout(LIMIT_S):
        reader, writer = await asyncio.open_unix_connection(str(socket))
        writer.write(b"\x03\x00\x00\x00abc")
        assert await reader.read() == b""
        writer.close()
        assert await client.call(Find(kind="tag", key="x")) is True
    await agent.server.close()


# -- what a worker makes of it ---------------------------------------------------------------------------------------


class Worker:
    """The peers as one worker sees them."""

    def __init__(self, folder: Path, client: LinkClient, executor: ThreadPoolExecutor, *, refuse: bool = False) -> None:
        self.page = SyncPage(folder / "run" / "in-sync")
        self.blobs = FilesystemBlobs(folder / "data")
        self.projects = {"strict": Wish("full", "refuse"), "loose": Wish("local")}
        self.cluster = Wish()
        self.peers = RemotePeers(
            client,
            self.page,
            blobs=self.blobs,
            executor=executor,
            clock=SystemClock(),
            durability=Wish("metadata", "refuse" if refuse else "degrade"),
            blobs_of=lambda _repository, _digest: [("sha256:" + "0" * 64, 3)],
            wish_of=self._wish_of,
        )

    async def _wish_of(self, project: str) -> Wish:
        return self.projects.get(project, Wish()).or_else(self.cluster)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """Threads."""
    with ThreadPoolExecutor(4) as threads:
        yield threads


async def test_durability_asks_the_agent_for_the_level_that_is_wanted(
    socket: Path, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    agent = Agent(socket)
    await agent.server.start()
    async with connected(socket) as client, asyncio.timeout(LIMIT_S):
        worker = Worker(tmp_path, client, executor)
        agent.answer = "metadata"
        assert await worker.peers.reached(7) == "metadata"
        agent.answer = "full"
        assert await worker.peers.reached(8, repository="library/a", digest=MANIFEST, wanted="full") == "full"
        assert agent.calls == [
            Reach(seq=7, level="metadata"),
            Reach(seq=8, level="full", blobs=[("sha256:" + "0" * 64, 3)]),
        ]
        with pytest.raises(Invalid, match="unknown"):
            await worker.peers.reached(9, wanted="best")
        assert await worker.peers.reached(0) == "metadata", "nothing was written, so nothing is to be waited for"
        assert len(agent.calls) == 2
    await agent.server.close()


async def test_most_particular_of_request_project_cluster_and_node_says_what_a_write_waits_for(
    socket: Path, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    agent = Agent(socket)
    await agent.server.start()
    async with connected(socket) as client, asyncio.timeout(LIMIT_S):
        worker = Worker(tmp_path, client, executor)
        agent.answer = "metadata"
        await worker.peers.reached(1, repository="strict/app", digest=MANIFEST)
        await worker.peers.reached(2, repository="loose/app")
        await worker.peers.reached(3, repository="strict/app", digest=MANIFEST, wanted="local")
        await worker.peers.reached(4, repository="library/app")
        worker.cluster = Wish("full", "refuse")
        await worker.peers.reached(5, repository="library/app", digest=MANIFEST)
        await worker.peers.reached(6, repository="loose/app")
        await worker.peers.reached(7, repository="strict/app", digest=MANIFEST, wanted="on-peer-loss=degrade")
        await worker.peers.reached(8, wanted="metadata; on-peer-loss=degrade")
        assert [(call.level, len(call.blobs), call.refuse) for call in agent.calls if isinstance(call, Reach)] == [
            *(("full", 1, True), ("local", 0, False), ("local", 0, True), ("metadata", 0, False)),
            *(("full", 1, True), ("local", 0, True), ("full", 1, False), ("metadata", 0, False)),
        ]
        for wanted in ("on-peer-loss=never", "patience=3"):
            with pytest.raises(Invalid, match="unknown"):
                await worker.peers.reached(9, wanted=wanted)
    await agent.server.close()


@pytest.mark.parametrize("refuse", [False, True])
async def test_write_without_an_agent_keeps_what_peers_were_promised(
    tmp_path: Path, executor: ThreadPoolExecutor, refuse: bool
) -> None:
    client = LinkClient(tmp_path / "nobody", failures=LINK_FAILURES, patience_s=0)
    worker = Worker(tmp_path, client, executor, refuse=refuse)
    clock = SystemClock()
    promised_until_s = clock.monotonic_s() + 0.1
    worker.page.set_promised(promised_until_s)
    if refuse:
        with pytest.raises(DurabilityUnreached):
            await worker.peers.reached(1)
    else:
        assert await worker.peers.reached(1) == "local"
    assert clock.monotonic_s() >= promised_until_s
    assert await worker.peers.reached(1, wanted="local") == "local"
    assert not await worker.peers.find("tag", "x")


def test_page_says_until_when_this_node_is_sure_and_what_was_promised(tmp_path: Path) -> None:
    clock = SystemClock()
    page, reader = SyncPage(tmp_path / "page"), SyncPage(tmp_path / "page")
    assert not reader.is_sure(clock)
    page.set_until(int(clock.monotonic_s() * 1000) + 60_000)
    assert reader.is_sure(clock)
    page.set_until(int(clock.monotonic_s() * 1000) - 1)
    assert not reader.is_sure(clock)
    page.set_until(FOREVER_MS)
    assert reader.is_sure(clock)
    assert reader.promised_s(clock) == 0
    page.set_promised(clock.monotonic_s() + 60)
    assert 59 < reader.promised_s(clock) <= 60.1
    page.set_promised(clock.monotonic_s() + 1e6)
    assert reader.promised_s(clock) == 0, "of a life before the machine was started anew"


async def test_upload_is_told_of_now_and_then(socket: Path, tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    agent = Agent(socket)
    await agent.server.start()
    async with connected(socket) as client, asyncio.timeout(LIMIT_S):
        worker = Worker(tmp_path, client, executor)
        await client.call(Find(kind="tag", key="x"))
        for size in range(0, 3 << 20, 1 << 18):
            worker.peers.grown("u", size)
        worker.peers.ended("u", MANIFEST)
        while not agent.notices or not isinstance(agent.notices[-1], Ended):
            await asyncio.sleep(0)
    assert agent.notices == [
        Grown(upload_id="u", size=1 << 20),
        Grown(upload_id="u", size=2 << 20),
        Ended(upload_id="u", digest=MANIFEST),
    ]
    await agent.server.close()


class Fetching(Agent):
    """An agent that brings one blob, as far as the test lets it."""

    def __init__(self, path: Path, blobs: FilesystemBlobs, content: bytes) -> None:
        super().__init__(path)
        self.digest = digest_of(content)
        self.content = content
        self.upload = blobs.start_upload("transfer-1", {})
        self.moved = asyncio.Event()
        self.failure: Exception | None = None
        self.arrived = False

    def bring(self, count: int) -> None:
        """Let so many more bytes come."""
        self.upload.append([self.content[self.upload.offset : self.upload.offset + count]])
        self.moved.set()

    def finish(self) -> None:
        """Let the blob be here."""
        self.upload.commit(self.digest)
        self.arrived = True
        self.moved.set()

    def fail(self) -> None:
        """Let the transfer come to nothing."""
        self.failure = PeerUnavailable("peer b has other bytes")
        self.moved.set()

    async def on_call(self, call: Call) -> Result:
        if isinstance(call, Fetch):
            return "3 transfer-1"
        assert isinstance(call, Beyond)
        assert call.number == 3
        while not self.arrived and self.failure is None and self.upload.offset <= call.offset:
            await self.moved.wait()
            self.moved.clear()
        if self.failure is not None:
            raise self.failure
        return -1 if self.arrived else self.upload.offset


async def test_reader_is_given_what_has_come_but_the_last_byte_only_once_all_is_right(
    socket: Path, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    content = bytes(range(100))
    async with connected(socket) as client, asyncio.timeout(LIMIT_S):
        worker = Worker(tmp_path, client, executor)
        agent = Fetching(socket, worker.blobs, content)
        await agent.server.start()
        source = await worker.peers.blob_source("library/a", agent.digest, len(content))
        agent.bring(10)
        assert await source.read(0, 4) == content[:4]
        assert await source.read(4, 100) == content[4:10]
        agent.bring(90)
        assert await source.read(10, 100) == content[10:99]
        last = asyncio.ensure_future(source.read(99, 100))
        done, _ = await asyncio.wait([last], timeout=0.02)
        assert not done
        agent.finish()
        assert await last == content[99:]
        assert await source.read(0, 100) == content
        await source.close()
        await agent.server.close()


async def test_reader_is_never_given_all_of_what_is_not_the_blob(
    socket: Path, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    content = bytes(range(100))
    async with connected(socket) as client, asyncio.timeout(LIMIT_S):
        worker = Worker(tmp_path, client, executor)
        agent = Fetching(socket, worker.blobs, content)
        await agent.server.start()
        source = await worker.peers.blob_source("library/a", agent.digest, len(content))
        agent.bring(100)
        assert len(await source.read(0, 100)) == 99
        agent.fail()
        with pytest.raises(PeerUnavailable, match="other bytes"):
            await source.read(99, 1)
        await source.close()
        agent.upload.close()
        await agent.server.close()


async def test_blob_that_came_in_the_meantime_is_read_from_the_store(
    socket: Path, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    agent = Agent(socket)
    await agent.server.start()
    async with connected(socket) as client, asyncio.timeout(LIMIT_S):
        worker = Worker(tmp_path, client, executor)
        digest = Digest(digest_of(b"here"))
        worker.blobs.put(digest, b"here")
        agent.answer = ""
        source = await worker.peers.blob_source("library/a", digest, 4)
        assert await source.read(0, 100) == b"here"
        assert await source.read(1, 2) == b"er"
        with pytest.raises(PeerUnavailable, match="ends at 4 of 9"):
            await (await worker.peers.blob_source("library/a", digest, 9)).read(4, 1)
        worker.blobs.delete(digest)
        with pytest.raises(PeerUnavailable, match="gone"):
            await source.read(0, 1)
        await source.close()
    await agent.server.close()
