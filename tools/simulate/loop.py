"""An event loop in virtual time: nothing really waits, and what the program does depends on a seed alone."""

from __future__ import annotations

import asyncio
import contextvars
import random
import selectors
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, Final, Protocol, TypeVar

T = TypeVar("T")

# Nothing takes as much as this between two things that happen: whoever waits so long waits for ever.
_STUCK_S: Final = 24 * 3600.0
_BURIAL_S: Final = 30.0


class Process:
    """Code that lives and dies together, as a process does: when it is killed, not one more line of it runs."""

    def __init__(self, name: str, disk_delay_s: Callable[[], float]) -> None:
        """Take a name for people, and what tells how long work in a thread takes to begin, and to be heard of."""
        self.name = name
        self.alive = True
        self.disk_delay_s = disk_delay_s
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.processes.append(self)
        self._on_death: list[Callable[[], None]] = []
        # What was due after its death.
        self._due: list[Callable[[], object]] = []

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something in this process."""
        context = contextvars.copy_context()
        context.run(_PROCESS.set, self)
        return asyncio.get_running_loop().create_task(coroutine, context=context)

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T | None:
        """Run something in this process and return its result; None if the process dies meanwhile."""
        ended: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()

        def gone() -> None:
            if not ended.done():
                ended.set_result(None)

        self.on_death(gone)
        task = self.spawn(coroutine)
        task.add_done_callback(lambda done: None if ended.done() else ended.set_result(done.result()))
        try:
            return await ended
        finally:
            self.forget(gone)

    def on_death(self, action: Callable[[], None]) -> None:
        """Have something done when it dies."""
        self._on_death.append(action)

    def kill(self) -> None:
        """End it, as SIGKILL would."""
        if self.alive:
            self.alive = False
            actions, self._on_death = self._on_death, []
            for action in actions:
                action()

    def when_alive(self, action: Callable[[], object]) -> None:
        """Do it now if it lives."""
        if self.alive:
            action()
        else:
            self._due.append(action)

    def bury(self) -> None:
        """Let what was under way run to its end after all, when nothing counts any more: Python wants all coroutines ended."""
        self.alive = True
        loop = asyncio.get_running_loop()
        for action in self._due:
            loop.call_soon(action, context=nowhere())

    def forget(self, action: Callable[[], None]) -> None:
        """Do not do that when it dies."""
        if action in self._on_death:
            self._on_death.remove(action)


_PROCESS: Final[ContextVar[Process | None]] = ContextVar("process", default=None)


def current_process() -> Process:
    """Return the process whose code is running."""
    process = _PROCESS.get()
    if process is None:
        raise RuntimeError("this code runs in no process")
    return process


def nowhere() -> Context:
    """Return a context of no process: what is on the wire outlives its sender."""
    return Context()


class _NoSelector(selectors.BaseSelector):
    """Waits for nothing but time, which it makes pass."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:  # noqa: ANN401 - as its base
        """Take note, and never look at it."""
        key = selectors.SelectorKey(fileobj, -1, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:  # noqa: ANN401 - as its base
        """Forget it."""
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let the time pass until the next thing is due."""
        if timeout is None or timeout > _STUCK_S:
            raise RuntimeError("the simulation waits for something that will never come")
        if timeout > 0:
            self.now_s += timeout
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return what was registered."""
        return self._keys

    def close(self) -> None:
        """Do nothing."""


class _Callback(Protocol):
    def __call__(self, *arguments: Any) -> object: ...  # noqa: ANN401 - whatever the callback takes


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs callbacks in the order in which asyncio would; timers take no time; threads are calls after a drawn delay."""

    def __init__(self, chance: random.Random) -> None:
        """Take where the delays of threads are drawn from."""
        self._virtual = _NoSelector()
        super().__init__(self._virtual)
        self.processes: list[Process] = []
        self._chance = chance
        # What was raised and nobody heard of.
        self.problems: list[str] = []
        self.set_exception_handler(lambda _, context: self._note(context))

    def time(self) -> float:
        """Return the virtual seconds since the start."""
        return self._virtual.now_s

    def call_soon(  # type: ignore[override]
        self,
        callback: _Callback,
        *args: Any,  # noqa: ANN401 - as its base
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Call back soon, unless the process has died by then."""
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        return super().call_soon(_if_alive, process, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: _Callback,
        *args: Any,  # noqa: ANN401 - as its base
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back then, unless the process has died by then."""
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        return super().call_at(when, _if_alive, process, callback, *args, context=context)

    def call_soon_threadsafe(  # type: ignore[override]
        self,
        callback: _Callback,
        *args: Any,  # noqa: ANN401 - as its base
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Do what call_soon does: there are no threads."""
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self,
        _executor: object,
        function: Callable[..., T],
        *arguments: Any,  # noqa: ANN401 - as its base
    ) -> asyncio.Future[T]:
        """Call the function after a while, all at once, and tell of its result another while later."""
        process = current_process()
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            # A thread that has begun does not hear that nobody waits for it any more.
            if future.cancelled() and self._chance.random() < 0.5:
                return
            try:
                tell = partial(_tell, future, function(*arguments))
            except Exception as error:  # noqa: BLE001 - handed on to who waits
                tell = partial(_tell_failure, future, error)
            self.call_later(process.disk_delay_s(), tell)

        self.call_later(process.disk_delay_s(), work)
        return future

    def end(self) -> None:
        """Cancel whatever still runs, and close."""
        self.set_exception_handler(lambda _loop, _context: None)
        self.run_until_complete(self._bury())
        self.close()

    async def _bury(self) -> None:
        for task in asyncio.all_tasks(self) - {asyncio.current_task(self)}:
            task.cancel()
        for process in self.processes:
            process.bury()
        if tasks := asyncio.all_tasks(self) - {asyncio.current_task(self)}:
            await asyncio.wait(tasks, timeout=_BURIAL_S)

    def _note(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        message = str(context.get("message", ""))
        if "was destroyed but it is pending" not in message:
            self.problems.append(f"{message}: {error!r}")


def _if_alive(process: Process, callback: _Callback, *arguments: Any) -> None:  # noqa: ANN401 - whatever the callback takes
    process.when_alive(partial(callback, *arguments))


def _tell(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _tell_failure(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


class VirtualClock:
    """A machine's clocks: the wall clock can be set, the other one only runs."""

    def __init__(self, loop: VirtualLoop, *, started_ms: int) -> None:
        """Start right."""
        self._loop = loop
        self._started_ms = started_ms
        self._booted_s = 0.0
        # By how much the wall clock is wrong.
        self.off_ms = 0

    def unix_ms(self) -> int:
        """Return what the wall clock shows."""
        return self._started_ms + int(self._loop.time() * 1000) + self.off_ms

    def monotonic_s(self) -> float:
        """Return the seconds since the machine was started."""
        return self._loop.time() - self._booted_s

    def reboot(self) -> None:
        """Count from 0 again."""
        self._booted_s = self._loop.time()
