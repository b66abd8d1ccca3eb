"""Pieces of answers that several of the data plane's handlers share."""

from __future__ import annotations

from typing import Final

import msgspec

from twinhull.kit.digest import Digest, parse_digest
from twinhull.kit.errors import DigestInvalid, Unsupported
from twinhull.registry.errors import API_VERSION, JSON_TYPE
from twinhull.web.asgi import Answer, Headers, Request

NO_CONTENT_LENGTH: Final = (b"content-length", b"0")
# A digest names its bytes for ever.
IMMUTABLE: Final = (b"cache-control", b"max-age=31536000, immutable")
# A tag may name other bytes at any time: ask again, by the ETag.
REVALIDATE: Final = (b"cache-control", b"no-cache")
DURABILITY: Final = b"twinhull-durability"


def known_digest(text: str) -> Digest:
    """Return the digest, or raise DigestInvalid also for an algorithm that is not supported."""
    try:
        return parse_digest(text)
    except Unsupported as error:
        raise DigestInvalid(error.message) from error


def digest_header(digest: Digest) -> tuple[bytes, bytes]:
    """Return the header that names an answer's content."""
    return b"docker-content-digest", digest.encode("ascii")


def etag(digest: Digest) -> tuple[bytes, bytes]:
    """Return the entity tag of content: its digest."""
    return b"etag", f'"{digest}"'.encode("ascii")


def matches_etag(request: Request, digest: Digest) -> bool:
    """Tell whether the client has this content already, by its If-None-Match."""
    header = request.header(b"if-none-match")
    if not header:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or f'"{digest}"' in tags


def json_answer(request: Request, document: object, *headers: tuple[bytes, bytes]) -> Answer:
    """Return a 200 with the document."""
    body = msgspec.json.encode(document)
    length = (b"content-length", b"%d" % len(body))
    all_headers: Headers = [API_VERSION, JSON_TYPE, length, *headers]
    return Answer(200, all_headers, b"" if request.method == "HEAD" else body)
