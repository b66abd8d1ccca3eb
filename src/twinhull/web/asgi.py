"""Requests and answers at the level of ASGI: what the data plane needs of them, at the cost of a few look-ups.

Not for pages and management calls, which are Starlette's; both speak the same ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

from twinhull.kit.errors import TooLarge

# ASGI's own words (asgiref 3): what a server hands to an application. The values are of many types.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# What a face leaves in the scope for those who note the request down: what was done, one of a fixed set of words, and by whom.
OPERATION: Final = "twinhull.operation"
USER: Final = "twinhull.user"
# What is to be added to the answer's headers, whoever gives the answer: a list that anybody may append to.
EXTRA_HEADERS: Final = "twinhull.extra_headers"

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

PATHSEND: Final = "http.response.pathsend"
QUERY_FIELDS_MAX: Final = 200


class Face(Protocol):
    """An ASGI application; one of those that make up the node's HTTP side."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        ...


class ClientGone(Exception):
    """The client went away before it had sent its whole request."""


class Request:
    """One HTTP request; looks up what it is asked for, and nothing before."""

    __slots__ = ("_query", "receive", "scope", "send")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wrap what the server gave."""
        self.scope = scope
        self.receive = receive
        self.send = send
        self._query: list[tuple[str, str]] | None = None

    @property
    def method(self) -> str:
        """The method, in capitals."""
        method: str = self.scope["method"]
        return method

    def header(self, name: bytes) -> str:
        """Return the first header of that (lower-case) name, or an empty string."""
        for key, value in self.scope["headers"]:
            if key == name:
                text: str = value.decode("latin-1")
                return text
        return ""

    def query(self, name: str) -> str | None:
        """Return the first query parameter of that name, or None."""
        for key, value in self._fields():
            if key == name:
                return value
        return None

    def queries(self, name: str) -> list[str]:
        """Return all query parameters of that name, in order."""
        return [value for key, value in self._fields() if key == name]

    def _fields(self) -> list[tuple[str, str]]:
        if self._query is None:
            text = self.scope["query_string"].decode("latin-1")
            if text.count("&") >= QUERY_FIELDS_MAX:
                raise TooLarge(f"a query has at most {QUERY_FIELDS_MAX} parameters")
            self._query = parse_qsl(text, keep_blank_values=True) if text else []
        return self._query

    async def body(self) -> AsyncIterator[bytes]:
        """Give the body's pieces as they arrive; raises ClientGone when the client leaves before the end."""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            if piece:
                yield piece
            if not message.get("more_body", False):
                return

    async def short_body(self, limit_bytes: int) -> bytes | AsyncIterator[bytes]:
        """Return the body at once if it is not longer than that, else its pieces as they arrive.

        When the client leaves early that is told by the pieces too, after those that had arrived.
        """
        pieces: list[bytes] = []
        size = 0
        rest = self.body()
        try:
            async for piece in rest:
                pieces.append(piece)
                size += len(piece)
                if size > limit_bytes:
                    return _resumed(pieces, rest)
        except ClientGone:
            return _resumed(pieces, None)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def whole_body(self, limit_bytes: int, too_large: Callable[[], Exception]) -> bytes:
        """Return the whole body, or raise `too_large()` once it is known to be over the limit."""
        declared = self.header(b"content-length")
        if declared.isdecimal() and int(declared) > limit_bytes:
            raise too_large()
        pieces = []
        size = 0
        async for piece in self.body():
            size += len(piece)
            if size > limit_bytes:
                raise too_large()
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _resumed(first: list[bytes], rest: AsyncIterator[bytes] | None) -> AsyncIterator[bytes]:
    for piece in first:
        yield piece
    if rest is None:
        raise ClientGone
    async for piece in rest:
        yield piece


class Answer:
    """One HTTP answer: a status, headers, and a body that is bytes, a whole file or a stream of pieces."""

    __slots__ = ("body", "file", "headers", "pieces", "status")

    def __init__(
        self,
        status: int,
        headers: Headers,
        body: bytes = b"",
        *,
        file: Path | None = None,
        pieces: AsyncGenerator[bytes, None] | None = None,
    ) -> None:
        """Take headers as they go out; the caller has put the content's length among them."""
        self.status = status
        self.headers = headers
        self.body = body
        self.file = file
        self.pieces = pieces

    async def send_to(self, send: Send, receive: Receive | None = None) -> None:
        """Send it; a failure of the stream comes through, when the answer's beginning has gone out already.

        With `receive` a stream ends with ClientGone once nobody is there to take it.
        """
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        if self.file is not None:
            await send({"type": PATHSEND, "path": str(self.file)})
        elif self.pieces is not None:
            await _stream(self.pieces, send, receive)
        else:
            await send({"type": "http.response.body", "body": self.body})


async def _stream(pieces: AsyncGenerator[bytes, None], send: Send, receive: Receive | None) -> None:
    # A server may take what is sent for a client that has left without a word: only `receive` tells.
    leaving = asyncio.ensure_future(_wait_gone(receive)) if receive is not None else None
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if leaving is not None and leaving.done():
                    raise ClientGone
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        if leaving is not None:
            leaving.cancel()


async def _wait_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def can_send_files(scope: Scope) -> bool:
    """Tell whether the server sends whole files by itself."""
    return PATHSEND in (scope.get("extensions") or ())
