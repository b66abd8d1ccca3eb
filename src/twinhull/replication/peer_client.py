"""Calls to one other master over mutual TLS: the stream, questions, and blobs as they are on its disk."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import Callable
from typing import Final, TypeVar

import aiohttp
import msgspec

from twinhull.kit.clock import Clock
from twinhull.kit.digest import Digest
from twinhull.kit.errors import NotAMember, PeerUnavailable, ProtocolError
from twinhull.metadata.members import Node
from twinhull.records.change import Change, VersionVector
from twinhull.replication.bulk_client import BulkClient, unavailable
from twinhull.replication.certificates import server_name
from twinhull.replication.protocol import (
    BULK_PROTOCOL,
    CLOSED_FOR_CAUSE,
    FRAME_BYTES_MAX,
    BucketAnswer,
    BucketQuery,
    CheckAnswer,
    CheckQuery,
    FromSource,
    FromSubscriber,
    HoldRequest,
    KeptAnswer,
    KeptQuery,
    KeysAnswer,
    OfferAnswer,
    PresenceAnswer,
    PresenceQuery,
    RecordAnswer,
    RecordQuery,
    RecordsAnswer,
    RecordsOffer,
    RecordsQuery,
    SummaryAnswer,
    SummaryQuery,
    VectorAnswer,
    closing_reason,
    decode_from_source,
    encode,
)
from twinhull.replication.trust import Trust

_CONNECT_TIMEOUT_S: Final = 2.0
# Name, connection, TLS and the change to a stream, over a line of any length.
_DIAL_TIMEOUT_S: Final = 4.0

Answer = TypeVar("Answer", bound=msgspec.Struct)


class WebSocketSource:
    """The stream to a source as frames."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Take an open WebSocket."""
        self._socket = socket

    async def send(self, frame: FromSubscriber) -> None:
        """Send a frame."""
        await self._socket.send_bytes(encode(frame))

    async def receive(self) -> FromSource | None:
        """Return the next frame, or None when the other side has closed."""
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            return decode_from_source(message.data)
        if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED):
            if self._socket.close_code not in (None, 1000, 1001, 1006):
                text = f"the peer refused: {message.extra or self._socket.close_code}"
                raise ProtocolError(text)
            return None
        if message.type is aiohttp.WSMsgType.ERROR:
            text = f"stream failed: {message.data}"
            raise PeerUnavailable(text)
        text = "the peer sent text where frames were expected"
        raise ProtocolError(text)

    async def close(self, reason: str = "") -> None:
        """Close the stream; a reason tells the source what it did wrong."""
        await self._socket.close(code=CLOSED_FOR_CAUSE if reason else 1000, message=closing_reason(reason))


