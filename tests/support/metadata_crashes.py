"""A program that writes metadata again and again, killed one line of the store's own code later each time.

Started as `python -m tests.support.metadata_crashes TEMPLATE DIRECTORY`; says how often it was killed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final

import twinhull.metadata.sqlite
import twinhull.metadata.store
import twinhull.metadata.transaction
from tests.support.metadata import open_sqlite, push
from twinhull.kit.clock import SystemClock
from twinhull.metadata.store import Store

ACKNOWLEDGED: Final = "acknowledged"
# What begins, orders, commits and publishes. Between two statements inside a transaction one line is like another.
_TRACED: Final = {
    module.__file__ for module in (twinhull.metadata.store, twinhull.metadata.transaction, twinhull.metadata.sqlite)
}


def crash_at_every_line(template: Path, roots: Path) -> None:
    """Push one image in peace and a second one that is killed, in a fresh directory and one line later each time."""
    first = roots / "first"
    first.mkdir()
    shutil.copy(template, first / "metadata.db")
    store = Store(open_sqlite(first), node="n1", slot=0, clock=SystemClock())
    with store.write() as transaction:
        push(transaction, b"first", tag="first")
    store.close()
    for line in itertools.count(1):
        root = roots / f"{line:04}"
        shutil.copytree(first, root)
        child = os.fork()
        if not child:
            store = Store(open_sqlite(root), node="n1", slot=0, clock=SystemClock())
            sys.settrace(Countdown(line).enter)
            with store.write() as transaction:
                push(transaction, b"second", tag="second")
            sys.settrace(None)
            (root / ACKNOWLEDGED).touch()
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            print(line - 1)  # noqa: T201 - that is what it tells its parent
            return


class Countdown:
    """Kills this process before it runs one more line of the store's own code than it may."""

    def __init__(self, lines: int) -> None:
        """Let so many lines run."""
        self._left = lines

    def enter(self, frame: FrameType, _event: str, _argument: object) -> Countdown | None:
        """Follow a function if it is the store's."""
        return self if frame.f_code.co_filename in _TRACED else None

    def __call__(self, _frame: FrameType, event: str, _argument: object) -> Countdown:
        """Count a line."""
        if event == "line":
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


if __name__ == "__main__":
    crash_at_every_line(Path(sys.argv[1]), Path(sys.argv[2]))
