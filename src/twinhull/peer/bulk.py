"""Bytes of blobs and of growing uploads for peers: a thread for each request, none of them through the event loop.

A thread that reads a file into one buffer and writes that to a blocking TLS socket takes 0.8 CPU-s per GB; the event loop,
which must make new buffers for each piece and copies them some more, took 1.5 to 2.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from typing import Final

import msgspec
import structlog

from twinhull.blobs.store import BlobStore
from twinhull.kit.digest import parse_digest
from twinhull.kit.errors import BlobUploadUnknown, Invalid, NotFound, ProtocolError, TwinhullError
from twinhull.peer.gate import Gate
from twinhull.replication.bulk_client import IDLE_S
from twinhull.replication.pace import Pace
from twinhull.replication.protocol import BULK_PROTOCOL
from twinhull.replication.tails import Tails
from twinhull.web.errors import status_of

log = structlog.get_logger(__name__)

_PIECE_BYTES: Final = 256 * 1024
# Before each piece of a body of unknown length stands its size, always of as many digits (RFC 9112, "Chunked Transfer
# Coding"), so that head, piece and line end lie in one buffer and go out in one call.
_CHUNK_HEAD: Final = b"%08x\r\n"
_HEAD_BYTES: Final = 10
_LAST_CHUNK: Final = b"0\r\n\r\n"
_THREADS_MAX: Final = 128
# A peer that takes nothing for so long is given up.
_STALL_TIMEOUT_S: Final = 20.0
# A connection without a request keeps its thread for so long: longer than peers keep one that they do not use.
_IDLE_TIMEOUT_S: Final = 2 * IDLE_S
_LINE_BYTES_MAX: Final = 8192
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_REASONS: Final = http.client.responses


class BulkServer:
    """Answers `GET /peer/v1/blobs/DIGEST` and `GET /peer/v1/uploads/ID` on connections that are opened for that."""

    def __init__(
        self,
        gate: Gate,
        blobs: BlobStore,
        tails: Tails,
        *,
        tls: ssl.SSLContext,
        on_sent: Callable[[str, int], None],
        pace: Pace,
    ) -> None:
        """Take who may ask, what there is, the node's certificate, and what is told how many bytes went to which node."""
        self._gate = gate
        self._blobs = blobs
        self._tails = tails
        self._tls = tls
        self._tls.verify_mode = ssl.CERT_REQUIRED
        self._tls.set_alpn_protocols([BULK_PROTOCOL])
        self._on_sent = on_sent
        self._pace = pace
        self._threads = ThreadPoolExecutor(_THREADS_MAX, thread_name_prefix="bulk")
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def serve(self, connection: socket.socket) -> None:
        """Answer what comes on this connection, in a thread of its own; does not wait."""
        self._threads.submit(self._serve, connection)

    def close(self) -> None:
        """Cut all connections, and wait for their threads."""
        with self._lock:
            self._is_closed = True
            connections = list(self._open)
        self._pace.stop()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._threads.shutdown(cancel_futures=True)

    def _serve(self, connection: socket.socket) -> None:
        # Another name for the same connection: shutting that down wakes this thread, whatever TLS is in the middle of.
        with connection, connection.dup() as handle:
            with self._lock:
                if self._is_closed:
                    return
                self._open.add(handle)
            try:
                connection.settimeout(_STALL_TIMEOUT_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._tls.wrap_socket(connection, server_side=True) as secured, secured.makefile("rb") as lines:
                    while words := lines.readline(_LINE_BYTES_MAX).split():
                        secured.settimeout(_STALL_TIMEOUT_S)
                        if not self._answer(secured, words, lines):
                            return
                        secured.settimeout(_IDLE_TIMEOUT_S)
            except OSError as error:
                log.debug("peer left", error=str(error))
            except Exception:  # a fault of ours must be seen, and the thread has others to serve
                log.exception("bytes for a peer broke off for a reason that should not be")
            finally:
                with self._lock:
                    self._open.discard(handle)

    def _answer(self, connection: ssl.SSLSocket, words: list[bytes], lines: BufferedReader) -> bool:
        """Answer one request, and tell whether another one may follow on this connection."""
        path = ""
        try:
            # Each time: a node may have been removed since its last request.
            node = self._gate.admit(connection.getpeercert())
            path, start, end = _read_request(words, lines)
            _, _, name = path.rpartition("/")
            if path == f"/peer/v1/blobs/{name}":
                self._send_blob(connection, node, name, start, end)
            elif path == f"/peer/v1/uploads/{name}":
                self._send_upload(connection, node, name, start)
            else:
                raise NotFound(f"there is no {path[:200]}")
        except TwinhullError as error:
            status = status_of(error)
            # A peer asks for blobs and uploads wherever they might be; that some are not here is no news.
            tell = log.debug if status == http.client.NOT_FOUND else log.info
            tell("peer request refused", path=path[:200], status=status, error=str(error))
            # After a request that was not understood nobody knows where the next one begins.
            goes_on = isinstance(error, NotFound)
            body = msgspec.json.encode({"error": str(error)})
            headers = [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
            connection.sendall(_head(status, *headers, *([] if goes_on else [b"Connection: close"])) + body)
            return goes_on
        return True

    def _send_blob(self, connection: ssl.SSLSocket, node: str, name: str, start: int, end: int | None) -> None:
        digest = parse_digest(name)
        size = self._blobs.stat(digest)
        if size is None:
            raise NotFound(f"blob {digest} is not on this node")
        with self._blobs.open(digest) as source:
            source.seek(start)
            left = max(0, min(size, size if end is None else end) - start)
            status = http.client.PARTIAL_CONTENT if start or end is not None else http.client.OK
            connection.sendall(_head(status, b"Content-Length: %d" % left))
            buffer = memoryview(bytearray(_PIECE_BYTES))
            while left and (count := source.readinto(buffer[:left])):
                self._pace.wait(node, count)
                connection.sendall(buffer[:count])
                self._on_sent(node, count)
                left -= count

    def _send_upload(self, connection: ssl.SSLSocket, node: str, name: str, start: int) -> None:
        buffer = memoryview(bytearray(_HEAD_BYTES + _PIECE_BYTES + 2))
        room = buffer[_HEAD_BYTES : _HEAD_BYTES + _PIECE_BYTES]
        with self._tails.follow(name, start) as follower:
            count = follower.read_into(room)
            status = http.client.PARTIAL_CONTENT if start else http.client.OK
            connection.sendall(_head(status, b"Transfer-Encoding: chunked"))
            try:
                while count:
                    end = _HEAD_BYTES + count
                    buffer[:_HEAD_BYTES] = _CHUNK_HEAD % count
                    buffer[end : end + 2] = b"\r\n"
                    self._pace.wait(node, count)
                    connection.sendall(buffer[: end + 2])
                    self._on_sent(node, count)
                    count = follower.read_into(room)
            except BlobUploadUnknown as error:
                # Given up in the middle: the connection ends without the last chunk, so that what was sent does not look whole.
                raise ConnectionAbortedError(error.message) from error
            connection.sendall(_LAST_CHUNK)


def _read_request(words: list[bytes], lines: BufferedReader) -> tuple[str, int, int | None]:
    """Return the path, and from which offset up to which other one it is wanted; None for up to its end."""
    try:
        headers = http.client.parse_headers(lines)
    except http.client.HTTPException as error:
        raise ProtocolError("a peer's request cannot be read") from error
    if len(words) != 3 or words[0] != b"GET":
        raise Invalid("this connection takes GET only")
    asked = _RANGE.fullmatch(headers.get("Range", ""))
    start, last = (asked[1], asked[2]) if asked else ("0", "")
    return words[1].decode("latin-1"), int(start), int(last) + 1 if last else None


def _head(status: int, *headers: bytes) -> bytes:
    first = f"HTTP/1.1 {status} {_REASONS.get(status, '')}".encode("ascii")
    return b"\r\n".join((first, *headers, b"", b""))
