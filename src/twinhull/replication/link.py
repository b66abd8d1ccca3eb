"""Between an HTTP worker and the agent of its node: calls and notices as msgpack frames over a Unix socket.

A call has a number and gets one answer; a notice has none. An agent that is gone answers nothing: the caller is told at
once, and goes on with what it can do alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from twinhull.kit.errors import PeerUnavailable, TooMany, TwinhullError

log = structlog.get_logger(__name__)

_LENGTH: Final = struct.Struct("<I")
# The longest are manifests of other registries.
_FRAME_BYTES_MAX: Final = 5 * 1024 * 1024
_RECONNECT_S: Final = 0.1
_CLOSE_S: Final = 1.0
# An agent that was there a moment ago, or is about to start with its node, is waited for; one that stays away is not.
_PATIENCE_S: Final = 1.0
_MISSED_FOR_MAX_S: Final = 3.0
_SOCKET_PATH_BYTES_MAX: Final = 100


class Reach(msgspec.Struct, frozen=True, kw_only=True, tag="reach"):
    """Wait until this node's change is as safe as the level says. The answer is the level reached."""

    seq: int
    level: str
    blobs: list[tuple[str, int]] = []
    # To fail rather than to reach less than all peers.
    refuse: bool = False


class Find(msgspec.Struct, frozen=True, kw_only=True, tag="find"):
    """Ask the peers for a record and merge it. The answer is whether any of them has it."""

    kind: str
    key: str


class Fetch(msgspec.Struct, frozen=True, kw_only=True, tag="fetch"):
    """Bring a blob from a peer. The answer is the transfer's number and the id of its upload, "" when the blob is here."""

    digest: str
    size: int


class Beyond(msgspec.Struct, frozen=True, kw_only=True, tag="beyond"):
    """Wait until a blob that is being fetched has more bytes than this. The answer is how many, -1 when it is here."""

    digest: str
    number: int
    offset: int


class AskUpstream(msgspec.Struct, frozen=True, kw_only=True, tag="ask-upstream"):
    """Ask the registry that a project stands for what it names so. The answer is a Named.

    `have` is the digest of what the reference names here. Unless somebody only looks, what upstream has is kept here.
    """

    repository: str
    reference: str
    have: str
    look_only: bool


class Named(msgspec.Struct, frozen=True, tag="named"):
    """What upstream names so; without content when that is here."""

    digest: str
    media_type: str = ""
    content: bytes = b""


class SizeUpstream(msgspec.Struct, frozen=True, kw_only=True, tag="size-upstream"):
    """Ask the registry that a project stands for how long a blob is. The answer is its size."""

    repository: str
    digest: str


class FetchUpstream(msgspec.Struct, frozen=True, kw_only=True, tag="fetch-upstream"):
    """Bring a blob from the registry that a project stands for. The answer is a Coming."""

    repository: str
    digest: str


class Coming(msgspec.Struct, frozen=True, tag="coming"):
    """A blob that is being brought: its size, what Fetch answers, and how much of it is here."""

    size: int
    fetched: str
    offset: int


class Status(msgspec.Struct, frozen=True, kw_only=True, tag="status"):
    """Ask how this node and its peers are. The answer is what `cluster status --json` prints."""


class Locate(msgspec.Struct, frozen=True, kw_only=True, tag="locate"):
    """Ask all nodes what they have of these records and blobs. The answer is a JSON list, a node each."""

    records: list[tuple[str, str]]
    blobs: list[tuple[str, int]]


class Grown(msgspec.Struct, frozen=True, kw_only=True, tag="grown"):
    """Notice: an upload of this node has so many bytes on disk."""

    upload_id: str
    size: int


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """Notice: an upload of this node became this blob, or came to nothing."""

    upload_id: str
    digest: str | None


UpstreamCall = AskUpstream | SizeUpstream | FetchUpstream
Call = Reach | Find | Fetch | Beyond | Status | Locate | UpstreamCall
Notice = Grown | Ended
Result = str | int | bool | Named | Coming


class _Request(msgspec.Struct, frozen=True, array_like=True):
    number: int
    body: Call | Notice


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    number: int
    result: Result
    # Name of the failure's class, with its message as the result; empty when all went well.
    failure: str = ""
    # After how long another try makes sense, where the failure says so.
    retry_after_s: int = 0


_encoder: Final = msgspec.msgpack.Encoder()
_requests: Final[msgspec.msgpack.Decoder[_Request]] = msgspec.msgpack.Decoder(_Request)
_answers: Final[msgspec.msgpack.Decoder[_Answer]] = msgspec.msgpack.Decoder(_Answer)


def _frame(message: _Request | _Answer) -> bytes:
    packed = _encoder.encode(message)
    return _LENGTH.pack(len(packed)) + packed


