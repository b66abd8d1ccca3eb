"""Become another program that ends when the one that started it ends: `tether.py PARENT_PID PROGRAM ARGUMENT…`.

A script and not a hook between fork and exec, because no Python code is safe there in a program with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main(arguments: list[str]) -> None:
    """Replace this process by the program, or end with status 1 if the starter is gone already."""
    starter_pid, *program = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(starter_pid):
        sys.exit(1)
    os.execv(program[0], program)  # noqa: S606 - the program's own path, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
