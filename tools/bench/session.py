"""What every measure is given: what to measure, with how much, where, and the book that its results go into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.bench.content import Layers
from tools.bench.programs import Program
from tools.bench.quiet import settle
from tools.bench.report import Book

PROJECT = "library"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run of the bench."""

    programs: Sequence[Program]
    layers: Layers
    directory: Path
    # For how long requests are sent where time, not bytes, is what ends a measure.
    for_s: float
    # Whether memory is left as it is before a measurement.
    cold: bool
    book: Book

    @property
    def gigabytes(self) -> float:
        """Return the size of all layers."""
        return self.layers.total_bytes / 1e9

    def settle(self, copies: int = 0) -> None:
        """Let the machine come to rest before a measurement that writes all layers so many times."""
        settle(0 if self.cold else copies * self.layers.total_bytes)

    def place(self, program: Program, what: str) -> Path:
        """Return a directory that is not there yet, for one server."""
        return self.directory / what / program.name
