"""Requests that another node passes on because they belong to an upload of this one: handed to this node's own HTTP side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from twinhull.kit.errors import Unavailable
from twinhull.replication.passing_on import HOP_BY_HOP

_PIECE_BYTES: Final = 256 * 1024


class Relay:
    """Passes requests on to this node's HTTP workers, which check the client's own credentials as always."""

    def __init__(self, session: aiohttp.ClientSession, http_address: str) -> None:
        """Take where the workers listen (HOST:PORT)."""
        self._session = session
        self._http_address = http_address

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Send the request on, body streaming, and its answer back."""
        path = request.raw_path.removeprefix("/peer/v1/relay")
        headers = CIMultiDict((name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP)
        body = _pieces(request) if request.body_exists else None
        try:
            async with self._session.request(
                request.method,
                URL(f"http://{self._http_address}{path}", encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=2),
            ) as answer:
                response = web.StreamResponse(status=answer.status, reason=answer.reason)
                for name, value in answer.headers.items():
                    if name.lower() not in HOP_BY_HOP:
                        response.headers.add(name, value)
                await response.prepare(request)
                async for piece in answer.content.iter_chunked(_PIECE_BYTES):
                    await response.write(piece)
                await response.write_eof()
                return response
        except aiohttp.ClientError as error:
            raise Unavailable(f"this node's HTTP side does not answer: {error}") from error


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    async for piece in request.content.iter_chunked(_PIECE_BYTES):
        yield piece
