"""What can be done in the background: one class for each vendor type, and what it is given and gives back."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from twinhull.kit.clock import Clock, rfc3339
from twinhull.kit.errors import Futile
from twinhull.metadata.executions import Execution, Task
from twinhull.metadata.transaction import Transaction
from twinhull.records.merge import Kind, Value

# A log is kept in the task's record, which goes whole to every node each time that it changes.
LOG_LENGTH_MAX: Final = 16_000
_CUT: Final = "(earlier lines are left out)\n"
# No pause grows further than this many doublings would take it.
_DOUBLINGS_MAX: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a task that failed is tried again: after pauses that double, in seconds, for so long after it was begun."""

    first_s: float = 1.0
    max_s: float = 600.0
    for_s: float = 24 * 3600.0

    def due_ms(self, tries: int, *, created_ms: int, now_ms: int, jitter: random.Random) -> int | None:
        """Return when to try again what has failed so many times, at a moment drawn from around there; None: never."""
        if now_ms - created_ms >= self.for_s * 1000:
            return None
        pause_s = min(self.max_s, self.first_s * 2 ** min(tries - 1, _DOUBLINGS_MAX))
        return now_ms + int(pause_s * 1000 * (0.5 + jitter.random() / 2))


ONCE: Final = Retry(for_s=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A task to be done: what it is told, and in which lane.

    Tasks of one lane are done one after the other, oldest first: while one is tried again the next ones wait. Those without a
    lane wait for nobody.
    """

    fields: Mapping[str, Value] = field(default_factory=dict)
    lane: str = ""


class TaskLog:
    """The short text that a task writes for people. What it says is replicated, and shown in the API: no secrets."""

    def __init__(self, clock: Clock, text: str = "") -> None:
        """Go on after what an earlier try has written."""
        self._clock = clock
        self.text = text

    def write(self, line: str) -> None:
        """Add a line with the time; of a text that grows too long the beginning is left out."""
        self.text += f"{rfc3339(self._clock.unix_ms())} {line}\n"
        if len(self.text) > LOG_LENGTH_MAX:
            kept = self.text[len(self.text) - LOG_LENGTH_MAX + len(_CUT) :]
            self.text = _CUT + (kept.partition("\n")[2] or kept)


class Job(ABC):
    """One kind of work, known by its vendor type. Lives on the agent's event loop; what blocks goes into a thread.

    `run` and `plan` may be cancelled at any moment, by a stop of the node or of the execution, and are called again after a
    restart for what had not ended: at least once. A TwinhullError that they raise is written down and the step tried again
    as `retry_of` says; a Futile ends it as failed at once.
    """

    vendor_type: ClassVar[str]
    # What its executions are executions of: those of one that is deleted go with it. None: nothing that is kept as a document.
    policy_kind: ClassVar[Kind | None] = None
    # Tasks that run at a time on this node, plans included.
    concurrency: int = 1
    retry: Retry = Retry()
    # Whether each try is written down when it begins, so that every node shows it: not for what is over in a moment.
    is_long: bool = True
    # Whether the work of a node that was removed from the cluster is done by another.
    is_taken_over: bool = False

    @abstractmethod
    async def run(self, execution: Execution, task: Task, log: TaskLog) -> Mapping[str, Value]:
        """Do the task, and return the fields of its record that say what came of it."""

    async def plan(self, execution: Execution, log: TaskLog) -> Sequence[NewTask]:
        """Return the tasks of an execution that was begun without; again if the node stops before they are written."""
        del log
        raise Futile(f"an execution of {execution.vendor_type} begins with its tasks")

    def retry_of(self, execution: Execution) -> Retry:
        """Return how often the steps of this execution are tried again."""
        del execution
        return self.retry

    def task_ended(self, transaction: Transaction, execution: Execution, task: Task, status: str) -> None:
        """Do what has to be done when, and only if, a task ends: in the transaction that says so."""
        del transaction, execution, task, status