class PeerClient:
    """One other master. Async calls share a connection pool; `download` and `follow` block and belong in a thread."""

    def __init__(
        self,
        node: str,
        address: str,
        *,
        session: aiohttp.ClientSession,
        tls: ssl.SSLContext,
        bulk: BulkClient,
    ) -> None:
        """Take the peer's id, its HOST:PORT, and what to call it with: for questions, and for bytes."""
        self.node = node
        self.address = address
        self._session = session
        self._tls = tls
        self._bulk = bulk

    def _url(self, path: str) -> str:
        return f"https://{self.address}/peer/v1{path}"

    async def dial(self) -> WebSocketSource:
        """Open the stream of the peer's changes."""
        try:
            async with asyncio.timeout(_DIAL_TIMEOUT_S):
                stream = await self._session.ws_connect(
                    self._url("/stream"),
                    ssl=self._tls,
                    server_hostname=server_name(self.node),
                    max_msg_size=FRAME_BYTES_MAX,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CONNECT_TIMEOUT_S),
                    compress=0,
                )
        except aiohttp.WSServerHandshakeError as error:
            if error.status == http.client.FORBIDDEN:
                raise NotAMember(f"peer {self.node} says that this node is not a member of its cluster") from error
            raise unavailable(self.node, self.address, error) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise unavailable(self.node, self.address, error) from error
        return WebSocketSource(stream)

    async def _post(self, path: str, body: msgspec.Struct, *, timeout_s: float) -> bytes:
        try:
            async with self._session.post(
                self._url(path),
                data=msgspec.msgpack.encode(body),
                ssl=self._tls,
                server_hostname=server_name(self.node),
                timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_TIMEOUT_S),
            ) as response:
                content = await response.read()
                if response.status != http.client.OK:
                    message = f"peer {self.node} answered {response.status}: {content[:200].decode(errors='replace')}"
                    raise ProtocolError(message)
                return content
        except (aiohttp.ClientError, TimeoutError) as error:
            raise unavailable(self.node, self.address, error) from error

    async def find(self, kind: str, key: str, *, timeout_s: float) -> list[Change]:
        """Return the peer's record of that key and those it needs; nothing if it has none."""
        answer = await self._post("/records/find", RecordQuery(kind=kind, key=key), timeout_s=timeout_s)
        return _read(answer, RecordAnswer).records

    async def hold(self, blobs: list[tuple[str, int]], *, timeout_s: float) -> None:
        """Return when the peer has all these blobs on its disk; PeerUnavailable when that takes longer than the limit."""
        await self._post("/blobs/hold", HoldRequest(blobs=blobs), timeout_s=timeout_s)

    async def summary(self, *, is_brief: bool = False, timeout_s: float) -> SummaryAnswer:
        """Return the peer's state in short; if brief, perhaps without its buckets."""
        answer = await self._post("/summary", SummaryQuery(is_brief=is_brief), timeout_s=timeout_s)
        return _read(answer, SummaryAnswer)

    async def records(self, names: list[tuple[str, str]], *, timeout_s: float) -> RecordsAnswer:
        """Return the peer's records of these kinds and keys, as many as one answer holds."""
        answer = await self._post("/records", RecordsQuery(names=names), timeout_s=timeout_s)
        return _read(answer, RecordsAnswer)

    async def offer(self, records: list[Change], *, timeout_s: float) -> int:
        """Let the peer merge these records; return how many of them changed anything there."""
        answer = await self._post("/records/offer", RecordsOffer(records=records), timeout_s=timeout_s)
        return _read(answer, OfferAnswer).changed

    async def check(self, query: CheckQuery, *, timeout_s: float) -> CheckAnswer:
        """Let the peer look through a part of its own data."""
        return _read(await self._post("/check", query, timeout_s=timeout_s), CheckAnswer)

    async def vector(self, *, timeout_s: float) -> VersionVector:
        """Return what the peer has applied."""
        answer = await self._post("/vector", RecordQuery(kind="", key=""), timeout_s=timeout_s)
        return _read(answer, VectorAnswer).vector

    async def presence(self, query: PresenceQuery, *, timeout_s: float) -> PresenceAnswer:
        """Return what the peer lacks of these records and blobs."""
        return _read(await self._post("/presence", query, timeout_s=timeout_s), PresenceAnswer)

    async def removal(self, *, timeout_s: float) -> list[Change]:
        """Return the record of this node's removal if the peer, which turns it away, knows of one."""
        answer = await self._post("/removal", RecordQuery(kind="", key=""), timeout_s=timeout_s)
        return _read(answer, RecordAnswer).records

    async def kept(self, query: KeptQuery, *, timeout_s: float) -> KeptAnswer:
        """Return which of the blobs the peer needs, or the node that it is to ask for us."""
        return _read(await self._post("/blobs/kept", query, timeout_s=timeout_s), KeptAnswer)

    async def cluster_keys(self, *, timeout_s: float) -> list[bytes]:
        """Return the keys that the peer seals and unseals secrets with."""
        answer = await self._post("/keys", RecordQuery(kind="", key=""), timeout_s=timeout_s)
        return _read(answer, KeysAnswer).keys

    async def bucket(self, kind: str, bucket: int, *, timeout_s: float) -> dict[str, int]:
        """Return the keys of one bucket of the peer's state, each with the hash of its record."""
        answer = await self._post("/bucket", BucketQuery(kind=kind, bucket=bucket), timeout_s=timeout_s)
        return _read(answer, BucketAnswer).records

    # -- blocking: whole blobs and growing uploads -------------------------------------------------------------------

    def download(self, digest: Digest, start: int, sink: Callable[[memoryview], None]) -> None:
        """Hand the blob's bytes from `start` on to the sink, as BulkClient does."""
        self._bulk.download(digest, start, sink)

    def follow(self, upload_id: str, start: int, sink: Callable[[memoryview], None]) -> None:
        """Hand the bytes of a growing upload from `start` on to the sink, as BulkClient does."""
        self._bulk.follow(upload_id, start, sink)

    def cut(self) -> None:
        """Break off what threads are reading: each of them fails at once with PeerUnavailable."""
        self._bulk.cut()


def peer_clients(session: aiohttp.ClientSession, trust: Trust, clock: Clock) -> Callable[[Node], PeerClient]:
    """Return what makes a client for a member, with this node's certificate."""
    tls, bulk_tls = trust.client_context(), trust.client_context()
    bulk_tls.set_alpn_protocols([BULK_PROTOCOL])

    def client(node: Node) -> PeerClient:
        bulk = BulkClient(node.id, node.address, tls=bulk_tls, clock=clock)
        return PeerClient(node.id, node.address, session=session, tls=tls, bulk=bulk)

    return client


def _read(answer: bytes, form: type[Answer]) -> Answer:
    try:
        return msgspec.msgpack.decode(answer, type=form)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"a peer's answer cannot be read: {error}") from error
