"""A program that writes blobs until it is killed: from outside, or by itself at one line of the store after another.

Started as `python -m tests.support.blob_crashes append|every-line DIRECTORY`.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final

import twinhull.blobs
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.kit.digest import digest_of

PIECE_BYTES: Final = 100_000
CONTENT: Final = random.Random(11).randbytes(40 * PIECE_BYTES)
SHORT: Final = CONTENT[:60_000]
PUT: Final = b"a small blob"
ACKNOWLEDGED: Final = "acknowledged"
_BLOBS: Final = str(Path(twinhull.blobs.__file__).parent)


def append_until_killed(root: Path) -> None:
    """Append piece after piece, saying the offset after each; then wait for the end."""
    upload = FilesystemBlobs(root).start_upload("u", {"repository": "a/b"})
    for start in range(0, len(CONTENT), PIECE_BYTES):
        upload.append([CONTENT[start : start + PIECE_BYTES]])
        print(upload.offset, flush=True)  # noqa: T201
    signal.pause()


def live(root: Path) -> None:
    """Do all that a store does in the life of a blob, and leave a mark for what was acknowledged."""
    store = FilesystemBlobs(root)
    store.put(digest_of(PUT), PUT)
    store.start_upload("dropped", {}).abort()
    upload = store.start_upload("u", {"repository": "a/b"})
    upload.append([SHORT[:20_000]])
    upload.checkpoint()
    upload = store.open_upload("u")
    upload.append([SHORT[20_000:]])
    upload.commit(digest_of(SHORT))
    (root / ACKNOWLEDGED).touch()


def crash_at_every_line(roots: Path) -> None:
    """Live the same life again and again, in a fresh directory and killed one line later each time; say how often."""
    for line in itertools.count(1):
        root = roots / f"{line:04}"
        child = os.fork()
        if not child:
            sys.settrace(Countdown(line).enter)
            live(root)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            print(line - 1)  # noqa: T201
            return


class Countdown:
    """Kills this process before it runs one more line of the store's own code than it may."""

    def __init__(self, lines: int) -> None:
        self._left = lines

    def enter(self, frame: FrameType, _event: str, _argument: object) -> Countdown | None:
        """Follow a function if it is the store's."""
        return self if frame.f_code.co_filename.startswith(_BLOBS) else None

    def __call__(self, _frame: FrameType, event: str, _argument: object) -> Countdown:
        """Count a line."""
        if event == "line":
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


if __name__ == "__main__":
    {"append": append_until_killed, "every-line": crash_at_every_line}[sys.argv[1]](Path(sys.argv[2]))
