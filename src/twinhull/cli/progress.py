"""Progress bars for long transfers: on a terminal only, on standard error, so that standard output stays clean."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


class Track(Protocol):
    """Something that is told how far a transfer has come."""

    def __call__(self, done_bytes: int, total_bytes: int | None = None) -> None:
        """Note how much is done, and of how much, if that is known."""
        ...


@contextmanager
def transfer_progress(what: str) -> Iterator[Track]:
    """Show a bar with bytes, speed and time left while the block runs; without a terminal show nothing."""
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield _ignore
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=False),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def track(done_bytes: int, total_bytes: int | None = None) -> None:
            progress.update(task, completed=done_bytes, total=total_bytes)

        yield track


def _ignore(done_bytes: int, total_bytes: int | None = None) -> None:
    del done_bytes, total_bytes


def human_bytes(size_bytes: float) -> str:
    """Return a size as people read it, in powers of ten: 912.3 MB."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.95:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
