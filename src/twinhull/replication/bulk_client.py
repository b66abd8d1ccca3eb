"""Bytes of blobs and of growing uploads from one other master, over mutual TLS. All of it blocks, and belongs in threads."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final

from twinhull.kit.clock import Clock
from twinhull.kit.digest import Digest
from twinhull.kit.errors import BlobUnknown, PeerUnavailable
from twinhull.replication.certificates import server_name
from twinhull.replication.long_line import DEFAULT_LINE, LongLine, fetch_in_order, round_trip_s

# A connection that has read a blob is kept so long for the next one: small blobs take less time than a greeting by TLS.
IDLE_S: Final = 3.0
_IDLE_MAX: Final = 8
# Read into a buffer of this size, and hashed while it is still in the processor's cache; TLS hands over less at a time.
_READ_BYTES: Final = 256 * 1024
_CONNECT_TIMEOUT_S: Final = 2.0
# A transfer that brings no byte for this long is broken off and tried again, elsewhere if need be.
_STALL_TIMEOUT_S: Final = 20.0


class BulkClient:
    """What one other master is asked for bytes with. Threads share it."""

    def __init__(
        self, node: str, address: str, *, tls: ssl.SSLContext, clock: Clock, long_line: LongLine = DEFAULT_LINE
    ) -> None:
        """Take the peer's id, its HOST:PORT, what to call it with, and what a long line is."""
        self._node = node
        self._address = address
        self._tls = tls
        self._clock = clock
        self._long_line = long_line
        # A peer of an older release sends all of a blob, or its end.
        self._takes_ranges = True
        # Connections over which threads read just now, and those that wait for the next blob, each since when.
        self._reading: set[_NamedConnection] = set()
        self._idle: deque[tuple[_NamedConnection, float]] = deque()

    def download(self, digest: Digest, start: int, sink: Callable[[memoryview], None]) -> None:
        """Hand the blob's bytes from `start` on to the sink, piece by piece; much of it over a long line comes in ranges.

        Raises BlobUnknown when the peer does not have it, PeerUnavailable when the connection breaks; whatever the sink
        raises passes through.
        """
        path, missing = f"/blobs/{digest}", BlobUnknown(f"peer {self._node} has no blob {digest}")
        end = self._read(path, start, sink, missing=missing, may_split=self._takes_ranges)
        if end is not None:

            def read(first: int, last: int) -> bytearray:
                content = bytearray()
                self._read(path, first, content.extend, missing=missing, end=last)
                return content

            fetch_in_order(read, start, end, sink, self._long_line)

    def follow(self, upload_id: str, start: int, sink: Callable[[memoryview], None]) -> None:
        """Hand the bytes of a growing upload from `start` on to the sink until it ends; fails like `download`."""
        self._read(f"/uploads/{upload_id}", start, sink, missing=BlobUnknown(f"peer {self._node} has no upload {upload_id}"))

    def cut(self) -> None:
        """Break off what threads are reading: each of them fails at once with PeerUnavailable."""
        for connection in list(self._reading):
            connection.cut()
        while self._idle:
            self._idle.pop()[0].close()

    def _read(
        self,
        path: str,
        start: int,
        sink: Callable[[memoryview], None],
        *,
        missing: BlobUnknown,
        end: int | None = None,
        may_split: bool = False,
    ) -> int | None:
        """Read; or return where it ends, and have read nothing, when it is better fetched in ranges."""
        is_part = start > 0 or end is not None
        headers = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if is_part else {}
        connection = self._connection()
        self._reading.add(connection)
        is_whole = False
        try:
            with connection.ask(f"/peer/v1{path}", headers) as response:
                if response.status == http.client.NOT_FOUND:
                    response.read()
                    is_whole = True
                    raise missing
                if response.status != (http.client.PARTIAL_CONTENT if is_part else http.client.OK):
                    self._takes_ranges = self._takes_ranges and response.status != http.client.OK
                    message = f"peer {self._node} answered {response.status} to GET {path}"
                    raise PeerUnavailable(message)
                left = response.length or 0
                if may_split and self._long_line.is_worth_it(connection.away_s, left):
                    return start + left
                if end is not None and left != end - start:
                    raise PeerUnavailable(f"peer {self._node} has less of {path} than it said")
                _pour(response, sink)
                is_whole = True
        except (OSError, http.client.HTTPException) as error:
            raise unavailable(self._node, self._address, error) from error
        finally:
            self._reading.discard(connection)
            self._keep(connection, is_whole=is_whole)
        return None

    def _connection(self) -> _NamedConnection:
        """Return a connection that has read before and is still good, or a new one that is not yet open."""
        while True:
            try:
                connection, since_s = self._idle.pop()
            except IndexError:
                break
            if self._clock.monotonic_s() - since_s < IDLE_S:
                return connection
            connection.close()
        host, _, port = self._address.rpartition(":")
        if not port.isdecimal():
            raise PeerUnavailable(f"peer {self._node} has an address that cannot be: {self._address[:100]!r}")
        return _NamedConnection(host, int(port), tls=self._tls, name=server_name(self._node))

    def _keep(self, connection: _NamedConnection, *, is_whole: bool) -> None:
        """Keep the connection for the next blob if its last answer was read to the end; else close it."""
        if is_whole and connection.is_open and len(self._idle) < _IDLE_MAX:
            self._idle.append((connection, self._clock.monotonic_s()))
        else:
            connection.close()


