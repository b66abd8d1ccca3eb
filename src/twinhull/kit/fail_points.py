"""Named places in the program at which a process can be made to die at once, so that tests see what it leaves behind.

TWINHULL_FAIL_POINT names the one place; without it, passing a place costs a comparison. For tests alone: a node that
is run with it dies there each time, as if the power had failed at that very instruction.
"""

from __future__ import annotations

import os
import signal
from typing import Final, Literal, get_args

VARIABLE: Final = "TWINHULL_FAIL_POINT"

FailPoint = Literal[
    # A blob's bytes are whole and out of the uploads, and not yet under their digest.
    "blob-verified",
    # They are under their digest; no record names them yet.
    "blob-in-place",
    # A local write is in the database, and the transaction is about to be committed.
    "write-before-commit",
    # It is committed; nobody was told.
    "write-committed",
    # A peer's changes are committed here; the peer was not told.
    "changes-applied",
    # One page of a newcomer's snapshot is committed, and more are to come.
    "snapshot-page-applied",
    # A newcomer was let in, and has not written down who it is.
    "join-answered",
    # All bytes of a blob came from a peer, and were not verified yet.
    "blob-fetched",
    # A collection has moved bytes to the trash; its transaction is not committed.
    "garbage-discarded",
    # A collection's transaction is committed, and the trash is still full.
    "garbage-forgotten",
]
FAIL_POINTS: Final[tuple[FailPoint, ...]] = get_args(FailPoint)

_armed: Final = os.environ.get(VARIABLE, "")


def fail_point(name: FailPoint) -> None:
    """Return, or die here if the environment said so when the program was loaded."""
    if name == _armed:
        os.kill(os.getpid(), signal.SIGKILL)
