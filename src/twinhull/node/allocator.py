"""The C library's allocator, told what this program does with memory: large buffers that come and go all the time."""

from __future__ import annotations

import asyncio
import ctypes
from concurrent.futures import Executor
from typing import Final

# malloc.h of glibc.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
# Well above any buffer of a push; what 64 uploads at once leave behind stays small all the same.
_MMAP_THRESHOLD_BYTES: Final = 8 << 20
_TRIM_THRESHOLD_BYTES: Final = 24 << 20
# Enough for those threads that allocate at the same moment.
_SHARED_ARENAS: Final = 2
_GIVE_BACK_S: Final = 5.0
# So much stays at hand for what is allocated next.
_KEPT_BYTES: Final = 1 << 20


def keep_freed_memory() -> None:
    """Let this process and its forks keep what they free for what they allocate next; no effect where there is no glibc.

    By default a buffer of 1 MB is given back to the system when it is freed and taken anew for the next piece of a blob, which
    costs a page fault for each 4 KB of it: 10 to 20 % of a push's CPU.
    """
    _tell(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
    _tell(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)


def share_freed_memory() -> None:
    """Let all threads of this process, which has many, share what they free; no effect where there is no glibc.

    By default threads have places of their own to allocate from, and each of them keeps as much as it once needed.
    """
    _tell(_M_ARENA_MAX, _SHARED_ARENAS)


async def give_back_freed_memory(executor: Executor, interval_s: float = _GIVE_BACK_S) -> None:
    """Give back, time after time, what this process has freed, until cancelled; ends at once where there is no glibc.

    For a process that exchanges much at times and is idle most of the day. Small things that stay keep glibc from giving back
    by itself what lies between them: after an hour of that, half of what it holds is free.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return
    while True:
        await asyncio.sleep(interval_s)
        await asyncio.get_running_loop().run_in_executor(executor, trim, ctypes.c_size_t(_KEPT_BYTES))


def _tell(option: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(option, value)
