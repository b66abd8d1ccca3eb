"""Requests for an upload that another node owns: passed on to it as they are, its answer passed back as it comes."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from typing import Any, Final

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from twinhull.kit.errors import BlobUploadUnknown, PeerUnavailable
from twinhull.metadata import members
from twinhull.metadata.store import Store
from twinhull.replication.certificates import server_name
from twinhull.replication.threads import in_thread

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Headers of one connection, not of the message: RFC 9110, section 7.6.1.
HOP_BY_HOP: Final = frozenset(
    name.lower()
    for name in (
        hdrs.CONNECTION,
        hdrs.KEEP_ALIVE,
        hdrs.PROXY_AUTHENTICATE,
        hdrs.PROXY_AUTHORIZATION,
        hdrs.TE,
        hdrs.TRAILER,
        hdrs.TRANSFER_ENCODING,
        hdrs.UPGRADE,
    )
)
_CONNECT_TIMEOUT_S: Final = 2.0
_PIECE_BYTES: Final = 256 * 1024


class PassingOn:
    """The way from an HTTP worker to another node's uploads, over mutual TLS."""

    def __init__(self, *, store: Store, executor: Executor, tls: Callable[[], ssl.SSLContext]) -> None:
        """Take where the members are recorded, and what gives the TLS settings for calls to them as they are now."""
        self._store = store
        self._executor = executor
        self._make_tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, node: str, caller_name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request by what the owning node answers, which checks the same credentials once more.

        Raises BlobUploadUnknown when there is no such node, PeerUnavailable when it does not answer.
        """
        del caller_name
        address = await in_thread(self._executor, self._address_of, node)
        if address is None:
            raise BlobUploadUnknown(f"the node {node[:64]!r} that this upload began on is not a member")
        session, tls = self._ready()
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        target = f"https://{address}/peer/v1/relay{path}" + (f"?{query}" if query else "")
        try:
            async with session.request(
                scope["method"],
                URL(target, encoded=True),
                headers=_forwarded_headers(scope),
                data=_body(receive) if scope["method"] in ("PATCH", "PUT", "POST") else None,
                ssl=tls,
                server_hostname=server_name(node),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
            ) as answer:
                await _send_answer(answer, send)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise PeerUnavailable(f"the node that this upload began on does not answer: {error}") from error

    def _address_of(self, node: str) -> str | None:
        with self._store.read() as connection:
            return next((member.address for member in members.nodes(connection) if member.id == node), None)

    def _ready(self) -> tuple[aiohttp.ClientSession, ssl.SSLContext]:
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False)
        return self._session, self._make_tls()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


def _forwarded_headers(scope: Scope) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in scope["headers"]:
        decoded = name.decode("latin-1")
        if decoded not in HOP_BY_HOP and decoded != "host":
            headers.add(decoded, value.decode("latin-1"))
    return headers


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            # The owner keeps what it has, as if the client had left it directly.
            raise aiohttp.ClientConnectionError("the client left")
        if piece := message.get("body", b""):
            yield piece
        more = message.get("more_body", False)


async def _send_answer(answer: aiohttp.ClientResponse, send: Send) -> None:
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in answer.headers.items()
        if name.lower() not in HOP_BY_HOP and name.lower() != "x-request-id"
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    async for piece in answer.content.iter_chunked(_PIECE_BYTES):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
