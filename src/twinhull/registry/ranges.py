"""Ranges of bytes in headers: which part of a blob is asked for (RFC 9110, section 14), and which part a chunk is (OCI)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from twinhull.catalog.uploads import ChunkRange
from twinhull.kit.errors import RangeInvalid

RANGES_MAX: Final = 64
_UNIT: Final = "bytes="
_SPEC: Final = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")
_CHUNK: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class Part(NamedTuple):
    """A part of a blob: where it starts and how long it is."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        """Return the part as Content-Range has it."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def parse_range(header: str, size: int) -> list[Part]:
    """Return the parts that a Range header asks for; none if the whole is to be sent.

    Raises RangeInvalid when no part can be sent: all of them lie beyond the end, or the header makes no sense.
    """
    text = header.strip()
    if text[: len(_UNIT)].lower() != _UNIT or size == 0:
        # Other units are none of ours. And of an empty blob there are no parts: it is sent as it is.
        return []
    specs = text[len(_UNIT) :].split(",")
    if len(specs) > RANGES_MAX:
        return []
    parts = [part for spec in specs if (part := _part(spec.strip(), size)) is not None]
    if not parts:
        raise RangeInvalid(f"there are {size} bytes", size_bytes=size)
    if len(parts) > 1 and sum(part.length for part in parts) > size:
        # Overlapping parts would send more than the whole: a way to make a server work hard for a small request.
        return []
    return parts


def _part(spec: str, size: int) -> Part | None:
    """Return the part, or None if it lies beyond the end; raises RangeInvalid if it makes no sense."""
    match = _SPEC.fullmatch(spec)
    if match is None or spec == "-":
        raise RangeInvalid(f"range {spec[:64]!r} is not valid", size_bytes=size)
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        return Part(size - length, length) if length else None
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        raise RangeInvalid(f"range {spec[:64]!r} ends before it begins", size_bytes=size)
    return Part(start, end - start + 1) if start < size else None


def parse_chunk_range(header: str, content_length: str) -> ChunkRange | None:
    """Return the part of the blob that a chunk's Content-Range says it is, None if there is no such header.

    Raises RangeInvalid if it makes no sense, or contradicts the request's own length.
    """
    text = header.strip()
    if not text:
        return None
    # OCI distribution 1.1, "Pushing a blob in chunks": the bare range, without a unit.
    match = _CHUNK.fullmatch(text)
    if match is None:
        raise RangeInvalid(f"Content-Range {text[:64]!r} is not valid; it must be like 0-1023")
    chunk = ChunkRange(int(match[1]), int(match[2]))
    if chunk.end < chunk.start:
        raise RangeInvalid(f"Content-Range {text[:64]!r} ends before it begins")
    if content_length.isdecimal() and int(content_length) != chunk.length:
        raise RangeInvalid(f"Content-Range {text[:64]!r} does not fit a Content-Length of {content_length[:20]}")
    return chunk
