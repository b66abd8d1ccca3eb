"""The peer port: bytes in threads and questions on the event loop, behind one address, for members alone."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession, web

from tests.support.streams import until
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.config.bandwidth import parse_limits
from twinhull.kit.clock import SystemClock
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import BlobUnknown, NotAMember, PeerUnavailable, ProtocolError, StorageFull
from twinhull.peer.bulk import BulkServer
from twinhull.peer.port import PeerPort
from twinhull.replication.bulk_client import BulkClient
from twinhull.replication.certificates import server_name
from twinhull.replication.long_line import LongLine, round_trip_s
from twinhull.replication.pace import Pace
from twinhull.replication.peer_client import PeerClient
from twinhull.replication.protocol import BULK_PROTOCOL, VectorAnswer
from twinhull.replication.tails import Tails
from twinhull.replication.trust import Trust

CONTENT = bytes(range(256)) * 4000
DIGEST = digest_of(CONTENT)
# More than the client reads at a time.
HALF = len(CONTENT) // 2


class OpenGate:
    """Lets everybody in whose certificate is the cluster's, as long as it is open."""

    def __init__(self) -> None:
        self.admitted = 0
        self.is_open = True

    def admit(self, certificate: object) -> str:
        """Return a name."""
        assert certificate, "no certificate was demanded"
        if not self.is_open:
            raise NotAMember("removed")
        self.admitted += 1
        return "peer"


class CountedBulkServer(BulkServer):
    """Counts connections, and lets a test close them."""

    def _serve(self, connection: socket.socket) -> None:
        # Another name for the connection, given up with it: as long as there is one, its end does not reach the other side.
        with connection.dup() as handle:
            self.connections.append(handle)
            super()._serve(connection)

    connections: list[socket.socket]


class Port:
    """A peer port and what lies behind it."""

    def __init__(self, tmp_path: Path) -> None:
        self.trust = Trust(tmp_path / "trust")
        self.node = self.trust.found("a", SystemClock()).node
        self.blobs = FilesystemBlobs(tmp_path / "data")
        self.tails = Tails(self.blobs, SystemClock(), rest_max_s=5)
        self.sent_bytes = 0
        self.gate = OpenGate()
        self.long_line = LongLine()
        self.pace = Pace((), str, SystemClock())
        self.number = 0
        self.session: ClientSession | None = None
        # What is answered to a question.
        self.answer = b""
        self.bulk: CountedBulkServer | None = None
        self.clients: list[PeerClient] = []

    @property
    def connections(self) -> list[socket.socket]:
        """All connections for bytes that there were."""
        assert self.bulk is not None
        return self.bulk.connections

    def on_sent(self, _node: str, count: int) -> None:
        """Count."""
        self.sent_bytes += count

    def client(self) -> PeerClient:
        """Return a member's client."""
        bulk_tls = self.trust.client_context()
        bulk_tls.set_alpn_protocols([BULK_PROTOCOL])
        assert self.session is not None
        tls = self.trust.client_context()
        address = f"127.0.0.1:{self.number}"
        bulk = BulkClient(self.node, address, tls=bulk_tls, clock=SystemClock(), long_line=self.long_line)
        client = PeerClient(self.node, address, session=self.session, tls=tls, bulk=bulk)
        self.clients.append(client)
        return client


@asynccontextmanager
async def listening(port: Port) -> AsyncIterator[None]:
    """Serve until the block is left."""
    bulk = port.bulk = CountedBulkServer(
        port.gate,  # type: ignore[arg-type]
        port.blobs,
        port.tails,
        tls=port.trust.server_context(),
        on_sent=port.on_sent,
        pace=port.pace,
    )
    bulk.connections = []

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def vector(_request: web.Request) -> web.Response:
        return web.Response(body=port.answer)

    application = web.Application()
    application.router.add_get("/hello", hello)
    application.router.add_post("/peer/v1/vector", vector)
    runner = web.AppRunner(application)
    await runner.setup()
    assert runner.server is not None
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(("127.0.0.1", 0))
        port.number = probe.getsockname()[1]
        served = PeerPort(runner.server, bulk, port.trust.server_context())
        await served.listen("127.0.0.1", port.number)
        try:
            async with ClientSession() as port.session:
                yield
        finally:
            await served.close()
            for client in port.clients:
                client.cut()
            await asyncio.to_thread(bulk.close)
            await runner.cleanup()


