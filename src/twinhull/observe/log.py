"""Structured logs: constant lower-case messages with fields, one line each, on standard error; nothing secret in them.

Every module logs with `structlog.get_logger()`; this one says where that goes and what it looks like. Lines for
requests do not take that way: they are written by `AccessLog`, which costs a few microseconds each.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Final, TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from twinhull.config.settings import LogSettings
from twinhull.config.values import LogFormat, Secret
from twinhull.kit.clock import Clock, rfc3339

# The id of the request that is being answered; every line that is logged meanwhile carries it.
REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")

HIDDEN: Final = "***"
_SECRET_WORDS: Final = frozenset(
    {
        "authorization",
        "cookie",
        "cookies",
        "credential",
        "credentials",
        "passphrase",
        "passwd",
        "password",
        "passwords",
        "secret",
        "secrets",
        "token",
    }
)
_SECRET_NAMES: Final = frozenset({"api_key", "private_key", "set_cookie"})
_WORD: Final = re.compile(r"[a-z0-9]+")
_SCHEMES: Final = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_USERINFO: Final = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")
_DEPTH_MAX: Final = 4
# POSIX writes this much to a pipe in one piece, so that lines of several processes do not mix.
_PIPE_PIECE_BYTES: Final = 4096
_FLUSH_AFTER_S: Final = 0.1
_FLUSH_AT_LINES: Final = 256
_NOISY: Final = ("aiohttp.access", "alembic", "asyncio", "sqlalchemy.engine")


def configure_logging(
    settings: LogSettings, clock: Clock, *, stream: TextIO | None = None, fields: Mapping[str, str] | None = None
) -> None:
    """Send all logs of this process, structlog's and the standard library's, to the stream; the fields go into each line."""
    stream = stream or sys.stderr
    number = logging.getLevelNamesMapping()[settings.level.name]
    first: list[Processor] = [
        _Context(dict(fields or {})),
        structlog.processors.add_log_level,
        _Time(clock),
        structlog.processors.format_exc_info,
    ]
    last: list[Processor] = [redact, _renderer(chosen_format(settings.format, stream), stream)]
    structlog.configure(
        processors=[*first, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Forgiving(stream))),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=first, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


class _Forgiving:
    """A stream that takes what it can: a full disk under the log must not become a failure of what was being logged."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def chosen_format(wanted: LogFormat, stream: TextIO) -> LogFormat:
    """Return `console` or `json`: what was wanted, or what suits the stream."""
    if wanted is not LogFormat.AUTO:
        return wanted
    return LogFormat.CONSOLE if stream.isatty() else LogFormat.JSON


def _renderer(chosen: LogFormat, stream: TextIO) -> Processor:
    if chosen is LogFormat.JSON:
        return _render_json
    # Plain tracebacks: the colourful ones print local variables, and with them passwords.
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, timestamp_key="time", sort_keys=False
    )


_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    message = event.pop("event", "")
    fields = {"time": event.pop("time", ""), "level": event.pop("level", ""), "message": message, **event}
    try:
        return _encode(fields).decode()
    except (TypeError, UnicodeEncodeError):
        # Half of a surrogate pair, or keys that are no text: logging must never be what fails.
        return json.dumps(fields, default=str, skipkeys=True)


