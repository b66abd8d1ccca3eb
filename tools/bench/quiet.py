"""Brings the machine to the same state before each measurement: nothing left to write to disk, and memory at hand."""

from __future__ import annotations

import mmap
import os
from typing import Final

_PAGE_BYTES: Final = mmap.PAGESIZE
_MARGIN: Final = 1.3


def settle(written_bytes: int = 0) -> None:
    """Wait until the disk has all that was written so far, and see to memory for so many bytes that are to be written.

    A virtual machine's free memory is often not its own: the host takes it back, and lends it again page by page when it is
    touched, at up to two CPU seconds per GB. Without this, whoever is the first to touch it pays for what others find done.
    """
    os.sync()
    if not written_bytes:
        return
    with mmap.mmap(-1, int(written_bytes * _MARGIN), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        # Given back in one piece, large files get it next.
        memory.madvise(mmap.MADV_HUGEPAGE)
        for position in range(0, len(memory), _PAGE_BYTES):
            memory[position] = 1
