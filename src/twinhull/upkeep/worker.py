"""Long work that goes on by itself: what each kind of it can do, and how it shows itself. `runner.py` runs it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec


class Worker(Protocol):
    """One kind of long work, done step by step on the agent's event loop; what blocks goes into a thread."""

    @property
    def name(self) -> str:
        """The word by which operators know it: "scrub"."""
        ...

    async def wait_for_work(self) -> None:
        """Return when there is something to do: it is due, or somebody has asked for it."""
        ...

    async def work(self) -> float | None:
        """Do one step, of a few seconds at most; return how many seconds to rest before the next, or None when all is done.

        What it raises is counted and shown, and the step is tried again after a pause that grows. It may be cancelled at any
        moment, by a stop of the node: what must survive that is on disk, see `notes.py`.
        """
        ...

    def status(self) -> Mapping[str, object]:
        """Return what an operator wants to know of it, in values that JSON has: progress, figures, what the last run found."""
        ...


class WorkerState(StrEnum):
    """What a worker is doing."""

    IDLE = "idle"
    WORKING = "working"
    # Between two steps: it keeps to a pace.
    RESTING = "resting"
    # The last step failed, and will be tried again.
    FAILING = "failing"


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker is doing, as the command line and the API show it."""

    name: str
    state: WorkerState
    # Since this node's agent started.
    errors: int
    errors_in_a_row: int
    # Of the last failed step, kept until a step succeeds.
    last_error: str
    # When the last step ended, in milliseconds since 1970; 0: none yet.
    worked_ms: int
    status: Mapping[str, object]
