"""Pages of lists: which part was asked for, and the Link to the next one (RFC 8288)."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import quote, urlencode

from twinhull.kit.errors import Invalid

# Distribution answers at most this many names a page, and so do we: more are reached by the Link.
PAGE_SIZE_MAX: Final = 1000
_DIGITS_MAX: Final = 18


class Page(NamedTuple):
    """The part of a sorted list that a client asks for: up to `size` entries after `last`."""

    size: int
    last: str
    # Whether the client named a size itself.
    asked: bool


def parse_page(size_text: str | None, last: str | None, *, size_max: int = PAGE_SIZE_MAX) -> Page:
    """Return the page asked for by the parameters `n` and `last`, or raise Invalid."""
    if size_text is None or size_text == "":
        return Page(size_max, last or "", asked=False)
    if not size_text.isascii() or not size_text.isdecimal() or len(size_text) > _DIGITS_MAX:
        raise Invalid("n must be a number that is not negative", detail={"n": size_text[:64]})
    return Page(min(int(size_text), size_max), last or "", asked=True)


def next_link(path: str, **parameters: str | int) -> tuple[bytes, bytes]:
    """Return the Link header to the next page: a path on the same address, with these parameters."""
    target = f"{quote(path, safe='/:@+,;=!*()~-._')}?{urlencode(parameters)}"
    return b"link", f'<{target}>; rel="next"'.encode("ascii")