@pytest.fixture
def port(tmp_path: Path) -> Port:
    """A port that does not listen yet."""
    return Port(tmp_path)


def download(client: PeerClient, start: int = 0) -> bytes:
    """Return the blob from an offset on."""
    received = bytearray()
    client.download(DIGEST, start, received.extend)
    return bytes(received)


def full(_piece: memoryview) -> None:
    """Take nothing."""
    raise StorageFull


async def test_member_gets_a_blob_whole_and_from_an_offset_on(port: Port) -> None:
    port.blobs.put(DIGEST, CONTENT)
    async with listening(port):
        client = port.client()
        assert await asyncio.to_thread(download, client) == CONTENT
        assert await asyncio.to_thread(download, client, 1000) == CONTENT[1000:]
        # Counted by the thread that sends, maybe after all has come.
        await until(lambda: port.sent_bytes == 2 * len(CONTENT) - 1000)


async def test_blobs_one_after_the_other_share_a_connection(port: Port) -> None:
    port.blobs.put(DIGEST, CONTENT)
    async with listening(port):
        client = port.client()
        for _ in range(3):
            assert await asyncio.to_thread(download, client) == CONTENT
            with pytest.raises(BlobUnknown):
                await asyncio.to_thread(client.download, digest_of(b"other"), 0, bytearray().extend)
        assert len(port.connections) == 1
        # What was given up in the middle is not taken up by the next one.
        with pytest.raises(StorageFull):
            await asyncio.to_thread(client.download, DIGEST, 0, full)
        assert await asyncio.to_thread(download, client) == CONTENT
        assert len(port.connections) == 2


async def test_connection_that_the_peer_closed_meanwhile_is_opened_anew(port: Port) -> None:
    port.blobs.put(DIGEST, CONTENT)
    async with listening(port):
        client = port.client()
        for number in range(1, 4):
            assert await asyncio.to_thread(download, client) == CONTENT
            assert len(port.connections) == number
            port.connections[-1].shutdown(socket.SHUT_RDWR)


async def test_node_that_is_removed_gets_nothing_over_a_connection_that_is_open(port: Port) -> None:
    port.blobs.put(DIGEST, CONTENT)
    async with listening(port):
        client = port.client()
        assert await asyncio.to_thread(download, client) == CONTENT
        port.gate.is_open = False
        with pytest.raises(PeerUnavailable, match="answered 403"):
            await asyncio.to_thread(download, client)
        assert len(port.connections) == 1


