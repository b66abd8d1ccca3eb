"""Waits for and stops the server processes that tests start."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from twinhull.kit.clock import SystemClock

POLL_S: Final = 0.05
KILL_LIMIT_S: Final = 10


class ServerFailed(AssertionError):
    """A server of the tests did not do what it should."""


def last_lines(log: Path, count: int = 60) -> str:
    """Return the end of a log for a failure report."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:])


def wait_until(ready: Callable[[], bool], *, process: subprocess.Popen[bytes], log: Path, limit_s: float) -> None:
    """Return once the server is ready; raise ServerFailed, with the end of its log, when it ends first or takes too long."""
    clock = SystemClock()
    give_up = clock.monotonic_s() + limit_s
    while not ready():
        # Waiting for the process's end is the pause between two looks, so that a server that dies is seen at once.
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(POLL_S)
            raise ServerFailed(f"{process.args!r} ended with {code}:\n{last_lines(log)}")
        if clock.monotonic_s() > give_up:
            raise ServerFailed(f"{process.args!r} was not ready after {limit_s} s:\n{last_lines(log)}")


def stop(process: subprocess.Popen[bytes], gently: signal.Signals, *, limit_s: float) -> int:
    """Ask the server to end and return its exit code; after the limit kill it with its process group and raise ServerFailed."""
    if process.poll() is None:
        process.send_signal(gently)
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired as late:
        # Started in a session of its own, the server's group holds it and its children, and nothing else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(KILL_LIMIT_S)
        raise ServerFailed(f"{process.args!r} was still there {limit_s} s after {gently.name}") from late
