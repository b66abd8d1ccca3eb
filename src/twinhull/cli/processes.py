"""Processes: forked from one that has loaded the program, watched over, restarted with back-off, never left behind.

The supervisor imports everything once and then only forks, so that the processes of a node share what they have
loaded: half the memory of starting each afresh, and a restart takes milliseconds. It must therefore stay a process of
one thread that has opened no database and started no event loop. Knows nothing of what the processes do.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import pickle
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn, TypeVar, cast

import structlog

from twinhull.kit.clock import Clock
from twinhull.kit.errors import Conflict, TwinhullError

Result = TypeVar("Result")

_log: Final = structlog.get_logger()

# linux/prctl.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

BACKOFF_FIRST_S: Final = 0.25
BACKOFF_MAX_S: Final = 30.0
# Who has run for this long has recovered: the next death is the first again.
STABLE_AFTER_S: Final = 20.0
# After a kill of the supervisor the kernel ends the others at once; this is ample.
_LOCK_PATIENCE_S: Final = 10.0
_LOCK_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One process to keep running: its name and the work it does until SIGTERM."""

    name: str
    work: Callable[[], None]


class Backoff:
    """How long to wait before the next start: longer with each quick death, short again after a stable life."""

    def __init__(self) -> None:
        """Begin with the shortest pause."""
        self._last_s = 0.0

    def next_s(self, lived_s: float) -> float:
        """Return the pause after a process that lived for so long. No jitter: one machine's processes are no crowd."""
        stable = lived_s >= STABLE_AFTER_S
        self._last_s = BACKOFF_FIRST_S if stable or not self._last_s else min(self._last_s * 2, BACKOFF_MAX_S)
        return self._last_s


class _Child:
    """A role, the process that plays it now, and when to start the next one."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.pid = 0
        self.started_s = 0.0
        self.restart_at_s: float | None = 0.0
        self._backoff = Backoff()

    def ended(self, now_s: float) -> float:
        """Note that the process is gone, and return after how long the next one is to start."""
        self.pid = 0
        pause_s = self._backoff.next_s(now_s - self.started_s)
        self.restart_at_s = now_s + pause_s
        return pause_s


class Supervisor:
    """Keeps the roles running until it is told to stop, then ends them one after the other in their order."""

    def __init__(
        self, roles: Sequence[Role], *, clock: Clock, stop_timeout_s: float, on_stop: Callable[[], None] = lambda: None
    ) -> None:
        """Take the roles in the order in which they are to be stopped, the time for it, and who is told when that begins."""
        self._on_stop = on_stop
        self._children = [_Child(role) for role in roles]
        self._clock = clock
        self._stop_timeout_s = stop_timeout_s
        self._stops_asked = 0

    def run(self) -> None:
        """Return when the program was told to stop and every process has ended."""
        with _signals_as_bytes(self._on_signal) as wakeup:
            gc.collect()
            # Objects made so far are never looked at again by the collector: their pages stay shared.
            gc.freeze()
            while not self._stops_asked:
                self._reap()
                self._start_due()
                _wait_readable(wakeup, self._pause_s())
            self._stop(wakeup)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._stops_asked += 1

    def _pause_s(self) -> float | None:
        due = [child.restart_at_s for child in self._children if child.restart_at_s is not None]
        return max(0.0, min(due) - self._clock.monotonic_s()) if due else None

    def _start_due(self) -> None:
        now_s = self._clock.monotonic_s()
        for child in self._children:
            if child.restart_at_s is not None and child.restart_at_s <= now_s:
                child.pid = fork(child.role.work, child.role.name)
                child.started_s = now_s
                child.restart_at_s = None

    def _reap(self) -> None:
        for child in self._children:
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                again_s = child.ended(self._clock.monotonic_s())
                if not self._stops_asked:
                    end = describe_end(status)
                    _log.error("process ended unasked", process=child.role.name, pid=pid, end=end, restart_in_s=again_s)

    def _stop(self, wakeup: int) -> None:
        _log.info("stopping", within_s=self._stop_timeout_s)
        self._on_stop()
        deadline_s = self._clock.monotonic_s() + self._stop_timeout_s
        for child in self._children:
            if child.pid:
                os.kill(child.pid, signal.SIGTERM)
            while child.pid:
                left_s = deadline_s - self._clock.monotonic_s()
                if left_s <= 0 or self._stops_asked > 1:
                    _log.warning("process killed, it did not stop in time", process=child.role.name, pid=child.pid)
                    os.kill(child.pid, signal.SIGKILL)
                    os.waitpid(child.pid, 0)
                    child.pid = 0
                    break
                _wait_readable(wakeup, left_s)
                self._reap()


def fork(work: Callable[[], None], name: str) -> int:
    """Return the id of a new process that does the work and ends; it dies with this one, whatever ends this one."""
    parent = os.getpid()
    pid = _fork()
    if not pid:
        # Its own group: Ctrl-C on a terminal is for the supervisor, which stops the others in order.
        os.setpgid(0, 0)
        _become_child(parent, name)
        _run_and_exit(work, name)
    return pid


def call_in_child(work: Callable[[], Result], name: str) -> Result:
    """Return what the work returns when done in a process of its own, or raise what it raises, if that is a failure of ours.

    For what opens databases and starts loops before the supervisor forks the lasting processes.
    """
    parent = os.getpid()
    reader, writer = os.pipe()
    pid = _fork()
    if not pid:
        os.close(reader)
        _become_child(parent, name)
        _run_and_exit(lambda: _answer(work, writer), name)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    _, status = os.waitpid(pid, 0)
    if not answer:
        raise TwinhullError(f"{name} failed: {describe_end(status)}", hint="see the messages above")
    outcome, value = pickle.loads(answer)  # noqa: S301 - written by our own child a moment ago
    if outcome == "raised":
        raise cast("TwinhullError", value)
    return cast("Result", value)


def describe_end(status: int) -> str:
    """Return how a process ended, in words, from what waitpid says."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def die_with_parent(number: signal.Signals, parent: int) -> None:
    """Ask the kernel to send this process the signal when its parent ends; where there is no such call, do nothing."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:
        # It ended between the fork and the call above.
        os.kill(os.getpid(), number)


def name_process(name: str) -> None:
    """Show up under this name, of 15 letters at most, in ps and top."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


