"""What clients notice of nodes that fail, of reloads and of nginx dying: as little as possible."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import aiohttp
import pytest

from tests.support.gateway import (
    LIMIT_S,
    NGINXES,
    Node,
    answers,
    entrance,
    fresh_answers,
    name_of,
    nodes,
    parse_answer,
    raw_exchange,
    wait_gone,
)
from twinhull.gateway.certificate import self_signed
from twinhull.gateway.settings import gateway_settings
from twinhull.gateway.supervise import Gateway, GatewayStatus
from twinhull.kit.clock import ManualClock, SystemClock
from twinhull.kit.errors import Conflict, SettingsInvalid, Unavailable

# So long that within a test only the first check, before nginx starts, takes place.
NEVER_S = 60


@pytest.fixture(params=NGINXES, ids=name_of)
def nginx(request: pytest.FixtureRequest) -> Path:
    """One nginx after the other."""
    return Path(request.param)


@pytest.fixture
async def pair() -> AsyncIterator[list[Node]]:
    """Two nodes."""
    async with nodes("a", "b") as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that gives up in time."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT_S)) as session:
        yield session


class Dropping:
    """A node that reads each request to its end and then dies on it."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.arrived = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Dropping:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if head.startswith("GET /readyz "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            self.requests.append(head.partition(" HTTP")[0])
            self.arrived.set()
            if "chunked" in head:
                await reader.readuntil(b"0\r\n\r\n")
        writer.close()


def in_rotation(status: GatewayStatus) -> list[bool]:
    return [node.in_rotation for node in status.nodes]


async def wait_in_rotation(gateway: Gateway, wanted: Iterable[bool]) -> None:
    wanted = list(wanted)
    async with asyncio.timeout(LIMIT_S):
        await gateway.wait_status(lambda status: in_rotation(status) == wanted)


async def test_no_get_fails_when_a_node_dies(
    nginx: Path, tmp_path: Path, pair: list[Node], client: aiohttp.ClientSession
) -> None:
    async with entrance(nginx, tmp_path, pair, check_interval_s=NEVER_S) as front:
        # Connections to both are kept alive when one dies, and nobody has told the gateway.
        assert set(await answers(client, front.url + "/x", 8)) == {"a", "b"}
        await pair[0].stop()
        assert await answers(client, front.url + "/x", 20) == ["b"] * 20


@pytest.mark.parametrize(
    "case",
    [
        ("GET", "", 200),
        ("HEAD", "", 200),
        ("DELETE", "", 200),
        ("PUT", "whole", 200),
        ("POST", "whole", 502),
        ("PATCH", "whole", 502),
    ],
)
async def test_request_that_a_node_dies_on(nginx: Path, tmp_path: Path, pair: list[Node], case: tuple[str, str, int]) -> None:
    """What may be done twice is done once more, by the other node; the rest isn't, as it may have been done."""
    method, body, status = case
    framed = {
        "": "\r\n",
        "whole": "Content-Length: 2\r\n\r\nhi",
    }
    sent = f"{method} /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{framed[body]}".encode()
    statuses: list[int] = []
    async with Dropping() as dropping:
        backends = [dropping.url, pair[1].url]
        async with entrance(nginx, tmp_path, pair, backends=backends, check_interval_s=NEVER_S) as front:
            # Nodes take turns, in each worker for itself: at the latest the third request meets the one that dies.
            while not dropping.requests:
                statuses.append(parse_answer(await raw_exchange(front.port, sent))[0])
    assert statuses == [200] * (len(statuses) - 1) + [status]
    assert dropping.requests == [f"{method} /x"]
    assert len(pair[1].seen) == statuses.count(200)


