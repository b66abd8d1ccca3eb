"""A mark in the node's run folder that it is being stopped: what would go on for as long as a client wants ends by itself."""

from __future__ import annotations

import contextlib
from pathlib import Path


class StopMark:
    """The mark, for all processes of a node. A server waits for running answers before it tells them that it stops."""

    def __init__(self, run_dir: Path) -> None:
        """Take the folder."""
        self._path = run_dir / "stopping"

    def set(self) -> None:
        """Say that the node stops; on a full disk nobody is told, and the stop takes its full time."""
        with contextlib.suppress(OSError):
            self._path.touch()

    def clear(self) -> None:
        """Say that the node runs."""
        self._path.unlink(missing_ok=True)

    def is_set(self) -> bool:
        """Tell whether the node is being stopped."""
        return self._path.exists()
