"""The peer port: every route demands a member's certificate, save the two through which a newcomer comes in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
import structlog
from aiohttp import WSMsgType, web

from twinhull.kit.errors import (
    Invalid,
    ProtocolError,
    TwinhullError,
)
from twinhull.peer.gate import Gate
from twinhull.peer.relay import Relay
from twinhull.replication.answers import Answers
from twinhull.replication.calls import WorkerCalls
from twinhull.replication.engine import Engine
from twinhull.replication.joining import Doorkeeper
from twinhull.replication.mending import Mending
from twinhull.replication.protocol import (
    CLOSED_FOR_CAUSE,
    FRAME_BYTES_MAX,
    BucketAnswer,
    BucketQuery,
    CheckQuery,
    FromSource,
    FromSubscriber,
    HoldRequest,
    KeptQuery,
    KeysAnswer,
    OfferAnswer,
    PresenceQuery,
    RecordAnswer,
    RecordQuery,
    RecordsOffer,
    RecordsQuery,
    SummaryQuery,
    VectorAnswer,
    closing_reason,
    decode_from_subscriber,
    encode,
)
from twinhull.replication.threads import in_thread
from twinhull.replication.trust import JoinRequest
from twinhull.web.errors import status_of

log = structlog.get_logger(__name__)

_OPEN_TO_NEWCOMERS: Final = frozenset({"/peer/v1/ca", "/peer/v1/join"})
# Who was a member may hear that it is none any more.
_OPEN_TO_REMOVED: Final = "/peer/v1/removal"
_PEER: Final = web.RequestKey("twinhull_peer", str)

Question = TypeVar("Question", bound=msgspec.Struct)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SocketSubscriber:
    """A subscriber's WebSocket as frames."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        """Take an open WebSocket."""
        self._socket = socket

    async def send(self, frame: FromSource) -> None:
        """Send a frame."""
        await self._socket.send_bytes(encode(frame))

    async def receive(self) -> FromSubscriber | None:
        """Return the next frame, or None when the other side has closed."""
        message = await self._socket.receive()
        if message.type is WSMsgType.BINARY:
            return decode_from_subscriber(message.data)
        if message.type is WSMsgType.CLOSE and message.data == CLOSED_FOR_CAUSE:
            text = f"the subscriber refused: {message.extra or message.data}"
            raise ProtocolError(text)
        if message.type is WSMsgType.ERROR:
            text = f"what the subscriber sent cannot be read: {message.data}"
            raise ProtocolError(text)
        if message.type is WSMsgType.TEXT:
            text = "a subscriber sent text where frames were expected"
            raise ProtocolError(text)
        return None


