"""What passes through a real nginx, and how it looks on the other side."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from tests.support.clients import require_client
from tests.support.gateway import LIMIT_S, NGINXES, Entrance, Node, entrance, header, name_of, nodes, parse_answer, raw_exchange
from twinhull.gateway.certificate import self_signed
from twinhull.kit.clock import SystemClock

MEGABYTE = 1024 * 1024


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
async def front(nginx: Path, tmp_path: Path, pair: list[Node]) -> AsyncIterator[Entrance]:
    """A plain and a TLS entrance before two nodes."""
    certificate, key = self_signed(["registry.test"], tmp_path, SystemClock())
    async with entrance(nginx, tmp_path / "run", pair, certificate=str(certificate), key=str(key)) as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that gives up in time."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT_S)) as session:
        yield session


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


@pytest.mark.parametrize(
    "path",
    [
        "/v2/library/app/manifests/v1",
        "/api/v2.0/projects/library/repositories/a%2Fb/artifacts",
        "/api/v2.0/projects/library/repositories/a%252Fb/artifacts?q=x%3D%7B1%20y%7D&sort=-name",
        "/c//d/%41%c3%a9;p=1?a=b?c",
        "/v2/a/blobs/uploads/?digest=sha256:ab&mount=%00",
        "/a%2e%2e/b+c/",
    ],
)
async def test_path_arrives_byte_for_byte(front: Entrance, client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(URL(front.url + path, encoded=True)) as answer:
        assert (await answer.json())["path"] == path


async def test_headers_tell_the_node_who_asked_and_by_which_address(front: Entrance, client: aiohttp.ClientSession) -> None:
    sent = {
        "Host": "Registry.test:5000",
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "https",
        "Forwarded": "for=6.6.6.6",
    }
    async with client.get(front.url + "/x", headers=sent | {"X-Forwarded-Host": "evil", "X-Real-IP": "6.6.6.6"}) as answer:
        told = await answer.json()
        # What a node says of itself is not replaced.
        assert answer.headers["Server"].startswith("node-")
        assert answer.headers["X-Request-Id"] == "r1"
    assert header(told, "Host") == ["Registry.test:5000"]
    assert header(told, "X-Forwarded-Host") == ["Registry.test:5000"]
    assert header(told, "X-Forwarded-For") == ["127.0.0.1"]
    assert header(told, "X-Real-IP") == ["127.0.0.1"]
    assert header(told, "X-Forwarded-Proto") == ["http"]
    assert header(told, "Forwarded") == []


async def test_headers_of_a_trusted_proxy_are_believed(nginx: Path, tmp_path: Path, pair: list[Node]) -> None:
    sent = {"X-Forwarded-For": "6.6.6.6, 203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "registry.example.com"}
    async with (
        entrance(nginx, tmp_path, pair, trusted_proxies=["127.0.0.0/8"]) as front,
        aiohttp.ClientSession() as client,
        client.get(front.url + "/x", headers=sent) as answer,
    ):
        told = await answer.json()
    assert header(told, "X-Real-IP") == ["203.0.113.9"]
    assert header(told, "X-Forwarded-For") == ["203.0.113.9"]
    assert header(told, "X-Forwarded-Proto") == ["https"]
    assert header(told, "X-Forwarded-Host") == ["registry.example.com"]


@pytest.mark.parametrize("size", [None, 50 * MEGABYTE], ids=["chunked", "with length"])
async def test_upload_streams_through_while_it_is_sent(front: Entrance, pair: list[Node], size: int | None) -> None:
    piece = bytes(range(256)) * 4096
    length = f"Content-Length: {size}" if size else "Transfer-Encoding: chunked"
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(f"PATCH /upload HTTP/1.1\r\nHost: x\r\n{length}\r\nConnection: close\r\n\r\n".encode())

    def framed(data: bytes) -> bytes:
        return data if size else b"%x\r\n%b\r\n" % (len(data), data)

    writer.write(framed(piece))
    async with asyncio.timeout(LIMIT_S):
        # 49 MB are still to be sent when a node has the first bytes.
        waits = [asyncio.create_task(node.first_bytes.wait()) for node in pair]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        for _ in range(49):
            writer.write(framed(piece))
            await writer.drain()
        writer.write(b"" if size else b"0\r\n\r\n")
        status, told = parse_answer(await reader.read())
    writer.close()
    assert (status, told["size"]) == (200, 50 * MEGABYTE)
    assert told["sha256"] == hashlib.sha256(piece * 50).hexdigest()


async def test_upload_larger_than_any_default_limit_comes_through_tls(
    front: Entrance, tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    body = bytes(20 * MEGABYTE)
    async with client.put(front.tls_url + "/upload", data=io.BytesIO(body), ssl=trusting(tmp_path / "gateway.crt")) as answer:
        assert (await answer.json())["size"] == len(body)


async def test_download_is_not_held_back(front: Entrance, pair: list[Node], client: aiohttp.ClientSession) -> None:
    async with client.get(front.url + "/held") as answer:
        assert await answer.content.readexactly(6) == b"begun,"
        for node in pair:
            node.release.set()
        assert await answer.content.read() == b"done"


async def test_download_is_whole(front: Entrance, client: aiohttp.ClientSession) -> None:
    async with client.get(front.url + f"/blob?size={40 * MEGABYTE}") as answer:
        assert await answer.read() == b"\x5a" * (40 * MEGABYTE)


async def test_long_headers_pass_in_both_directions(front: Entrance, client: aiohttp.ClientSession) -> None:
    token = "Bearer " + "t" * 30_000
    async with client.get(front.url + "/x", headers={"Authorization": token}) as answer:
        assert header(await answer.json(), "Authorization") == [token]
    async with client.get(front.url + "/headers") as answer:
        assert len(answer.headers["Link"]) + len(answer.headers["X-More"]) == 12_002


async def test_websocket_passes(front: Entrance, tmp_path: Path, client: aiohttp.ClientSession) -> None:
    for url, context in ((front.url, False), (front.tls_url, trusting(tmp_path / "gateway.crt"))):
        async with client.ws_connect(f"{url}/socket", ssl=context) as socket:
            for number in range(3):
                await socket.send_str(f"hello {number}")
                assert (await socket.receive_str())[2:] == f"hello {number}"


async def test_server_sent_events_arrive_one_by_one(front: Entrance, pair: list[Node], client: aiohttp.ClientSession) -> None:
    async with client.get(front.url + "/events") as answer:
        assert answer.content_type == "text/event-stream"
        for number in range(3):
            for node in pair:
                node.events.put_nowait(str(number))
            assert await answer.content.readuntil(b"\n\n") == f"data: {number}\n\n".encode()
        for node in pair:
            node.events.put_nowait("end")


async def test_upgrade_to_anything_but_websocket_is_not_passed_on(front: Entrance, client: aiohttp.ClientSession) -> None:
    async with client.get(front.url + "/x", headers={"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings"}) as answer:
        told = await answer.json()
    assert header(told, "Upgrade") == []
    assert header(told, "Connection") in ([], ["keep-alive"])


async def test_tls_entrance_says_https_and_refuses_old_protocols(
    front: Entrance, tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    context = trusting(tmp_path / "gateway.crt")
    async with client.get(front.tls_url + "/v2/", ssl=context) as answer:
        told = await answer.json()
    assert header(told, "X-Forwarded-Proto") == ["https"]
    assert header(told, "Host") == [f"localhost:{front.tls_port}"]
    old = trusting(tmp_path / "gateway.crt")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(aiohttp.ClientConnectorSSLError):
        await client.get(front.tls_url + "/v2/", ssl=old)


@pytest.mark.parametrize("http2", [False, True])
async def test_http2_is_spoken_only_when_asked_for(nginx: Path, tmp_path: Path, pair: list[Node], http2: bool) -> None:
    certificate, key = self_signed([], tmp_path, SystemClock())
    body = tmp_path / "body"
    body.write_bytes(bytes(3 * MEGABYTE))
    settings = {"certificate": str(certificate), "key": str(key), "http2": http2}
    async with entrance(nginx, tmp_path / "run", pair, **settings) as front:
        told = [
            await curl("--http2", "--cacert", certificate, "--write-out", "\n%{http_version}", *more)
            for more in ([front.tls_url + "/v2/a%2Fb"], ["--upload-file", body, front.tls_url + "/upload"])
        ]
    assert {line.splitlines()[-1] for line in told} == {"2" if http2 else "1.1"}
    assert json.loads(told[0].splitlines()[0])["path"] == "/v2/a%2Fb"
    assert header(json.loads(told[0].splitlines()[0]), "Host") == [f"localhost:{front.tls_port}"]
    assert json.loads(told[1].splitlines()[0])["size"] == 3 * MEGABYTE


async def curl(*arguments: str | Path) -> str:
    """Return what curl prints."""
    process = await asyncio.create_subprocess_exec(
        require_client("curl"),
        "--silent",
        "--show-error",
        "--max-time",
        str(LIMIT_S),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()


async def test_plain_entrance_redirects_when_asked_to(nginx: Path, tmp_path: Path, pair: list[Node]) -> None:
    certificate, key = self_signed([], tmp_path, SystemClock())
    settings = {"certificate": str(certificate), "key": str(key), "redirect": True}
    async with entrance(nginx, tmp_path / "run", pair, **settings) as front, aiohttp.ClientSession() as client:
        url = URL(f"http://localhost:{front.port}/v2/a%2Fb/?x=%252F", encoded=True)
        async with client.put(url, data=b"x", allow_redirects=False) as answer:
            assert answer.status == 308
            assert answer.headers["Location"] == f"https://localhost:{front.tls_port}/v2/a%2Fb/?x=%252F"
        async with client.put(url, data=b"x", ssl=trusting(certificate)) as answer:
            assert (await answer.json())["path"] == "/v2/a%2Fb/?x=%252F"


@pytest.mark.parametrize(
    "extra",
    [
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: -1\r\n",
        "Host: other\r\n",
        "Content-Length: 3, 3\r\n",
    ],
)
async def test_request_with_two_lengths_reaches_no_node(front: Entrance, pair: list[Node], extra: str) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await raw_exchange(front.port, f"POST /v2/ HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode() + b"abc" + smuggled)
    assert answer.split(b" ", 2)[1] in {b"400", b"501"}
    assert answer.count(b"HTTP/1.1 ") == 1
    assert [node.seen for node in pair] == [[], []]


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/v2/../..", "/%zz", "/a%00b", "/a b"])
async def test_path_that_means_nothing_reaches_no_node(front: Entrance, pair: list[Node], path: str) -> None:
    answer = await raw_exchange(front.port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert [node.seen for node in pair] == [[], []]


async def test_access_log_is_one_json_object_a_line(nginx: Path, tmp_path: Path, pair: list[Node]) -> None:
    written = tmp_path / "access log.json"
    sent = {"User-Agent": 'quo"te\\', "Authorization": "Basic c2VjcmV0"}
    async with (
        entrance(nginx, tmp_path / "run", pair, access_log=str(written)) as front,
        aiohttp.ClientSession() as client,
        client.get(front.url + "/v2/a%2Fb?token=c2VjcmV0", headers=sent),
    ):
        pass
    line = json.loads(written.read_text())
    assert (line["method"], line["path"], line["status"], line["request_id"]) == ("GET", "/v2/a%2Fb", 200, "r1")
    assert line["user_agent"] == 'quo"te\\'
    assert line["node"] in {node.url.removeprefix("http://") for node in pair}
    assert "c2VjcmV0" not in written.read_text()


async def test_access_log_on_stderr_is_handed_over(nginx: Path, tmp_path: Path, pair: list[Node]) -> None:
    async with (
        entrance(nginx, tmp_path, pair, access_log="stderr", access_log_format="text") as front,
        aiohttp.ClientSession() as client,
        client.get(front.url + "/v2/"),
    ):
        pass
    assert b'"GET /v2/ HTTP/1.1" 200' in front.printed
