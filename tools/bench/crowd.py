"""Clients that work at the same time, each in a process of its own: they make ready, start together, and are timed together."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.synchronize import Barrier
from typing import Any, Final, Generic, TypeVar

from tools.bench.failures import BenchFailed
from tools.bench.usage import Usage

Result = TypeVar("Result")
# What a client calls when it is ready; returns when all are.
Start = Callable[[], None]

_READY_LIMIT_S: Final = 120
_WORK_LIMIT_S: Final = 600
_WATCH_S: Final = 0.05
# Forks, so that clients need no set-up; the bench's own process has no threads that a fork could trip over.
_FORKS: Final = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True, kw_only=True)
class Together(Generic[Result]):
    """What a crowd did: from its first start to its last end, and what servers used meanwhile."""

    results: tuple[Result, ...]
    seconds: float
    ended_s: float
    cpu_s: tuple[float, ...]


def together(
    works: Sequence[Callable[[Start], Result]], *, usages: Sequence[Usage] = (), watch: Callable[[], object] | None = None
) -> Together[Result]:
    """Run all works, each in its own process, and return what they returned; raise BenchFailed when one fails.

    `watch` is called every now and then while they work.
    """
    barrier = _FORKS.Barrier(len(works) + 1)
    pipes: list[Pipe] = []
    processes = []
    for work in works:
        reader, writer = _FORKS.Pipe(duplex=False)
        process = _FORKS.Process(target=_work, args=(work, barrier, writer), daemon=True)
        process.start()
        writer.close()
        pipes.append(reader)
        processes.append(process)
    try:
        before = _start(barrier, usages)
        outcomes = _collect(pipes, watch)
        after = [usage.cpu_s() for usage in usages]
    finally:
        for process in processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
    failures = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if failures:
        raise BenchFailed(f"a client failed: {failures[0]}")
    began, ended, results = zip(*outcomes, strict=True)
    return Together(
        results=tuple(results),
        seconds=max(ended) - min(began),
        ended_s=max(ended),
        cpu_s=tuple(then - now for now, then in zip(before, after, strict=True)),
    )


def _start(barrier: Barrier, usages: Sequence[Usage]) -> list[float]:
    """Let everybody go, and return the CPU times at that moment; a client that fails before breaks the barrier."""
    deadline_s = time.monotonic() + _READY_LIMIT_S
    while barrier.n_waiting < barrier.parties - 1 and not barrier.broken and time.monotonic() < deadline_s:
        time.sleep(0.002)
    before = [usage.cpu_s() for usage in usages]
    try:
        barrier.wait(1)
    except threading.BrokenBarrierError:
        # Who broke it says why through its pipe.
        barrier.abort()
    return before


def _collect(pipes: Sequence[Pipe], watch: Callable[[], object] | None) -> list[Any]:
    outcomes: dict[int, Any] = {}
    open_ = {id(pipe): number for number, pipe in enumerate(pipes)}
    deadline_s = time.monotonic() + _WORK_LIMIT_S
    left = list(pipes)
    while left:
        if time.monotonic() > deadline_s:
            raise BenchFailed(f"clients were not done after {_WORK_LIMIT_S} s")
        for pipe in wait(left, _WATCH_S):
            assert isinstance(pipe, Pipe)
            try:
                outcomes[open_[id(pipe)]] = pipe.recv()
            except EOFError:
                outcomes[open_[id(pipe)]] = "it ended without a word"
            left.remove(pipe)
        if watch is not None:
            watch()
    return [outcomes[number] for number in range(len(pipes))]


def _work(work: Callable[[Start], Result], barrier: Barrier, writer: Pipe) -> None:
    began_s = 0.0

    def start() -> None:
        nonlocal began_s
        barrier.wait(_READY_LIMIT_S)
        began_s = time.monotonic()

    try:
        result = work(start)
        writer.send((began_s, time.monotonic(), result))
    except Exception as failure:  # noqa: BLE001 - whatever it is, the bench's own process reports it
        barrier.abort()
        writer.send(f"{type(failure).__name__}: {failure}")
    finally:
        writer.close()