class PeerRoutes:
    """The handlers."""

    def __init__(
        self,
        engine: Engine,
        *,
        gate: Gate,
        answers: Answers,
        mending: Mending,
        calls: WorkerCalls,
        doorkeeper: Doorkeeper,
        relay: Relay,
    ) -> None:
        """Take what answers, and who may ask."""
        self._engine = engine
        self._gate = gate
        self._answers = answers
        self._mending = mending
        self._calls = calls
        self._doorkeeper = doorkeeper
        self._relay = relay
        self._told: dict[str, str] = {}

    def application(self) -> web.Application:
        """Return the peer port's application."""
        application = web.Application(middlewares=[self._members_only], client_max_size=FRAME_BYTES_MAX)
        application.router.add_get("/peer/v1/ca", self.authority)
        application.router.add_post("/peer/v1/join", self.join)
        application.router.add_get("/peer/v1/stream", self.stream)
        application.router.add_post("/peer/v1/records/find", self.find)
        application.router.add_post("/peer/v1/records", self.records)
        application.router.add_post("/peer/v1/records/offer", self.offer)
        application.router.add_post("/peer/v1/check", self.check)
        application.router.add_post("/peer/v1/summary", self.summary)
        application.router.add_post("/peer/v1/vector", self.vector)
        application.router.add_post("/peer/v1/blobs/kept", self.kept)
        application.router.add_post("/peer/v1/presence", self.presence)
        application.router.add_post(_OPEN_TO_REMOVED, self.removal)
        application.router.add_post("/peer/v1/bucket", self.bucket)
        application.router.add_post("/peer/v1/keys", self.keys)
        application.router.add_post("/peer/v1/blobs/hold", self.hold)
        application.router.add_route("*", "/peer/v1/relay/{path:.*}", self._relay.forward)
        return application

    @web.middleware
    async def _members_only(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.path not in _OPEN_TO_NEWCOMERS:
                certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
                if request.path == _OPEN_TO_REMOVED:
                    request[_PEER] = self._gate.identify(certificate)
                else:
                    request[_PEER] = await in_thread(self._engine.executor, self._gate.admit, certificate)
            return await handler(request)
        except TwinhullError as error:
            status = status_of(error)
            # A peer asks for blobs and uploads wherever they might be; that some are not here is no news.
            tell = log.debug if status == 404 else log.info
            tell("peer request refused", path=request.path[:200], status=status, error=str(error))
            return web.json_response({"error": str(error)}, status=status)
        except ConnectionError as error:
            # The peer has gone: nobody is left to be answered.
            log.debug("peer request broke off", path=request.path[:200], error=str(error))
            return web.Response(status=503)

    # -- joining ---------------------------------------------------------------------------------------------------

    async def authority(self, _request: web.Request) -> web.Response:
        """Return the cluster's certificate; the newcomer checks it against its token."""
        return web.Response(body=self._doorkeeper.ca_pem(), content_type="application/x-pem-file")

    async def join(self, request: web.Request) -> web.Response:
        """Let a newcomer in, once, for a valid token."""
        try:
            wish = msgspec.json.decode(await request.read(), type=JoinRequest)
        except msgspec.MsgspecError as error:
            raise Invalid("the join request cannot be read") from error
        admitted = await in_thread(self._engine.executor, self._doorkeeper.admit, wish)
        self._engine.wrote(admitted.seq)
        await self._engine.neighbours.refresh()
        # All members must know the newcomer before it takes its first write: they ask it then, and wait for it.
        await self._engine.acknowledgements.wait(admitted.seq)
        return web.Response(body=msgspec.msgpack.encode(admitted.answer))

    # -- the stream ------------------------------------------------------------------------------------------------

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Feed a subscriber until it leaves."""
        socket = web.WebSocketResponse(max_msg_size=FRAME_BYTES_MAX, compress=False)
        await socket.prepare(request)
        link = SocketSubscriber(socket)
        try:
            await self._answers.stream(link, request[_PEER])
        except* TwinhullError as group:
            reason = str(group.exceptions[0])
            # A peer that does the same wrong thing once in a second is no news.
            if self._told.get(request[_PEER]) != reason:
                self._told[request[_PEER]] = reason
                log.warning("subscriber's stream ended in error", peer=request[_PEER], error=reason)
            await socket.close(code=CLOSED_FOR_CAUSE, message=closing_reason(reason))
        except* (ConnectionError, OSError):
            pass
        await socket.close()
        return socket

    # -- questions -------------------------------------------------------------------------------------------------

    async def find(self, request: web.Request) -> web.Response:
        """Return a record, and those it is of no use without."""
        query = _read(await request.read(), RecordQuery)
        records = await self._answers.find(query)
        return web.Response(body=msgspec.msgpack.encode(RecordAnswer(records=records)))

    async def records(self, request: web.Request) -> web.Response:
        """Return records that a peer wants to mend its own by."""
        query = _read(await request.read(), RecordsQuery)
        return web.Response(body=msgspec.msgpack.encode(await self._mending.records(query.names)))

    async def offer(self, request: web.Request) -> web.Response:
        """Merge records that a peer has found to be missing here, or to be otherwise."""
        offered = _read(await request.read(), RecordsOffer)
        changed = await self._mending.take(request[_PEER], offered.records)
        return web.Response(body=msgspec.msgpack.encode(OfferAnswer(changed=changed)))

    async def check(self, request: web.Request) -> web.Response:
        """Look through a part of this node's own data."""
        query = _read(await request.read(), CheckQuery)
        return web.Response(body=msgspec.msgpack.encode(await self._mending.check(query)))

    async def summary(self, request: web.Request) -> web.Response:
        """Return this node's state in short."""
        query = _read(await request.read(), SummaryQuery)
        return web.Response(body=msgspec.msgpack.encode(await self._answers.summary(is_brief=query.is_brief)))

    async def vector(self, _request: web.Request) -> web.Response:
        """Return what this node has applied: a restored node learns from it what it has forgotten."""
        return web.Response(body=msgspec.msgpack.encode(VectorAnswer(vector=await self._answers.vector())))

    async def presence(self, request: web.Request) -> web.Response:
        """Return what this node lacks of the named records and blobs."""
        query = _read(await request.read(), PresenceQuery)
        return web.Response(body=msgspec.msgpack.encode(await self._answers.presence(query)))

    async def removal(self, request: web.Request) -> web.Response:
        """Return the record of the asking node's removal, if it was removed."""
        records = await self._answers.removal(request[_PEER])
        return web.Response(body=msgspec.msgpack.encode(RecordAnswer(records=records)))

    async def kept(self, request: web.Request) -> web.Response:
        """Return which of the named blobs this node needs: the peer is about to remove them."""
        query = _read(await request.read(), KeptQuery)
        return web.Response(body=msgspec.msgpack.encode(await self._answers.kept(query)))

    async def bucket(self, request: web.Request) -> web.Response:
        """Return the keys of one bucket of this node's state."""
        query = _read(await request.read(), BucketQuery)
        records = await self._answers.bucket(query.kind, query.bucket)
        return web.Response(body=msgspec.msgpack.encode(BucketAnswer(records=records)))

    async def keys(self, _request: web.Request) -> web.Response:
        """Return the keys that seal secrets, to a member that lacks a new one."""
        keys = await in_thread(self._engine.executor, self._doorkeeper.cluster_keys)
        return web.Response(body=msgspec.msgpack.encode(KeysAnswer(keys=keys)))

    async def hold(self, request: web.Request) -> web.Response:
        """Answer once the named blobs are on this node's disk."""
        wish = _read(await request.read(), HoldRequest)
        await self._calls.hold(wish.blobs)
        return web.Response()


def _read(body: bytes, form: type[Question]) -> Question:
    try:
        return msgspec.msgpack.decode(body, type=form)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"a peer's question cannot be read: {error}") from error
