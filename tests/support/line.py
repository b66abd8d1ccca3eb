"""A line between nodes that a test can slow down, cut, plug in one direction, and count bytes on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal, TypeVar

from twinhull.kit.clock import SystemClock

# "out": from who dials to who listens; "back": what the listener answers.
Direction = Literal["out", "back"]
DIRECTIONS: Final[tuple[Direction, Direction]] = ("out", "back")
_PIECE_BYTES: Final = 64 * 1024
_WAITING_MAX: Final = 256
_CALL_LIMIT_S: Final = 10.0
_LOOK_S: Final = 0.01
# Pings and their answers pass at all times.
_QUIET_BYTES: Final = 20_000
_QUIET_S: Final = 0.3

T = TypeVar("T")


class Line:
    """Passes TCP connections on to one address, in a thread of its own. Its attributes may be set at any time."""

    def __init__(self, refuses: Callable[[int], bool] = lambda _port: False, *, host: str = "127.0.0.1") -> None:
        """Open the near end at that host; `refuses` is asked for each connection, by the port that it came from."""
        self.target = ""
        self.refuses = refuses
        self.delay_s = 0.0
        # Bytes per second, each way and connection; 0 for as fast as it goes.
        self.rate = 0
        self.is_open = True
        # Directions in which nothing passes, while the connections stay.
        self.plugged: set[Direction] = set()
        self.passed: dict[Direction, int] = dict.fromkeys(DIRECTIONS, 0)
        self._allowance: dict[Direction, int | None] = dict.fromkeys(DIRECTIONS)
        self._writers: set[asyncio.StreamWriter] = set()
        self._clock = SystemClock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="line")
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accepted, host, 0))
        self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Break all connections and take no more."""
        self.is_open = False
        self._loop.call_soon_threadsafe(self._drop_all)

    def drop(self) -> None:
        """Break all connections; new ones are taken."""
        self._loop.call_soon_threadsafe(self._drop_all)

    def mend(self) -> None:
        """Let everything pass again."""
        self.is_open = True
        self.plugged.clear()
        self.delay_s = self.rate = 0
        for direction in DIRECTIONS:
            self.allow(direction, None)

    def allow(self, direction: Direction, count: int | None) -> None:
        """Let so many bytes more pass in that direction, and then cut everything; None for any number."""

        async def change() -> None:
            # In the line's own thread, which counts down.
            self._allowance[direction] = count

        self._call(change())

    def wait_quiet(self) -> None:
        """Return once next to nothing has passed for a while: what was under way has arrived."""
        before = -1
        while sum(self.passed.values()) - before > _QUIET_BYTES or before < 0:
            before = sum(self.passed.values())
            time.sleep(_QUIET_S)

    def close(self) -> None:
        """Take the line away."""

        async def end() -> None:
            self._server.close()
            self._drop_all()
            while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

        self._call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_LIMIT_S)
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_CALL_LIMIT_S)

    def _drop_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("peername")[1]
        far: asyncio.StreamWriter | None = None
        self._writers.add(writer)
        try:
            if not self.is_open or await asyncio.to_thread(self.refuses, port):
                writer.transport.abort()
                return
            host, _, far_port = self.target.rpartition(":")
            far_reader, far = await asyncio.open_connection(host, int(far_port))
            self._writers.add(far)
            await asyncio.gather(self._pass(reader, far, "out"), self._pass(far_reader, writer, "back"))
        except (OSError, asyncio.CancelledError):
            # Cancelled only when the line is taken away.
            pass
        finally:
            for end in (writer, far):
                if end is not None:
                    self._writers.discard(end)
                    end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        waiting: deque[tuple[float, bytes]] = deque()
        more = asyncio.Event()
        room = asyncio.Event()
        room.set()

        async def receive() -> None:
            with contextlib.suppress(OSError):
                while piece := await reader.read(_PIECE_BYTES):
                    waiting.append((self._clock.monotonic_s() + self.delay_s, piece))
                    more.set()
                    if len(waiting) >= _WAITING_MAX:
                        room.clear()
                    await room.wait()
            waiting.append((self._clock.monotonic_s() + self.delay_s, b""))
            more.set()

        receiving = asyncio.ensure_future(receive())
        try:
            while True:
                while not waiting:
                    more.clear()
                    await more.wait()
                due_s, piece = waiting.popleft()
                room.set()
                await self._wait_until(due_s, direction)
                if not piece:
                    with contextlib.suppress(OSError):
                        writer.write_eof()
                    return
                await self._send(writer, piece, direction)
        finally:
            receiving.cancel()

    async def _wait_until(self, due_s: float, direction: Direction) -> None:
        while (left_s := due_s - self._clock.monotonic_s()) > 0 or direction in self.plugged:
            await asyncio.sleep(left_s if 0 < left_s < _LOOK_S else _LOOK_S)

    async def _send(self, writer: asyncio.StreamWriter, piece: bytes, direction: Direction) -> None:
        allowed = self._allowance[direction]
        if allowed is not None:
            self._allowance[direction] = max(0, allowed - len(piece))
            piece = piece[:allowed]
        self.passed[direction] += len(piece)
        writer.write(piece)
        await writer.drain()
        if allowed is not None and self._allowance[direction] == 0:
            self.is_open = False
            self._drop_all()
        if self.rate:
            await asyncio.sleep(len(piece) / self.rate)
