"""What the management API reads from requests: JSON bodies and pages, and what it writes: JSON, lists, locations.

Harbor 2.2 is of two generations, which check differently; `legacy` says that an operation is of the older one.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from twinhull.harbor.errors import MethodNotAllowed, Unprocessable
from twinhull.kit.errors import Invalid, NotFound, TooLarge
from twinhull.metadata.filtering import Slice

BODY_BYTES_MAX: Final = 1024 * 1024
PAGE_SIZE_DEFAULT: Final = 10
PAGE_SIZE_MAX: Final = 100
# Further on than this there is no page, and databases count no higher than 2^63.
PAGE_MAX: Final = 1_000_000_000
_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_LEGACY_INVALID_JSON: Final = "Invalid json request"

Handler = Callable[[Request], Awaitable[Response]]
_Body = TypeVar("_Body")


class Methods:
    """One path: its methods and their handlers."""

    def __init__(self, handlers: Mapping[str, Handler], *, legacy: bool = False) -> None:
        """Take the handler of each method."""
        self.handlers = dict(handlers)
        self._legacy = legacy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the method's handler answer, or raise MethodNotAllowed (legacy: NotFound)."""
        handler = self.handlers.get(scope["method"])
        if handler is None and self._legacy:
            raise NotFound(f"path {str(scope['path'])[:200]} was not found")
        if handler is None:
            raise MethodNotAllowed(scope["method"], list(self.handlers))
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)


def on(path: str, **handlers: Handler) -> Route:
    """Return a route for a path, with a handler for each of its methods: `on("/ping", get=ping)`."""
    return Route(path, Methods({method.upper(): handler for method, handler in handlers.items()}))


def on_older(path: str, **handlers: Handler) -> Route:
    """Return the same for a path of the older generation, which is not there for a method that it does not have."""
    return Route(path, Methods({method.upper(): handler for method, handler in handlers.items()}, legacy=True))


# -- reading -------------------------------------------------------------------------------------------------------


async def read_bytes(request: Request) -> bytes:
    """Return the body as it came; raises TooLarge when it is huge."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise TooLarge("request body is too large")
    return bytes(body)


async def read_body(request: Request, of: type[_Body], *, legacy: bool = False) -> _Body:
    """Return the JSON body as that type; raises Unprocessable (legacy: Invalid) when it is none, TooLarge when it is huge.

    A field that is null is as if it were not there: Harbor's clients in Go send such fields.
    """
    content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if not legacy and content_type != "application/json":
        raise Unprocessable(f'unsupported media type "{content_type[:64]}", only [application/json] are allowed')
    body = await read_bytes(request)
    try:
        return msgspec.convert(_plain(msgspec.json.decode(body)), of)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise (Invalid(_LEGACY_INVALID_JSON) if legacy else Unprocessable(f"parsing body failed, because {error}")) from error


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever JSON is
    """Return JSON without the fields of objects that are null; raises ValidationError for integers that no database holds."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, int) and not _INT64_MIN <= value <= _INT64_MAX:
        raise msgspec.ValidationError("a number has more than 64 bits")
    return [_plain(item) for item in value] if isinstance(value, list) else value


def query_int(request: Request, name: str, default: int, *, legacy: bool = False) -> int:
    """Return a number from the query; raises Unprocessable (legacy: Invalid) when it is none."""
    text = request.query_params.get(name)
    if text is None or text == "":
        return default
    if not _INTEGER.fullmatch(text):
        if legacy:
            raise Invalid(f"invalid {name}")
        raise Unprocessable(f'{name} in query must be of type int64: "{text[:64]}"')
    return int(text)


def query_bool(request: Request, name: str) -> bool | None:
    """Return a yes or no from the query, None when it is not there or neither; Harbor takes Go's spellings."""
    text = request.query_params.get(name, "").lower()
    return True if text in ("true", "t", "1") else False if text in ("false", "f", "0") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """Which page of a list is wanted. A size below 1 is all of it, as in Harbor."""

    page: int
    size: int

    @property
    def part(self) -> Slice:
        """The page as the metadata's queries take it."""
        if self.size < 1:
            return Slice()
        return Slice(offset=(self.page - 1) * self.size, limit=self.size)


def read_paging(request: Request, *, legacy: bool = False, size_default: int = PAGE_SIZE_DEFAULT) -> Paging:
    """Return the wanted page; raises Unprocessable (legacy: Invalid) when the query makes no sense."""
    page = query_int(request, "page", 1, legacy=legacy)
    size = query_int(request, "page_size", size_default, legacy=legacy)
    if legacy:
        if page < 1:
            raise Invalid("invalid page")
        if size < 1:
            raise Invalid("invalid page_size")
        return Paging(page=min(page, PAGE_MAX), size=min(size, PAGE_SIZE_MAX))
    if size > PAGE_SIZE_MAX:
        raise Unprocessable(f"page_size in query should be less than or equal to {PAGE_SIZE_MAX}")
    return Paging(page=min(max(page, 1), PAGE_MAX), size=size)


# -- writing -------------------------------------------------------------------------------------------------------


def answer(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(msgspec.json.encode(content), status_code=status, headers=headers, media_type="application/json")


def nothing(status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer without a body."""
    return Response(status_code=status, headers=headers)


def listed(request: Request, items: Sequence[Any], *, total: int, paging: Paging) -> Response:
    """Return one page of a list, with X-Total-Count, and Link to its neighbours."""
    headers = {"X-Total-Count": str(total)}
    links = []
    if paging.size >= 1:
        if paging.page > 1 and (paging.page - 1) * paging.size <= total:
            links.append(_link(request, paging.page - 1, paging.size, "prev"))
        if paging.page * paging.size < total:
            links.append(_link(request, paging.page + 1, paging.size, "next"))
    if links:
        headers["Link"] = ", ".join(links)
    return answer(items, headers=headers)


def _link(request: Request, page: int, size: int, relation: str) -> str:
    fields = [(key, value) for key, value in request.query_params.multi_items() if key not in ("page", "page_size")]
    query = urlencode(sorted([*fields, ("page", str(page)), ("page_size", str(size))]))
    return f'<{quote(request.url.path)}?{query}>; rel="{relation}"'


def located(request: Request, name: int | str) -> dict[str, str]:
    """Return the Location of something that was made under this path."""
    return {"Location": f"{quote(request.url.path.rstrip('/'))}/{quote(str(name))}"}