@contextmanager
def only_process_of(lock: Path, clock: Clock) -> Iterator[None]:
    """Hold the data directory for this process and all it forks, or raise Conflict when others hold it.

    The lock is inherited by every process forked in here: it is free only when the last of them is gone.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+", encoding="ascii") as file:
        deadline_s = clock.monotonic_s() + _LOCK_PATIENCE_S
        while not _try_lock(file.fileno()):
            file.seek(0)
            pid = file.read().strip()
            if is_running(pid) or clock.monotonic_s() > deadline_s:
                raise Conflict(
                    f"{lock.parent.parent} is in use by another twinhull, process {pid or 'unknown'}",
                    hint="stop it first, or choose another --data-dir",
                )
            # Its supervisor was killed; what it started is just being ended by the kernel.
            threading.Event().wait(_LOCK_POLL_S)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def is_running(pid: str) -> bool:
    """Tell whether there is a process with this id that has not ended; a zombie has."""
    if not pid.isdigit():
        return False
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _assert_single_threaded() -> None:
    # A lock held by another thread at the moment of the fork would be held for ever in the child.
    names: Mapping[int | None, str] = {thread.ident: thread.name for thread in threading.enumerate()}
    if len(names) > 1:
        raise RuntimeError(f"cannot fork: an import has started threads: {', '.join(sorted(names.values()))}")


def _fork() -> int:
    _assert_single_threaded()
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal that comes before the child has let go of the supervisor's handlers must not be lost in them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    pid = os.fork()
    if not pid:
        signal.set_wakeup_fd(-1)
        default_stop_signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def default_stop_signals() -> None:
    """Let stop signals end this process; for one that has inherited another's handlers."""
    for number in (*_STOP_SIGNALS, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _become_child(parent: int, name: str) -> None:
    die_with_parent(signal.SIGKILL, parent)
    name_process(f"twinhull {name}")


def _run_and_exit(work: Callable[[], None], name: str) -> NoReturn:
    code = 1
    try:
        work()
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except TwinhullError as error:
        _log.error("process failed", process=name, error=error.message, hint=error.hint)
    except BaseException:  # noqa: BLE001 - whatever it is, the process ends here, and the log says why
        _log.exception("process failed", process=name)
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        # Not sys.exit: what the supervisor would clean up at its end is not the child's to clean up.
        os._exit(code)


def _answer(work: Callable[[], object], writer: int) -> None:
    try:
        outcome: tuple[str, object] = ("returned", work())
    except TwinhullError as error:
        outcome = ("raised", error)
    with os.fdopen(writer, "wb") as answers:
        answers.write(pickle.dumps(outcome))


@contextmanager
def _signals_as_bytes(handler: Callable[[int, FrameType | None], None]) -> Iterator[int]:
    """Give a descriptor that becomes readable at each signal of interest; the handler is called too."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    numbers = (*_STOP_SIGNALS, signal.SIGCHLD)
    before_wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield reader
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
        signal.set_wakeup_fd(before_wakeup)
        os.close(reader)
        os.close(writer)


def _wait_readable(descriptor: int, timeout_s: float | None) -> None:
    select.select([descriptor], [], [], timeout_s)
    with suppress(BlockingIOError):
        os.read(descriptor, 4096)
