"""What a server's processes use, as the kernel counts it under /proc: CPU time and memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Stat:
    """One process, as /proc/PID/stat tells of it."""

    pid: int
    parent: int
    # Its own time in user and kernel mode, and that of its children which have ended.
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Usage:
    """A server: the process that was started, and all that came from it."""

    pid: int

    def processes(self) -> list[Stat]:
        """Return the processes that there are now."""
        every = {stat.pid: stat for stat in _stats()}
        members = {self.pid} & every.keys()
        grown = True
        while grown:
            found = {stat.pid for stat in every.values() if stat.parent in members}
            grown = not found <= members
            members |= found
        return [every[pid] for pid in sorted(members)]

    def cpu_s(self) -> float:
        """Return the CPU time that all of them have used so far."""
        return sum(stat.cpu_s for stat in self.processes())

    def pss_bytes(self) -> int:
        """Return the memory of all of them, with each shared page counted once in all (PSS)."""
        return sum(_pss_bytes(stat.pid) for stat in self.processes())


def _stats() -> Iterator[Stat]:
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            # It has ended since it was listed.
            continue
        # proc(5): the second field is the name in parentheses, which may hold anything; 4 is the parent, 14 to 17 the times.
        fields = text.rpartition(")")[2].split()
        yield Stat(int(entry.name), int(fields[1]), sum(int(field) for field in fields[11:15]) * _TICK_S)


def _pss_bytes(pid: int) -> int:
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024
    return 0