async def _read_frame(reader: asyncio.StreamReader) -> bytes | None:
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > _FRAME_BYTES_MAX:
            return None
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        return None


def socket_name(path: Path) -> str:
    """Return a name for the socket that fits: one may have 107 bytes on Linux, so a long one goes through its folder."""
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX:
        return str(path)
    # The descriptor stays open for the life of the process, as the socket's name does.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{folder}/{path.name}"


class LinkServer:
    """The agent's end."""

    def __init__(
        self, path: Path, *, on_call: Callable[[Call], Awaitable[Result]], on_notice: Callable[[Notice], None]
    ) -> None:
        """Take the socket's path, and who answers."""
        self._path = path
        self._on_call = on_call
        self._on_notice = on_notice
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self) -> None:
        """Listen; a socket file that a dead agent left is replaced."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path=socket_name(self._path))
        self._path.chmod(0o600)

    async def close(self) -> None:
        """Stop listening and drop what is under way; the workers are told at once."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        for writer in self._connections.values():
            writer.close()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=_CLOSE_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._connections[serving] = writer
        try:
            while (packed := await _read_frame(reader)) is not None:
                request = _requests.decode(packed)
                if isinstance(request.body, Grown | Ended):
                    self._on_notice(request.body)
                    continue
                task = asyncio.get_running_loop().create_task(self._answer(request.number, request.body, writer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except msgspec.MsgspecError as error:
            log.warning("worker sent a frame that cannot be read", error=str(error))
        finally:
            del self._connections[serving]
            writer.close()

    async def _answer(self, number: int, call: Call, writer: asyncio.StreamWriter) -> None:
        try:
            answer = _Answer(number, await self._on_call(call))
        except TwinhullError as error:
            after_s = error.retry_after_s if isinstance(error, TooMany) else 0
            answer = _Answer(number, error.message, type(error).__name__, after_s)
        except Exception:  # a fault of ours must not leave the caller waiting for ever
            log.exception("call of a worker failed", call=type(call).__name__)
            answer = _Answer(number, "this node's agent failed", PeerUnavailable.__name__)
        if not writer.is_closing():
            writer.write(_frame(answer))


class AgentLink(Protocol):
    """The way to the agent, as a worker sees it."""

    async def call(self, call: Call) -> Result:
        """Return the agent's answer; raises what it failed with, PeerUnavailable when it is gone."""
        ...

    def notify(self, notice: Notice) -> None:
        """Send a notice; lost when the agent is gone."""
        ...


class LinkClient:
    """The worker's end: connects when the agent is there, and connects again when it comes back."""

    def __init__(self, path: Path, *, failures: dict[str, type[TwinhullError]], patience_s: float = _PATIENCE_S) -> None:
        """Take the socket's path, the failures that the agent may answer with, and how long to wait for an absent agent."""
        self._name = socket_name(path)
        self._patience_s = patience_s
        self._failures = failures
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._missed_since_s: float | None = None
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Result]] = {}

    @property
    def is_connected(self) -> bool:
        """Tell whether the agent is there."""
        return self._writer is not None

    async def run(self) -> None:
        """Keep the connection, for ever."""
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(self._name)
                self._connected.set()
                while (packed := await _read_frame(reader)) is not None:
                    self._settle(_answers.decode(packed))
            except OSError:
                pass
            finally:
                self._lost()
            await asyncio.sleep(_RECONNECT_S)

    def _settle(self, answer: _Answer) -> None:
        future = self._waiting.pop(answer.number, None)
        if future is None or future.done():
            return
        if answer.failure:
            failure = self._failures.get(answer.failure, PeerUnavailable)
            error = failure(str(answer.result))
            if isinstance(error, TooMany):
                error.retry_after_s = answer.retry_after_s
            future.set_exception(error)
        else:
            future.set_result(answer.result)

    def _lost(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._missed_since_s = None
        self._writer = None
        self._connected.clear()
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(PeerUnavailable("this node's agent stopped"))

    async def call(self, call: Call) -> Result:
        """Return the agent's answer; raises what it failed with, PeerUnavailable when it is gone."""
        if self._writer is None:
            await self._wait_connected()
        if self._writer is None:
            raise PeerUnavailable("this node's agent is not running", hint="the supervisor restarts it; see the log")
        self._number += 1
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = future
        number = self._number
        try:
            self._writer.write(_frame(_Request(number, call)))
            return await future
        finally:
            self._waiting.pop(number, None)

    async def _wait_connected(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._missed_since_s is None:
            self._missed_since_s = now_s
        if now_s - self._missed_since_s < _MISSED_FOR_MAX_S:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s):
                    await self._connected.wait()

    def notify(self, notice: Notice) -> None:
        """Send a notice; lost when the agent is gone."""
        if self._writer is not None:
            self._writer.write(_frame(_Request(0, notice)))