def _pour(response: http.client.HTTPResponse, sink: Callable[[memoryview], None]) -> None:
    """Read in full buffers, and check that the body was not cut short."""
    expected = response.length
    received = 0
    buffer = memoryview(bytearray(_READ_BYTES))
    while count := response.readinto(buffer):
        received += count
        sink(buffer[:count])
    if expected is not None and received != expected:
        raise http.client.IncompleteRead(b"", expected - received)


class _NamedConnection(http.client.HTTPSConnection):
    """A connection to an address whose certificate must bear another name: a node's, wherever it runs."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext, name: str) -> None:
        super().__init__(host.strip("[]"), port, timeout=_CONNECT_TIMEOUT_S, context=tls)
        self._tls = tls
        self._name = name
        self._is_cut = False
        # What reads: once an answer has begun that ends the connection, its own socket is the answer's.
        self._secured: ssl.SSLSocket | None = None
        # How long the line was found to be before the last answer.
        self.away_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the peer takes another request over it, as far as is known."""
        return self.sock is not None and not self._is_cut

    def ask(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Return the answer to a GET; a kept connection that the peer has closed meanwhile is opened anew."""
        was_kept = self.is_open
        try:
            return self._ask(path, headers)
        except (ConnectionError, ssl.SSLError):
            if not was_kept or self._is_cut:
                raise
            self.close()
            return self._ask(path, headers)

    def _ask(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        self.request("GET", path, headers=headers)
        self.away_s = round_trip_s(self.sock)
        return self.getresponse()

    def connect(self) -> None:
        """Connect, and check the peer's certificate against its node name."""
        http.client.HTTPConnection.connect(self)
        self.sock.settimeout(_STALL_TIMEOUT_S)
        self.sock = self._secured = self._tls.wrap_socket(self.sock, server_hostname=self._name)
        if self._is_cut:
            raise ConnectionAbortedError("cut off")

    def cut(self) -> None:
        """Let whoever reads or writes in another thread fail at once."""
        self._is_cut = True
        if self._secured is not None:
            # Not SSLSocket's own: that one would hand out what lies in the socket undeciphered.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._secured, socket.SHUT_RDWR)


def unavailable(node: str, address: str, error: BaseException) -> PeerUnavailable:
    """Return the failure to raise when the peer could not be talked to."""
    reason = str(error) or type(error).__name__
    return PeerUnavailable(f"peer {node} at {address} does not answer: {reason}")
