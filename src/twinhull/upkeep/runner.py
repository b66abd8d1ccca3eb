"""Runs all workers side by side, keeps what went wrong, and never lets one stop another."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from twinhull.kit.clock import Clock
from twinhull.kit.errors import TwinhullError
from twinhull.upkeep.worker import Worker, WorkerReport, WorkerState

log = structlog.get_logger(__name__)

BACKOFF_MIN_S: Final = 1.0
BACKOFF_MAX_S: Final = 300.0


class _Run:
    """One worker and how it goes."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.state = WorkerState.IDLE
        self.has_work = False
        self.errors = 0
        self.errors_in_a_row = 0
        self.last_error = ""
        self.worked_ms = 0


class Runner:
    """All workers of this node. Lives on the agent's event loop."""

    def __init__(
        self,
        workers: Sequence[Worker],
        *,
        clock: Clock,
        jitter: random.Random,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Take the workers; `pause` is how time passes between their steps."""
        self._runs = [_Run(worker) for worker in workers]
        self._clock = clock
        self._jitter = jitter
        self._pause = pause

    async def run(self) -> None:
        """Let all of them work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in self._runs:
                group.create_task(self._run_for_ever(one), name=one.worker.name)

    def reports(self) -> list[WorkerReport]:
        """Return how each worker is doing, in the order in which they were given."""
        return [
            WorkerReport(
                name=one.worker.name,
                state=one.state,
                errors=one.errors,
                errors_in_a_row=one.errors_in_a_row,
                last_error=one.last_error,
                worked_ms=one.worked_ms,
                status=one.worker.status(),
            )
            for one in self._runs
        ]

    async def _run_for_ever(self, one: _Run) -> None:
        while True:
            await self._pause(await self._step(one))

    async def _step(self, one: _Run) -> float:
        """Do a step, when there is one to do, and return how long to rest after it."""
        try:
            if not one.has_work:
                await one.worker.wait_for_work()
                one.has_work = True
            one.state = WorkerState.WORKING
            rest_s = await one.worker.work()
        except TwinhullError as error:
            log.warning("upkeep failed, will be tried again", worker=one.worker.name, error=str(error))
            return self._failed(one, error)
        except Exception as error:  # a fault of ours must not stop the other workers, nor this one for ever
            log.exception("upkeep failed for a reason that should not be", worker=one.worker.name)
            return self._failed(one, error)
        one.worked_ms = self._clock.unix_ms()
        one.errors_in_a_row, one.last_error = 0, ""
        one.has_work = rest_s is not None
        one.state = WorkerState.RESTING if one.has_work else WorkerState.IDLE
        return rest_s or 0.0

    def _failed(self, one: _Run, error: Exception) -> float:
        one.state = WorkerState.FAILING
        one.errors += 1
        one.errors_in_a_row += 1
        one.last_error = str(error) or type(error).__name__
        ceiling: float = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(one.errors_in_a_row - 1, 16))
        return ceiling * (0.5 + self._jitter.random() / 2)
