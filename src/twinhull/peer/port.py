"""The one port for peers: two protocols behind it, told apart by what a client's TLS greeting asks for (ALPN, RFC 7301)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Coroutine
from typing import Final

import structlog
from aiohttp import web

from twinhull.peer.bulk import BulkServer
from twinhull.replication.protocol import BULK_PROTOCOL

log = structlog.get_logger(__name__)

_BACKLOG: Final = 256
_GREETING_TIMEOUT_S: Final = 10.0
_GREETING_BYTES_MAX: Final = 16 * 1024 + 5
_BETWEEN_LOOKS_S: Final = 0.005
# After the system refused a connection, most likely for want of descriptors.
_AFTER_FAILURE_S: Final = 0.2
# As it stands among a greeting's extensions: its length, and the name.
_WANTS_BULK: Final = bytes([len(BULK_PROTOCOL)]) + BULK_PROTOCOL.encode("ascii")


class PeerPort:
    """Listens, and hands each connection to whoever speaks its protocol."""

    def __init__(self, http: web.Server, bulk: BulkServer, tls: ssl.SSLContext) -> None:
        """Take who answers requests on the event loop, with its certificate, and who sends bytes in threads."""
        self._http = http
        self._bulk = bulk
        self._tls = tls
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> None:
        """Take connections from now on; raises OSError when the address can't be had."""
        loop = asyncio.get_running_loop()
        for family, kind, protocol, _, address in await loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            listener = socket.socket(family, kind, protocol)
            self._listeners.append(listener)
            listener.settimeout(0)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # The supervisor holds the port, so that nobody else gets it between two lives of this process.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
            self._spawn(self._accept(listener))

    async def close(self) -> None:
        """Take no more connections; those that were taken are closed by those who have them."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("peer connection not accepted", error=str(error))
                await asyncio.sleep(_AFTER_FAILURE_S)
                continue
            self._spawn(self._take(connection))

    async def _take(self, connection: socket.socket) -> None:
        with contextlib.ExitStack() as ours:
            ours.enter_context(connection)
            try:
                async with asyncio.timeout(_GREETING_TIMEOUT_S):
                    greeting = await _greeting(connection)
                if _WANTS_BULK in greeting:
                    ours.pop_all()
                    self._bulk.serve(connection)
                    return
                await asyncio.get_running_loop().connect_accepted_socket(
                    self._http, connection, ssl=self._tls, ssl_handshake_timeout=_GREETING_TIMEOUT_S
                )
                ours.pop_all()
            except (OSError, TimeoutError) as error:
                log.debug("peer connection came to nothing", error=str(error))


async def _greeting(connection: socket.socket) -> bytes:
    """Return the client's first TLS record, which stays to be read; what is no TLS comes back as it is."""
    connection.settimeout(0)
    await _readable(connection)
    while True:
        greeting = connection.recv(_GREETING_BYTES_MAX, socket.MSG_PEEK)
        # RFC 8446, "Record Layer": type, version, length; 22 is a handshake.
        if greeting[:1] != b"\x16" or len(greeting) >= 5 + int.from_bytes(greeting[3:5]):
            return greeting
        await asyncio.sleep(_BETWEEN_LOOKS_S)


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    descriptor = connection.fileno()
    loop.add_reader(descriptor, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(descriptor)