async def test_streamed_put_that_a_node_dies_on_is_sent_once(nginx: Path, tmp_path: Path, pair: list[Node]) -> None:
    statuses: list[int] = []
    async with Dropping() as dropping:
        backends = [dropping.url, pair[1].url]
        async with entrance(nginx, tmp_path, pair, backends=backends, check_interval_s=NEVER_S) as front:
            while not dropping.requests:
                pair[1].first_bytes.clear()
                reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
                writer.write(
                    b"PUT /upload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"
                )
                waits = [asyncio.create_task(event.wait()) for event in (dropping.arrived, pair[1].first_bytes)]
                await asyncio.wait(waits, timeout=LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
                writer.write(b"2\r\nhi\r\n0\r\n\r\n")
                statuses.append(parse_answer(await reader.read())[0])
                writer.close()
    assert statuses == [200] * (len(statuses) - 1) + [502]
    assert len(pair[1].seen) == statuses.count(200)


async def test_post_goes_to_the_other_node_when_none_of_it_was_sent(
    nginx: Path, tmp_path: Path, pair: list[Node], client: aiohttp.ClientSession
) -> None:
    async with entrance(nginx, tmp_path, pair, check_interval_s=NEVER_S) as front:
        await pair[0].stop()
        for _ in range(6):
            async with client.post(front.url + "/upload", data=b"x" * 100_000) as answer:
                assert (await answer.json())["node"] == "b"


async def test_node_that_is_not_ready_goes_out_and_comes_back(
    nginx: Path, tmp_path: Path, pair: list[Node], client: aiohttp.ClientSession
) -> None:
    async with entrance(nginx, tmp_path, pair) as front:
        pair[0].ready = False
        await wait_in_rotation(front.gateway, [False, True])
        status = front.gateway.status()
        assert [(node.well, node.last_answer) for node in status.nodes] == [(False, "says it is not ready"), (True, "ready")]
        # nginx takes a moment to change its workers; from then on nothing goes there.
        await until(front.url + "/x", {"b"})
        pair[0].ready = True
        await wait_in_rotation(front.gateway, [True, True])
        await until(front.url + "/x", {"a", "b"})


async def until(url: str, wanted: set[str], source: str = "127.0.0.1") -> None:
    """Ask until a run of 12 answers, on fresh connections, comes from exactly these nodes."""
    async with asyncio.timeout(LIMIT_S):
        while set(await fresh_answers(url, 12, source)) != wanted:
            pass


async def test_all_stay_in_when_all_fail(nginx: Path, tmp_path: Path, pair: list[Node], client: aiohttp.ClientSession) -> None:
    async with entrance(nginx, tmp_path, pair) as front:
        for node in pair:
            node.ready = False
        async with asyncio.timeout(LIMIT_S):
            await front.gateway.wait_status(lambda status: not any(node.well for node in status.nodes))
        await wait_in_rotation(front.gateway, [True, True])
        await until(front.url + "/x", {"a", "b"})


async def test_no_node_at_all_is_said_in_the_registry_s_words(nginx: Path, tmp_path: Path, pair: list[Node]) -> None:
    async with entrance(nginx, tmp_path, pair) as front, aiohttp.ClientSession() as client:
        for node in pair:
            await node.stop()
        async with client.get(front.url + "/v2/") as answer:
            assert answer.status == 502
            assert answer.headers["Retry-After"] == "2"
            assert (await answer.json())["errors"][0]["code"] == "UNAVAILABLE"


async def test_reload_does_not_touch_running_requests(
    nginx: Path, tmp_path: Path, pair: list[Node], client: aiohttp.ClientSession
) -> None:
    async with entrance(nginx, tmp_path, pair) as front:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(
            b"PATCH /upload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
        )
        async with client.get(front.url + "/held") as held, client.ws_connect(front.url + "/socket") as web_socket:
            assert await held.content.readexactly(6) == b"begun,"
            for wanted in ([False, True], [True, True], [True, False]):
                for node, ready in zip(pair, wanted, strict=True):
                    node.ready = ready
                await wait_in_rotation(front.gateway, wanted)
            await until(front.url + "/x", {"a"})
            for node in pair:
                node.release.set()
            assert await held.content.read() == b"done"
            await web_socket.send_str("still there")
            assert (await web_socket.receive_str())[2:] == "still there"
        writer.write(b"4\r\nhalf\r\n0\r\n\r\n")
        assert parse_answer(await reader.read())[1]["size"] == 8
        writer.close()
        assert front.gateway.status().reloads >= 3


async def test_nginx_that_is_killed_comes_back(
    nginx: Path, tmp_path: Path, pair: list[Node], client: aiohttp.ClientSession
) -> None:
    async with entrance(nginx, tmp_path, pair) as front:
        first = front.gateway.status().nginx_pid
        assert first is not None
        async with client.get(front.url + "/held") as held:
            os.kill(first, signal.SIGKILL)
            async with asyncio.timeout(LIMIT_S):
                await front.gateway.wait_status(lambda status: status.restarts == 1 and status.nginx_pid not in (None, first))
            assert set(await fresh_answers(front.url + "/x", 8)) == {"a", "b"}
            for node in pair:
                node.release.set()
            # Even what ran under the dead master goes to its end.
            assert await held.content.read() == b"begun,done"


async def test_stop_lets_requests_finish(nginx: Path, tmp_path: Path, pair: list[Node], client: aiohttp.ClientSession) -> None:
    async with contextlib.AsyncExitStack() as stack:
        front = await stack.enter_async_context(entrance(nginx, tmp_path, pair, stop_timeout_s=LIMIT_S))
        pid = front.gateway.status().nginx_pid
        assert pid is not None
        async with client.get(front.url + "/held") as held:
            stopping = asyncio.create_task(stack.pop_all().aclose())
            await wait_refused(front.port)
            for node in pair:
                node.release.set()
            assert await held.content.read() == b"begun,done"
        await stopping
        await wait_gone(pid)


async def wait_refused(port: int) -> None:
    """Wait until nobody listens on the port any more."""
    async with asyncio.timeout(LIMIT_S):
        with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()


async def test_stop_cuts_what_does_not_finish(
    nginx: Path, tmp_path: Path, pair: list[Node], client: aiohttp.ClientSession
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        front = await stack.enter_async_context(entrance(nginx, tmp_path, pair, stop_timeout_s=0))
        async with client.get(front.url + "/held") as held:
            await stack.aclose()
            with pytest.raises(aiohttp.ClientPayloadError):
                await held.content.read()
        assert front.gateway.status().nginx_pid is None


async def test_address_pins_a_client_to_a_node(nginx: Path, tmp_path: Path, pair: list[Node]) -> None:
    sources = [f"127.0.{third}.1" for third in range(1, 17)]
    async with entrance(nginx, tmp_path, pair, affinity="ip") as front:
        chosen = {source: set(await fresh_answers(front.url + "/x", 4, source)) for source in sources}
        assert {len(names) for names in chosen.values()} == {1}
        assert set.union(*chosen.values()) == {"a", "b"}
        client_of_a = next(source for source in sources if chosen[source] == {"a"})
        pair[0].ready = False
        await wait_in_rotation(front.gateway, [False, True])
        await until(front.url + "/x", {"b"}, client_of_a)
        pair[0].ready = True
        await wait_in_rotation(front.gateway, [True, True])
        async with asyncio.timeout(LIMIT_S):
            while {source: set(await fresh_answers(front.url + "/x", 4, source)) for source in sources} != chosen:
                pass


async def test_renewed_certificate_is_taken_up(nginx: Path, tmp_path: Path, pair: list[Node]) -> None:
    certificate, key = self_signed([], tmp_path, SystemClock())
    async with entrance(nginx, tmp_path / "run", pair, certificate=str(certificate), key=str(key)) as front:
        before = await served_certificate(front.tls_port)
        renewed, renewed_key = self_signed(["other.test"], tmp_path / "new", SystemClock())
        renewed.replace(certificate)  # for a moment the two don't fit: nginx must keep what it has
        async with asyncio.timeout(LIMIT_S):
            await front.gateway.wait_status(lambda status: "nginx refuses" in status.last_error)
        assert await served_certificate(front.tls_port) == before
        renewed_key.replace(key)
        async with asyncio.timeout(LIMIT_S):
            await front.gateway.wait_status(lambda status: status.reloads == 1)
            while await served_certificate(front.tls_port) == before:
                pass


async def served_certificate(port: int) -> bytes | None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    certificate: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return certificate


async def test_name_that_leads_nowhere_does_not_stop_the_others(nginx: Path, tmp_path: Path, pair: list[Node]) -> None:
    backends = ["http://nowhere.invalid:80", f"http://localhost:{pair[1].port}"]
    async with entrance(nginx, tmp_path, pair, backends=backends, check_timeout_s=10) as front:
        assert in_rotation(front.gateway.status()) == [False, True]
        assert set(await fresh_answers(front.url + "/x", 4)) == {"b"}


async def test_taken_port_is_said_by_name(nginx: Path, tmp_path: Path, pair: list[Node]) -> None:
    with pytest.raises(Unavailable, match=rf"bind\(\) to 127\.0\.0\.1:{pair[0].port} failed"):
        async with entrance(nginx, tmp_path, pair, listen=[f"127.0.0.1:{pair[0].port}"]):
            pass


async def test_second_gateway_in_one_directory_is_refused(nginx: Path, tmp_path: Path, pair: list[Node]) -> None:
    async with entrance(nginx, tmp_path, pair):
        with pytest.raises(Conflict, match="another gateway"):
            async with entrance(nginx, tmp_path, pair):
                pass


async def test_missing_certificate_is_said_by_name(nginx: Path, tmp_path: Path, pair: list[Node]) -> None:
    with pytest.raises(SettingsInvalid, match=r"gone\.pem"):
        async with entrance(nginx, tmp_path, pair, certificate=f"{tmp_path}/gone.pem", key=f"{tmp_path}/gone.key"):
            pass


async def test_program_that_is_no_nginx_is_refused(tmp_path: Path) -> None:
    settings = gateway_settings({"backends": ["a:1"], "listen": ["127.0.0.1:1"]})
    with pytest.raises(Unavailable, match="is not an nginx"):
        await Gateway(settings, run_dir=tmp_path, clock=ManualClock(), nginx=Path("/bin/true")).run()
