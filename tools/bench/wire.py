"""An HTTP client that costs next to nothing, so that what is measured is the server: files by sendfile, answers cut off short.

Understands what registries answer to well-formed requests: HTTP/1.1 with a Content-Length. Nothing else.
"""

from __future__ import annotations

import os
import select
import socket
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from tools.bench.failures import BenchFailed

TIMEOUT_S: Final = 120
_HEAD_BYTES_MAX: Final = 64 * 1024
# Fits into the second level cache of any processor of the last ten years.
_SINK_BYTES: Final = 256 * 1024
_END: Final = b"\r\n\r\n"
_BODILESS: Final = frozenset({204, 304})


def header(name: str, value: str) -> bytes:
    """Return one line of a request's head."""
    return f"{name}: {value}\r\n".encode("latin-1")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes = b""

    def expect(self, status: int) -> Self:
        """Return this answer if it has that status, or raise BenchFailed."""
        if self.status != status:
            raise BenchFailed(f"answered {self.status}, not {status}: {self.body[:300].decode(errors='replace')}")
        return self

    def header(self, name: bytes) -> str:
        """Return a header by its lower-case name, or ""."""
        return self.headers.get(name, b"").decode("latin-1")


@dataclass(frozen=True, slots=True)
class Drained:
    """A body that was read to its end and thrown away."""

    status: int
    size_bytes: int
    first_byte_s: float
    digest: str


class Connection:
    """One connection, kept alive; one request at a time."""

    def __init__(self, address: str) -> None:
        """Connect to HOST:PORT, or raise OSError."""
        host, _, port = address.rpartition(":")
        self._host = header("Host", address)
        self._socket = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def __enter__(self) -> Self:
        """Return the connection."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._socket.close()

    def ask(self, method: str, target: str, headers: bytes = b"", body: bytes = b"") -> Answer:
        """Send a request and return its answer."""
        self._socket.sendall(self._head(method, target, headers, len(body)) + body)
        return self._answer(method)

    def send_file(self, method: str, target: str, headers: bytes, descriptor: int, span: tuple[int, int]) -> Answer:
        """Send a request with part of a file, from a position and so many bytes, and return its answer."""
        position, length = span
        self._socket.sendall(self._head(method, target, headers, length), socket.MSG_MORE)
        end = position + length
        while position < end:
            # The socket has a timeout, so it is one that does not block for the kernel.
            select.select([], [self._socket], [], TIMEOUT_S)
            position += os.sendfile(self._socket.fileno(), descriptor, position, end - position)
        return self._answer(method)

    def drain(self, target: str, headers: bytes = b"", *, hashed: bool = False) -> Drained:
        """GET and throw away what comes; with its digest if that is asked for."""
        began_s = time.monotonic()
        self._socket.sendall(self._head("GET", target, headers, 0))
        status, fields = self._read_head()
        left = length = int(fields[b"content-length"])
        digest = sha256()
        sink = memoryview(bytearray(_SINK_BYTES))
        # Part of the body has often come with the head; else the first byte is still to come.
        count = len(self._rest)
        sink[:count], self._rest = self._rest, b""
        first_byte_s = 0.0
        while left:
            count = count or self._socket.recv_into(sink, min(left, _SINK_BYTES))
            if not count:
                raise BenchFailed(f"the answer to {target} ended {left} bytes early")
            first_byte_s = first_byte_s or time.monotonic() - began_s
            if hashed:
                digest.update(sink[:count])
            left -= count
            count = 0
        return Drained(status, length, first_byte_s, f"sha256:{digest.hexdigest()}" if hashed else "")

    def _head(self, method: str, target: str, headers: bytes, length: int) -> bytes:
        size = b"" if method in ("GET", "HEAD") else b"Content-Length: %d\r\n" % length
        return f"{method} {target} HTTP/1.1\r\n".encode("latin-1") + self._host + headers + size + b"\r\n"

    def _answer(self, method: str) -> Answer:
        status, headers = self._read_head()
        if method == "HEAD" or status in _BODILESS:
            return Answer(status, headers)
        length = int(headers[b"content-length"])
        while len(self._rest) < length:
            self._receive()
        body, self._rest = self._rest[:length], self._rest[length:]
        return Answer(status, headers, body)

    def _read_head(self) -> tuple[int, dict[bytes, bytes]]:
        while True:
            while _END not in self._rest:
                if len(self._rest) > _HEAD_BYTES_MAX:
                    raise BenchFailed("the head of an answer does not end")
                self._receive()
            head, _, self._rest = self._rest.partition(_END)
            status = int(head[9:12])
            # 1xx: the answer proper follows.
            if status >= 200:
                break
        lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
        headers = {name.lower(): value.strip() for name, _, value in lines}
        if b"chunked" in headers.get(b"transfer-encoding", b""):
            raise BenchFailed("answers in chunks are not understood")
        return status, headers

    def _receive(self) -> None:
        piece = self._socket.recv(_HEAD_BYTES_MAX)
        if not piece:
            raise BenchFailed("the server closed the connection")
        self._rest += piece


@dataclass(frozen=True, slots=True)
class Hammered:
    """How many requests were answered in how long."""

    count: int
    seconds: float


class _Slot:
    """One connection of `hammer`: what is still to come of the answer under way."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""

    def whole(self, body_bytes: int) -> bool:
        """Take what has come, and tell whether the answer is whole now; raise BenchFailed if it is not a 200."""
        self.received += self.socket.recv(_HEAD_BYTES_MAX)
        head_bytes = self.received.find(_END)
        if head_bytes < 0 or len(self.received) < head_bytes + len(_END) + body_bytes:
            if not self.received:
                raise BenchFailed("the server closed the connection")
            return False
        if self.received[9:12] != b"200":
            raise BenchFailed(f"answered {self.received[9:12].decode(errors='replace')}, not 200")
        self.received = b""
        return True


def hammer(
    address: str, method: str, target: str, headers: bytes, *, body_bytes: int, connections: int, for_s: float
) -> Hammered:
    """Send the same request over and over on so many connections for so long; every answer has a body of that size."""
    request = f"{method} {target} HTTP/1.1\r\n".encode("latin-1") + header("Host", address) + headers + b"\r\n"
    slots = [_Slot(address) for _ in range(connections)]
    by_descriptor = {slot.socket.fileno(): slot for slot in slots}
    count = 0
    with select.epoll() as ready:
        for descriptor in by_descriptor:
            ready.register(descriptor, select.EPOLLIN)
        began_s = time.monotonic()
        for slot in slots:
            slot.socket.send(request)
        while (now_s := time.monotonic()) - began_s < for_s:
            for descriptor, _ in ready.poll(TIMEOUT_S):
                slot = by_descriptor[descriptor]
                if slot.whole(body_bytes):
                    slot.socket.send(request)
                    count += 1
    for slot in slots:
        slot.socket.close()
    return Hammered(count, now_s - began_s)
