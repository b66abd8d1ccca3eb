"""A member that misbehaves, over the real peer port: the node says what is wrong, to it and to its operator, and goes on."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from tests.support.real_node import eventually
from tests.support.single import ADMIN_PASSWORD, SingleNode, free_address, running_node
from twinhull.cli.agent_client import AgentClient
from twinhull.kit.clock import SystemClock
from twinhull.kit.hlc import Stamp
from twinhull.records.change import Change
from twinhull.records.kinds import PROJECT
from twinhull.records.merge import created, encode
from twinhull.replication.certificates import server_name
from twinhull.replication.joining import join
from twinhull.replication.protocol import CLOSED_FOR_CAUSE, FRAME_BYTES_MAX, Changes, Hello, Ping, Pong, Welcome
from twinhull.replication.protocol import encode as packed
from twinhull.replication.trust import Trust, decode_invite

LIMIT_S = 20.0
Script = Callable[[web.WebSocketResponse], Awaitable[None]]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SingleNode]:
    """A node that lets anybody in who has a token."""
    with running_node(tmp_path_factory.mktemp("node")) as node:
        yield node


class EvilPeer:
    """A member by all its papers, which says what the test wants it to."""

    def __init__(self, folder: Path, node: SingleNode) -> None:
        self.agent = AgentClient(node.data_dir)
        self.address = free_address()
        self.trust = Trust(folder)
        self.invite = decode_invite(self.agent.post("/invite")["token"])
        self.name = "evil-" + secrets.token_hex(3)
        self.identity = join(self.invite, self.trust, name=self.name, address=self.address, url="")
        self.script: Script = self.keep_silent
        self.closed: list[tuple[int | None, str]] = []
        self.pings: list[Ping] = []

    async def keep_silent(self, stream: web.WebSocketResponse) -> None:
        """Say nothing more."""
        await self.listen(stream)

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        """Greet as a member does, and then do what the test says."""
        stream = web.WebSocketResponse(compress=False)
        await stream.prepare(request)
        hello = msgspec.msgpack.decode(await stream.receive_bytes(), type=Hello)
        vector = {origin: seq for origin, seq in hello.vector.items() if origin != hello.node}
        welcome = Welcome(protocol=1, cluster=self.identity.cluster, node=self.identity.node, vector=vector)
        await stream.send_bytes(packed(welcome))
        await self.script(stream)
        return stream

    async def listen(self, stream: web.WebSocketResponse) -> None:
        """Answer pings until the node leaves, and note why it did."""
        async for message in stream:
            frame = msgspec.msgpack.decode(message.data)
            if frame["t"] == "ping":
                self.pings.append(msgspec.convert({key: frame[key] for key in frame if key != "t"}, Ping))
                await stream.send_bytes(packed(Pong(number=frame["number"], vector={})))
        reason = getattr(stream, "close_message", None)
        self.closed.append((stream.close_code, str(reason or "")))

    def seen(self) -> dict[str, Any]:
        """Return how the node sees this one."""
        members = self.agent.get("/status")["members"]
        found: dict[str, Any] = next(member for member in members if member["name"] == self.name)
        return found


@pytest.fixture
async def evil(node: SingleNode, tmp_path: Path) -> AsyncIterator[EvilPeer]:
    """A member that misbehaves; removed after the test."""
    peer = await asyncio.to_thread(EvilPeer, tmp_path / "evil", node)
    application = web.Application()
    application.router.add_get("/peer/v1/stream", peer.stream)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    host, _, port = peer.address.rpartition(":")
    await web.TCPSite(runner, host, int(port), ssl_context=peer.trust.server_context()).start()
    yield peer
    await asyncio.to_thread(peer.agent.post, "/remove", {"node": peer.name})
    await runner.cleanup()


def management(node: SingleNode, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Return what the management API answers."""
    connection = http.client.HTTPConnection(node.address, timeout=LIMIT_S)
    login = base64.b64encode(f"admin:{ADMIN_PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    try:
        connection.request(method, f"/api/v2.0/{path}", body=json.dumps(body) if body else None, headers=headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    return response.status, json.loads(content) if content else None


def change_of(origin: str, seq: int, key: str, *, kind: str = PROJECT.name) -> Change:
    """Return a change that makes something."""
    now_ms = SystemClock().unix_ms()
    fields = {"owner": "admin", "created_ms": now_ms, "updated_ms": now_ms, "ids": [[now_ms, 0, origin, secrets.randbits(40)]]}
    return Change(
        origin=origin, seq=seq, kind=kind, key=key, record=encode(created(None, Stamp(now_ms, 0, origin), seq, fields))
    )


def takes_writes(node: SingleNode) -> bool:
    """Tell whether the node does its work."""
    return management(node, "POST", "projects", {"project_name": "p" + secrets.token_hex(4)})[0] == 201


async def test_change_that_cannot_be_taken_holds_up_its_origin_alone(node: SingleNode, evil: EvilPeer) -> None:
    good, bad = secrets.token_hex(4), secrets.token_hex(4)
    name = f"from-{good}"

    async def script(stream: web.WebSocketResponse) -> None:
        changes = [change_of(bad, 1, "x", kind="nonsense"), change_of(bad, 2, "y"), change_of(good, 1, name)]
        await stream.send_bytes(packed(Changes(changes=changes)))
        await stream.send_bytes(packed(Changes(changes=[change_of(bad, 3, "z"), change_of(good, 2, f"{name}-too")])))
        await evil.listen(stream)

    evil.script = script
    await asyncio.to_thread(eventually, lambda: management(node, "GET", f"projects/{name}-too")[0] == 200)
    assert management(node, "GET", f"projects/{name}")[0] == 200
    for key in ("y", "z"):
        assert management(node, "GET", f"projects/{key}")[0] in (403, 404)
    seen = await asyncio.to_thread(evil.seen)
    assert "unknown to this release" in seen["held"][bad]
    assert good not in seen["held"]
    await asyncio.to_thread(eventually, lambda: any("unknown to this release" in ping.held.get(bad, "") for ping in evil.pings))
    assert await asyncio.to_thread(takes_writes, node)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"\xc1 nonsense", "cannot be read"),
        (msgspec.msgpack.encode({"t": "blob", "digest": "../../../node/ca.key", "content": b"x"}), "cannot be read"),
        (msgspec.msgpack.encode({"t": "upload-grew", "upload_id": "../x"}), "cannot be read"),
        (msgspec.msgpack.encode({"t": "welcome", "protocol": 1, "cluster": "", "node": "", "vector": {}}), "no place here"),
    ],
)
async def test_frame_that_is_none_ends_the_stream_with_a_reason_on_both_sides(
    node: SingleNode, evil: EvilPeer, sent: bytes, said: str
) -> None:
    reasons: list[str] = []

    async def script(stream: web.WebSocketResponse) -> None:
        await stream.send_bytes(sent)
        while (message := await stream.receive()).type is aiohttp.WSMsgType.BINARY:
            continue
        if message.data == CLOSED_FOR_CAUSE:
            reasons.append(str(message.extra))

    evil.script = script
    await asyncio.to_thread(eventually, lambda: said in evil.seen()["last_error"])
    await asyncio.to_thread(eventually, lambda: any(said in reason for reason in reasons))
    assert await asyncio.to_thread(takes_writes, node)
    assert not (node.data_dir / "x").exists()


