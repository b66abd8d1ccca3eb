"""Programs that a supervisor keeps running, for its tests: `python -m tests.support.supervised PROGRAM DIRECTORY`.

Each role notes in DIRECTORY/NAME what happens to it, one word and its process id a line, and all do in DIRECTORY/all.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from twinhull.cli.processes import Role, Supervisor, call_in_child, only_process_of
from twinhull.kit.clock import SystemClock
from twinhull.kit.errors import JoinRefused, TwinhullError


def note(directory: Path, name: str, word: str) -> None:
    """Add a line to what a role has noted."""
    with (directory / name).open("a", encoding="ascii") as notes:
        notes.write(f"{word} {os.getpid()}\n")
    with (directory / "all").open("a", encoding="ascii") as notes:
        notes.write(f"{name} {word}\n")


def patient(directory: Path, name: str) -> None:
    """Wait for SIGTERM and end."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    note(directory, name, "start")
    while not stopped.wait(0.05):
        pass
    note(directory, name, "stop")


def deaf(directory: Path, name: str) -> None:
    """Take no notice of SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(directory, name, "start")
    threading.Event().wait(600)


def mortal(directory: Path, name: str) -> None:
    """End at once."""
    note(directory, name, "start")
    raise OSError("cannot go on")


def supervise(directory: Path, works: dict[str, Callable[[Path, str], None]], stop_timeout_s: float) -> None:
    """Run these works under a supervisor that holds the directory."""
    clock = SystemClock()
    roles = [Role(name=name, work=partial(work, directory, name)) for name, work in works.items()]
    with only_process_of(directory / "run" / "lock", clock):
        note(directory, "supervisor", "start")
        Supervisor(roles, clock=clock, stop_timeout_s=stop_timeout_s).run()
    note(directory, "supervisor", "stop")


def refuse() -> None:
    """Fail as we do."""
    raise JoinRefused("token was used", hint="invite again")


def children(directory: Path) -> None:
    """Call in children: one that answers, one that fails as we do, one that dies, one that fails otherwise."""
    caller = os.getpid()
    answers = [str(call_in_child(lambda: os.getpid() != caller, "work"))]
    for work in (refuse, partial(os.kill, 0, 0), partial(os._exit, 3), partial(int, "x")):
        try:
            answers.append(str(call_in_child(work, "work")))
        except TwinhullError as error:
            answers.append(f"{type(error).__name__}: {error}")
    (directory / "answers").write_text("\n".join(answers), encoding="utf-8")


def threaded() -> None:
    """Try to fork beside a thread."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="disturber")
    thread.start()
    try:
        call_in_child(int, "x")
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
    finally:
        done.set()
        thread.join()


PROGRAMS: Final[dict[str, Callable[[Path], None]]] = {
    "patient": lambda directory: supervise(directory, {"first": patient, "second": patient}, 20),
    "deaf": lambda directory: supervise(directory, {"first": deaf, "second": patient}, 1),
    "deaf for long": lambda directory: supervise(directory, {"first": deaf}, 600),
    "mortal": lambda directory: supervise(directory, {"first": mortal, "second": patient}, 20),
    "children": children,
    "threaded": lambda _: threaded(),
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](Path(sys.argv[2]))
