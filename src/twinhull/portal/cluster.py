"""`/api/twinhull/v1/cluster`: how this node and its peers are, as one document or as it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from twinhull.kit.clock import Clock
from twinhull.kit.errors import Denied, TwinhullError, Unauthenticated
from twinhull.web.asgi import Answer
from twinhull.web.identity import Identity

EVENT_STREAM: Final = "text/event-stream"
# Live views are told this often, and however many there are, the agent is asked no more often than that.
_LOOK_S: Final = 1.0
_FRESH_S: Final = 0.5
# A line that nothing goes over for longer may be cut by what is in between.
_KEEP_ALIVE_S: Final = 15.0
# Who loses the right to look loses sight of it this soon.
_ADMIT_AGAIN_S: Final = 5.0
_RETRY: Final = b"retry: 2000\n\n"


class ClusterApi:
    """The handlers. For administrators: addresses and errors are nobody else's business."""

    def __init__(
        self, *, ask: Callable[[], Awaitable[str]], identity: Identity, clock: Clock, is_stopping: Callable[[], bool]
    ) -> None:
        """Take what returns the document, who knows callers, the time, and what tells that the node waits for us to end."""
        self._is_stopping = is_stopping
        self._ask = ask
        self._identity = identity
        self._clock = clock
        self._latest = ""
        self._asked_s = -_FRESH_S
        self._asking = asyncio.Lock()

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [Route("/cluster", self.cluster, methods=["GET"])]

    async def cluster(self, request: Request) -> Response:
        """Return the document, or with `Accept: text/event-stream` send it whenever it has changed."""
        await self._admit(request.scope)
        document = await self._document()
        if EVENT_STREAM in request.headers.get("accept", ""):
            return _Live(self._events(request.scope))
        return Response(document, media_type="application/json", headers={"Cache-Control": "no-store"})

    async def _admit(self, scope: Scope) -> None:
        caller = await self._identity.who(scope)
        if caller.is_anonymous:
            raise Unauthenticated
        if not caller.is_admin:
            raise Denied("only administrators may look at the cluster")

    async def _document(self) -> str:
        async with self._asking:
            if self._clock.monotonic_s() - self._asked_s >= _FRESH_S:
                self._latest = await self._ask()
                self._asked_s = self._clock.monotonic_s()
            return self._latest

    async def _events(self, scope: Scope) -> AsyncGenerator[bytes, None]:
        yield _RETRY
        told, told_s, admitted_s = b"", self._clock.monotonic_s(), self._clock.monotonic_s()
        while not self._is_stopping():
            now_s = self._clock.monotonic_s()
            if now_s - admitted_s >= _ADMIT_AGAIN_S:
                try:
                    await self._admit(scope)
                except TwinhullError:
                    return
                admitted_s = now_s
            event = await self._event()
            if event != told:
                told, told_s = event, now_s
                yield event
            elif now_s - told_s >= _KEEP_ALIVE_S:
                told_s = now_s
                yield b": nothing new\n\n"
            await asyncio.sleep(_LOOK_S)

    async def _event(self) -> bytes:
        try:
            return f"event: cluster\ndata: {await self._document()}\n\n".encode()
        except TwinhullError as error:
            # The node's agent is being restarted; whoever looks goes on looking.
            return b"event: trouble\ndata: " + msgspec.json.encode({"error": str(error)}) + b"\n\n"


class _Live(Response):
    """Events for as long as the client stays."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__()
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        del scope
        headers = [
            (b"content-type", EVENT_STREAM.encode("ascii")),
            (b"cache-control", b"no-store"),
            # nginx would gather them.
            (b"x-accel-buffering", b"no"),
        ]
        await Answer(200, headers, pieces=self._events).send_to(send, receive)