async def test_frame_that_is_too_large_is_not_taken(node: SingleNode, evil: EvilPeer) -> None:
    async def script(stream: web.WebSocketResponse) -> None:
        await stream.send_bytes(bytes(FRAME_BYTES_MAX + 1))
        await evil.listen(stream)

    evil.script = script
    await asyncio.to_thread(eventually, lambda: evil.seen()["last_error"])
    assert await asyncio.to_thread(takes_writes, node)


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (b"\xc1", "cannot be read"),
        ({"t": "ping", "number": 1, "vector": {}, "linked": []}, "without a greeting"),
        ({"t": "hello", "protocol": 98, "newest": 99, "linked": []}, "upgrade the older node"),
        ({"t": "hello", "protocol": 1, "linked": [], "node": "00000000"}, "calls itself"),
        ({"t": "hello", "protocol": 1, "linked": [], "cluster": "another"}, "another cluster"),
    ],
)
async def test_subscriber_that_does_not_greet_as_it_should_is_told_why(
    evil: EvilPeer, greeting: bytes | dict[str, Any], said: str
) -> None:
    if isinstance(greeting, dict):
        complete = {"cluster": evil.identity.cluster, "node": evil.identity.node, "vector": {}, **greeting}
        greeting = msgspec.msgpack.encode(complete)
    founder = next(change.key for change in evil.trust.first_members() if change.key != evil.identity.node)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"https://{evil.invite.address}/peer/v1/stream",
            ssl=evil.trust.client_context(),
            server_hostname=server_name(founder),
        ) as stream,
    ):
        await stream.send_bytes(greeting)
        message = await stream.receive(timeout=LIMIT_S)
        assert message.data == CLOSED_FOR_CAUSE
        assert said in str(message.extra)
