"""Blobs over HTTP: whole by the server's own file sending, in parts for lazy pullers, or passed through from a peer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from twinhull.catalog.contents import Contents, Located
from twinhull.catalog.peers import Durability
from twinhull.kit.digest import Digest, hex_of
from twinhull.kit.errors import Unavailable
from twinhull.registry.answers import DURABILITY, IMMUTABLE, NO_CONTENT_LENGTH, digest_header, etag, known_digest, matches_etag
from twinhull.registry.errors import API_VERSION
from twinhull.registry.ranges import Part, parse_range
from twinhull.registry.target import Target
from twinhull.web.asgi import Answer, Headers, Request, can_send_files
from twinhull.web.identity import Caller

# The server takes some two dozen pieces before a slow reader slows the sender down: small pieces keep that cheap.
PIECE_BYTES: Final = 256 * 1024
_OCTETS: Final = (b"content-type", b"application/octet-stream")
_ACCEPT_RANGES: Final = (b"accept-ranges", b"bytes")


class BlobHandlers:
    """The handlers of /v2/<name>/blobs/<digest>."""

    def __init__(self, *, contents: Contents, durability: Durability) -> None:
        """Take what knows the blobs, and what tells how safe a write is."""
        self._contents = contents
        self._durability = durability

    async def head(self, request: Request, target: Target, _caller: Caller) -> Answer:
        """Answer with the blob's size."""
        digest = known_digest(target.reference)
        size = await self._contents.promise(target.repository, digest)
        if matches_etag(request, digest):
            return Answer(304, _identity(digest))
        return Answer(200, [_OCTETS, (b"content-length", b"%d" % size), _ACCEPT_RANGES, *_identity(digest)])

    async def get(self, request: Request, target: Target, _caller: Caller) -> Answer:
        """Answer with the blob, or with the parts that are asked for."""
        digest = known_digest(target.reference)
        if matches_etag(request, digest):
            # Who asks so has the bytes; whether they may know of them is still to be seen.
            await self._contents.size(target.repository, digest)
            return Answer(304, _identity(digest))
        blob = await self._contents.locate(target.repository, digest)
        parts = _wanted_parts(request, digest, blob.size)
        if len(parts) > 1:
            return self._several(digest, blob, parts)
        headers: Headers = [_OCTETS, _ACCEPT_RANGES, *_identity(digest)]
        if parts:
            headers.append((b"content-length", b"%d" % parts[0].length))
            headers.append((b"content-range", parts[0].content_range(blob.size).encode("ascii")))
            return Answer(206, headers, pieces=self._pieces(digest, blob, parts[0]))
        headers.append((b"content-length", b"%d" % blob.size))
        if blob.path is not None and can_send_files(request.scope):
            return Answer(200, headers, file=blob.path)
        return Answer(200, headers, pieces=self._pieces(digest, blob, Part(0, blob.size)))

    async def delete(self, request: Request, target: Target, _caller: Caller) -> Answer:
        """Hide the blob from the repository, and answer 202."""
        seq = await self._contents.delete(target.repository, known_digest(target.reference))
        level = await self._durability.reached(seq, repository=target.repository, wanted=request.header(DURABILITY))
        return Answer(202, [API_VERSION, (DURABILITY, level.encode("ascii")), NO_CONTENT_LENGTH])

    # -- bytes -----------------------------------------------------------------------------------------------------

    def _several(self, digest: Digest, blob: Located, parts: list[Part]) -> Answer:
        """Answer with several parts in one body (RFC 9110, "Media Type multipart/byteranges")."""
        # A text that cannot be in the blob, short of a broken hash: a part of the blob's own digest.
        boundary = hex_of(digest)[:32]
        heads = [
            f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Range: {part.content_range(blob.size)}\r\n\r\n".encode("ascii")
            for part in parts
        ]
        tail = f"\r\n--{boundary}--\r\n".encode("ascii")
        length = sum(map(len, heads)) + sum(part.length for part in parts) + len(tail)

        async def body() -> AsyncGenerator[bytes, None]:
            for head, part in zip(heads, parts, strict=True):
                yield head
                async with aclosing(self._pieces(digest, blob, part)) as pieces:
                    async for piece in pieces:
                        yield piece
            yield tail

        headers: Headers = [
            (b"content-type", f"multipart/byteranges; boundary={boundary}".encode("ascii")),
            (b"content-length", b"%d" % length),
            _ACCEPT_RANGES,
            *_identity(digest),
        ]
        return Answer(206, headers, pieces=body())

    async def _pieces(self, digest: Digest, blob: Located, part: Part) -> AsyncGenerator[bytes, None]:
        position, end = part.start, part.start + part.length
        try:
            while position < end:
                length = min(PIECE_BYTES, end - position)
                if blob.source is not None:
                    piece = await blob.source.read(position, length)
                else:
                    piece = await self._contents.read(digest, position, length)
                if not piece:
                    raise Unavailable(f"blob {digest} ended at {position}, before its size")
                position += len(piece)
                yield piece
        finally:
            if blob.source is not None:
                await blob.source.close()


def _identity(digest: Digest) -> Headers:
    return [digest_header(digest), etag(digest), IMMUTABLE, API_VERSION]


def _wanted_parts(request: Request, digest: Digest, size: int) -> list[Part]:
    header = request.header(b"range")
    if not header:
        return []
    condition = request.header(b"if-range").strip()
    if condition and condition != f'"{digest}"':
        # RFC 9110, "If-Range": the client has parts of something else, so it needs the whole.
        return []
    return parse_range(header, size)
