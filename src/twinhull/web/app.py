"""The node's HTTP side as one ASGI application: sends each request to its face, and turns failures into answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import structlog
from starlette.routing import BaseRoute, Router
from starlette.routing import Mount as StarletteMount

from twinhull.kit.clock import Clock
from twinhull.kit.errors import NotFound, TwinhullError
from twinhull.web.asgi import EXTRA_HEADERS, Answer, ClientGone, Face, Receive, Scope, Send
from twinhull.web.middleware import Exchange, RequestIds, header_of

_log: Final = structlog.get_logger()

# A status that no client sees: it had left. As nginx counts it.
CLIENT_GONE: Final = 499
# After an answer that came before the request's end, so long is the rest taken and thrown away.
DRAIN_S: Final = 10.0

RenderError = Callable[[Scope, TwinhullError], Answer]
# What is settled before a face is asked; raises the failure that the request ends with.
Admit = Callable[[Scope], Awaitable[None]]
OnStart = Callable[[], Awaitable[None]]


class Finished(NamedTuple):
    """How a request went."""

    face: str
    status: int
    duration_s: float
    # Of the answer's body.
    sent_bytes: int
    request_id: bytes


class Observer(Protocol):
    """What is told of each request; must cost next to nothing."""

    def begun(self, face: str) -> None:
        """Count a request in."""
        ...

    def finished(self, scope: Scope, finished: Finished) -> None:
        """Count it out, and log it where an access log is wanted."""
        ...


class NoObserver:
    """Looks away."""

    def begun(self, face: str) -> None:
        """Do nothing."""

    def finished(self, scope: Scope, finished: Finished) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """A face, the paths that are its own, and how it writes down a failure."""

    # The last word of metrics: "registry", "harbor".
    name: str
    # Paths that begin with one of these; those without a slash at the end must match whole.
    prefixes: tuple[str, ...]
    face: Face
    render_error: RenderError
    admit: Admit | None = None


def routed(prefix: str, routes: Sequence[BaseRoute]) -> Face:
    """Return the Starlette routes under a prefix as a face; what no route takes raises NotFound."""

    async def not_found(scope: Scope, _receive: Receive, _send: Send) -> None:
        raise NotFound(f"path {str(scope['path'])[:200]!r} was not found")

    mounts: Sequence[BaseRoute] = [StarletteMount(prefix, routes=routes)] if prefix else routes
    return Router(mounts, default=not_found, redirect_slashes=False)


class Application:
    """All faces behind one ASGI callable."""

    def __init__(
        self,
        *,
        faces: Sequence[Mounted],
        fallback: Mounted,
        request_ids: RequestIds,
        clock: Clock,
        observer: Observer | None = None,
        on_startup: Sequence[OnStart] = (),
        on_shutdown: Sequence[OnStart] = (),
    ) -> None:
        """Try the faces in the given order; what is nobody's goes to the fallback, whose own prefixes don't matter."""
        self.faces = tuple(faces)
        self._by_prefix = [(prefix, face) for face in faces for prefix in face.prefixes]
        self._fallback = fallback
        self._request_ids = request_ids
        self._clock = clock
        self._observer = observer or NoObserver()
        self._on_startup = on_startup
        self._on_shutdown = on_shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or go along with the server's start and stop."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._mounted_at(scope["path"]).face(scope, receive, send)

    def _mounted_at(self, path: str) -> Mounted:
        for prefix, mounted in self._by_prefix:
            if path.startswith(prefix) and (prefix.endswith("/") or len(path) == len(prefix)):
                return mounted
        return self._fallback

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        mounted = self._mounted_at(scope["path"])
        request_id = self._request_ids.id_of(scope)
        exchange = Exchange(receive, send, request_id)
        scope[EXTRA_HEADERS] = exchange.extra_headers
        started_s = self._clock.monotonic_s()
        self._observer.begun(mounted.name)
        status = 0
        try:
            if mounted.admit is not None:
                await mounted.admit(scope)
            await mounted.face(scope, exchange.receive, exchange.send)
        except ClientGone:
            status = CLIENT_GONE
        except Exception as error:
            if exchange.status:
                # What has gone out can't be taken back, and an answer that ends too early must not look whole: the
                # failure goes through to the server, which cuts the connection.
                _log.warning("answer broken off", **_described(scope, request_id), reason=repr(error))
                raise
            await mounted.render_error(scope, _ours(error, scope, request_id)).send_to(exchange.send)
            await _drain(scope, exchange)
        finally:
            duration_s = self._clock.monotonic_s() - started_s
            status = status or exchange.status or CLIENT_GONE
            finished = Finished(mounted.name, status, duration_s, exchange.sent_bytes, request_id)
            self._observer.finished(scope, finished)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                for action in self._on_startup:
                    await action()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                for action in self._on_shutdown:
                    await action()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _described(scope: Scope, request_id: bytes) -> dict[str, str]:
    return {"method": scope["method"], "path": str(scope["path"])[:400], "request_id": request_id.decode("ascii")}


def _ours(error: Exception, scope: Scope, request_id: bytes) -> TwinhullError:
    if isinstance(error, TwinhullError):
        return error
    # Whatever this is, the client is told nothing of it.
    _log.error("request failed unexpectedly", **_described(scope, request_id), exc_info=error)
    return TwinhullError("internal server error")


async def _drain(scope: Scope, exchange: Exchange) -> None:
    """Take the rest of a refused request's body and throw it away.

    A connection that is closed with unread bytes on it is reset, and the client may lose the answer that says why.
    """
    has_body = header_of(scope, b"content-length") not in (b"", b"0") or header_of(scope, b"transfer-encoding")
    if exchange.body_is_read or not has_body:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while not exchange.body_is_read:
                await exchange.receive()
