"""What a scrub was asked for, how far it is and what it has found: kept in a file, so that it goes on after a restart."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec
import structlog

from twinhull.blobs.disk import translated
from twinhull.kit.errors import TwinhullError

log = structlog.get_logger(__name__)

LISTED_MAX: Final = 1000


class ScrubStatus(StrEnum):
    """What became of a scrub."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


class Rotten(msgspec.Struct, kw_only=True):
    """A blob whose bytes are lost on this node: rotten, cut, unreadable or gone."""

    digest: str
    # "rotten", "unreadable" or "missing" (gone, or of another size).
    what: str
    size_bytes: int
    is_mended: bool = False
    # Whether a record names it: of what nothing names, no good copy is needed.
    is_named: bool = True


class Scrub(msgspec.Struct, kw_only=True):
    """One look at all blobs of a node."""

    number: int
    # "manual" or "schedule".
    trigger: str
    # Megabytes in a second; 0: as fast as it goes.
    pace_mb_s: float
    status: ScrubStatus
    started_ms: int
    ended_ms: int = 0
    # What there was to look at when it began.
    total_blobs: int = 0
    total_bytes: int = 0
    blobs: int = 0
    bytes: int = 0
    # Blobs up to this digest have been looked at.
    after: str = ""
    # The first thousand of them, and how many there are.
    found: list[Rotten] = []
    found_count: int = 0

    @property
    def left(self) -> int:
        """How many blobs could not be mended, of those that records name and that are listed."""
        return sum(one.is_named and not one.is_mended for one in self.found)

    def note(self, one: Rotten) -> None:
        """Add what was found."""
        self.found_count += 1
        if len(self.found) < LISTED_MAX:
            self.found.append(one)


class Notes:
    """The file. Synchronous."""

    def __init__(self, path: Path) -> None:
        """Take where it lies, or will."""
        self._path = path

    def read(self) -> Scrub | None:
        """Return the latest scrub; None when there was none, or nothing can be read of it."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Scrub)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("notes of the last scrub cannot be read", error=str(error))
            return None

    def write(self, scrub: Scrub) -> None:
        """Keep it; on a full disk nothing is kept, and a restart begins further back."""
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            with translated("note how far the scrub is"):
                fresh.write_bytes(msgspec.json.encode(scrub))
                fresh.replace(self._path)
        except TwinhullError as error:
            log.warning("progress of the scrub not noted", error=str(error))