async def test_big_blob_over_a_long_line_comes_in_ranges_and_whole(port: Port) -> None:
    port.blobs.put(DIGEST, CONTENT)
    # As if this line were long, and this much were big.
    port.long_line = LongLine(round_trip_min_s=0, blob_min_bytes=HALF, range_bytes=100_000, streams=3)
    async with listening(port):
        for start in (0, 1, 12_345, HALF):
            before = port.gate.admitted
            assert await asyncio.to_thread(download, port.client(), start) == CONTENT[start:]
            # One connection that found out how much there is, and one for each range.
            assert port.gate.admitted - before == 1 + -(-(len(CONTENT) - start) // port.long_line.range_bytes)
        assert await asyncio.to_thread(download, port.client(), HALF + 1) == CONTENT[HALF + 1 :]
        with pytest.raises(BlobUnknown):
            await asyncio.to_thread(port.client().download, digest_of(b"other"), 0, bytearray().extend)


def test_system_tells_how_long_a_line_is() -> None:
    with socket.socket() as listener, socket.socket() as caller:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        caller.connect(listener.getsockname())
        assert 0 < round_trip_s(caller) < 1
    with socket.socket(socket.AF_UNIX) as none:
        assert round_trip_s(none) == 0


async def test_blob_takes_as_long_as_its_peers_limit_lets_it(port: Port) -> None:
    port.blobs.put(DIGEST, CONTENT)
    port.pace = Pace(parse_limits("peer=4"), str, SystemClock())
    async with listening(port):
        clock = SystemClock()
        began_s = clock.monotonic_s()
        assert await asyncio.to_thread(download, port.client()) == CONTENT
        # All but the first quarter of a megabyte waits: 190 ms at 4 MB/s.
        assert clock.monotonic_s() - began_s > 0.15


async def test_blob_that_is_not_here_is_unknown(port: Port) -> None:
    async with listening(port):
        with pytest.raises(BlobUnknown):
            await asyncio.to_thread(download, port.client())


async def test_answer_is_read_and_one_that_is_none_is_refused(port: Port) -> None:
    async with listening(port):
        port.answer = msgspec.msgpack.encode(VectorAnswer(vector={"a": 3}))
        assert await port.client().vector(timeout_s=5) == {"a": 3}
        for port.answer in (b"", b"\xc1", msgspec.msgpack.encode({"vector": "a"})):
            with pytest.raises(ProtocolError, match="cannot be read"):
                await port.client().vector(timeout_s=5)


async def test_upload_is_followed_to_its_end_and_one_that_is_given_up_never_looks_whole(port: Port) -> None:
    async with listening(port):
        with ThreadPoolExecutor(2) as threads:
            for digest in (DIGEST, None):
                name = f"n.{digest is None}"
                upload = port.blobs.start_upload(name, {})
                upload.append([CONTENT[:HALF]])
                port.tails.grew(name, HALF)
                received = bytearray()
                following = threads.submit(port.client().follow, name, 0, received.extend)
                while not received and not following.done():
                    await asyncio.sleep(0)
                upload.append([CONTENT[HALF:]])
                port.tails.grew(name, len(CONTENT))
                if digest is None:
                    upload.abort()
                    port.tails.ended(name, None)
                    with pytest.raises(PeerUnavailable):
                        await asyncio.wrap_future(following)
                else:
                    upload.commit(digest)
                    port.tails.ended(name, digest)
                    await asyncio.wrap_future(following)
                    assert bytes(received) == CONTENT
                    rest = bytearray()
                    await asyncio.wrap_future(threads.submit(port.client().follow, name, HALF, rest.extend))
                    assert bytes(rest) == CONTENT[HALF:], "who was cut off comes back for the rest"


async def test_questions_and_bytes_share_the_port_and_who_says_nothing_holds_nobody_up(port: Port) -> None:
    port.blobs.put(DIGEST, CONTENT)
    async with listening(port):
        address = ("127.0.0.1", port.number)
        with socket.create_connection(address), socket.create_connection(address) as garbage:
            garbage.sendall(b"GET / HTTP/1.1\r\n\r\n")
            # A greeting of which only the first bytes have come.
            with socket.create_connection(address) as slow:
                slow.sendall(b"\x16\x03\x01\x02\x00")
                assert await asyncio.to_thread(download, port.client()) == CONTENT
                url = f"https://127.0.0.1:{port.number}/hello"
                tls = port.trust.client_context()
                assert port.session is not None
                async with port.session.get(url, ssl=tls, server_hostname=server_name(port.node)) as answer:
                    assert await answer.text() == "hello"


async def test_bytes_are_for_the_clusters_certificates_alone(port: Port, tmp_path: Path) -> None:
    port.blobs.put(DIGEST, CONTENT)
    stranger = Trust(tmp_path / "stranger")
    stranger.found("x", SystemClock())
    async with listening(port):
        for certificate in (None, "stranger"):
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            tls.load_verify_locations(cadata=port.trust.ca_pem().decode())
            tls.check_hostname = False
            if certificate:
                tls.load_cert_chain(tmp_path / certificate / "node.pem", tmp_path / certificate / "node.key")
            tls.set_alpn_protocols([BULK_PROTOCOL])
            connection = http.client.HTTPSConnection("127.0.0.1", port.number, context=tls, timeout=5)

            def ask(connection: http.client.HTTPSConnection = connection) -> bytes:
                connection.request("GET", f"/peer/v1/blobs/{DIGEST}")
                with connection.getresponse() as response:
                    return response.read()

            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.to_thread(ask)
            connection.close()