class _Context:
    """Adds the process's fields and the request's id."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        for name, value in self._fields.items():
            event.setdefault(name, value)
        request_id = REQUEST_ID.get()
        if request_id:
            event.setdefault("request_id", request_id)
        return event


class _Time:
    """Adds the time, by the clock given."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["time"] = rfc3339(self._clock.unix_ms())
        return event


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Return the event with every secret hidden: by the name of its field, by its type, by how it looks in a text."""
    for name, value in event.items():
        event[name] = _redacted(name, value, 0)
    return event


def _redacted(name: object, value: object, depth: int) -> object:
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, (str, bytes)):
        if _names_a_secret(name):
            return HIDDEN
        text = value if isinstance(value, str) else value.decode("utf-8", "replace")
        return _USERINFO.sub(rf"\1:{HIDDEN}@", _SCHEMES.sub(rf"\1 {HIDDEN}", text))
    if depth >= _DEPTH_MAX:
        return HIDDEN if isinstance(value, (Mapping, list, tuple)) else value
    if isinstance(value, Mapping):
        return {str(key): _redacted(key, inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        # ASGI headers are pairs of name and value.
        if len(value) == 2 and isinstance(value[0], (str, bytes)):
            return [_redacted("", value[0], depth + 1), _redacted(value[0], value[1], depth + 1)]
        return [_redacted(name, inner, depth + 1) for inner in value]
    return value


def _names_a_secret(name: object) -> bool:
    text = name.decode("latin-1") if isinstance(name, bytes) else str(name)
    words = _WORD.findall(text.lower())
    return not _SECRET_WORDS.isdisjoint(words) or "_".join(words) in _SECRET_NAMES


class AccessLog:
    """A line for each request, gathered for a moment and written together; for use on one event loop."""

    def __init__(self, settings: LogSettings, clock: Clock, *, stream: TextIO | None = None) -> None:
        """Write to the stream's descriptor; when access lines are off, `write` does nothing."""
        stream = stream or sys.stderr
        self.enabled: Final = settings.access
        self.lost_lines = 0
        self._json = chosen_format(settings.format, stream) is LogFormat.JSON
        self._descriptor = stream.fileno()
        self._piecewise = stat.S_ISFIFO(os.fstat(self._descriptor).st_mode)
        self._clock = clock
        self._lines: list[str] = []
        self._second = -1
        self._second_text = ""
        self._flush_later: asyncio.TimerHandle | None = None

    def write(  # noqa: PLR0917 - called for each request: keywords would cost as much as the rest
        self, method: str, path: str, status: int, elapsed_s: float, sent_bytes: int, client: str, user: str, request_id: str
    ) -> None:
        """Note an answered request; the query is left out, as clients put tokens there."""
        if not self.enabled:
            return
        path, client, user, request_id = _escaped(path), _escaped(client), _escaped(user), _escaped(request_id)
        now_ms = self._clock.unix_ms()
        second = now_ms // 1000
        if second != self._second:
            self._second, self._second_text = second, rfc3339(now_ms)[:20]
        if self._json:
            line = (
                f'{{"time":"{self._second_text}{now_ms % 1000:03d}Z","level":"info","message":"request","method":"{method}",'
                f'"path":"{path}","status":{status},"elapsed_ms":{elapsed_s * 1000:.3f},"sent_bytes":{sent_bytes},'
                f'"client":"{client}","user":"{user}","request_id":"{request_id}"}}\n'
            )
        else:
            line = (
                f"{self._second_text}{now_ms % 1000:03d}Z {status} {method} {path} {elapsed_s * 1000:.1f} ms "
                f"{sent_bytes} B from {client} by {user or '-'} request {request_id}\n"
            )
        self._lines.append(line)
        if len(self._lines) >= _FLUSH_AT_LINES:
            self.flush()
        elif self._flush_later is None:
            self._flush_later = asyncio.get_running_loop().call_later(_FLUSH_AFTER_S, self.flush)

    def flush(self) -> None:
        """Write what was gathered; lines that a stuck reader does not take are counted and lost, never waited for."""
        if self._flush_later is not None:
            self._flush_later.cancel()
            self._flush_later = None
        lines, self._lines = self._lines, []
        for piece in _pieces(lines, _PIPE_PIECE_BYTES if self._piecewise else 1 << 20):
            try:
                os.write(self._descriptor, piece)
            except OSError:
                self.lost_lines += piece.count(b"\n")


def _escaped(text: str) -> str:
    # What clients send can neither break a line nor fake one; JSON's escapes are readable in a plain line too.
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return json.dumps(text)[1:-1]


def _pieces(lines: list[str], limit_bytes: int) -> list[bytes]:
    pieces: list[bytes] = []
    gathered = bytearray()
    for line in lines:
        encoded = line.encode("utf-8", "replace")
        if gathered and len(gathered) + len(encoded) > limit_bytes:
            pieces.append(bytes(gathered))
            gathered.clear()
        gathered += encoded
    return [*pieces, bytes(gathered)] if gathered else pieces
