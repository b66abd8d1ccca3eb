"""`python -m tools.simulate --seeds N`: run so many seeds, and say which of them broke a promise."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from multiprocessing import get_context
from typing import Final

import structlog

from tools.simulate.mutants import MUTATIONS
from tools.simulate.run import Outcome, run_seed
from twinhull.kit.clock import SystemClock

_HASH_SEED: Final = "PYTHONHASHSEED"
_MUTANT_SEEDS: Final = 50
_SEEDS_A_PROCESS: Final = 100
_SHOWN_MAX: Final = 5


def main() -> int:
    """Run, and print; 1 when a promise was broken, or a mutant was not found out."""
    parser = argparse.ArgumentParser(prog="tools.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, metavar="N", help="run the seeds 0 to N-1 (200)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="begin with this seed instead of 0")
    parser.add_argument("--seed", type=int, metavar="N", help="run this one, and tell all that happens")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes at a time")
    parser.add_argument("--mutant", choices=sorted(MUTATIONS), default="", help="with this thing wrong in the program")
    parser.add_argument("--mutants", action="store_true", help=f"see that each mutant is found within {_MUTANT_SEEDS} seeds")
    options = parser.parse_args()
    if os.environ.get(_HASH_SEED) != "0":
        # The order of sets is part of what a seed decides.
        again = [sys.executable, "-m", "tools.simulate", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, _HASH_SEED: "0"})  # noqa: S606 - itself
    if options.seed is not None:
        return _tell(run_seed(options.seed, mutant=options.mutant, listen=print))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if options.mutants:
        return _try_mutants(options.jobs)
    return _run(range(options.first, options.first + options.seeds), options.jobs, options.mutant)


def _outcomes(seeds: Iterable[int], jobs: int, mutant: str) -> Iterator[Outcome]:
    with get_context("fork").Pool(jobs, maxtasksperchild=_SEEDS_A_PROCESS) as pool:
        yield from pool.imap_unordered(_one, ((seed, mutant) for seed in seeds))


def _one(job: tuple[int, str]) -> Outcome:
    seed, mutant = job
    return run_seed(seed, mutant=mutant)


def _run(seeds: range, jobs: int, mutant: str) -> int:
    clock = SystemClock()
    began_s = clock.monotonic_s()
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    nodes: Counter[int] = Counter()
    broken: list[Outcome] = []
    for done, outcome in enumerate(_outcomes(seeds, jobs, mutant), 1):
        counts.update(outcome.counts)
        faults.update(outcome.faults)
        nodes[outcome.nodes] += 1
        if outcome.failures:
            broken.append(outcome)
            _tell(outcome)
            print(f"  again: make simulate SEED={outcome.seed}", flush=True)
        elif sys.stdout.isatty():
            print(f"\r{done} of {len(seeds)}", end="", flush=True)
    took_s = clock.monotonic_s() - began_s
    print(f"\n{len(seeds)} seeds in {took_s:.0f} s, {len(seeds) / took_s:.1f} seeds/s, {len(broken)} broke a promise")
    print("nodes at the end: " + ", ".join(f"{count}: {times}" for count, times in sorted(nodes.items())))
    _table("what clients did", counts)
    _table("what went wrong on purpose", faults)
    return 1 if broken else 0


def _table(title: str, counts: Counter[str]) -> None:
    print(f"{title} ({sum(counts.values())})")
    for name, count in sorted(counts.items()):
        print(f"  {count:>8} {name}")


def _tell(outcome: Outcome) -> int:
    print(f"\nseed {outcome.seed}, {outcome.nodes} nodes, trace {outcome.trace}: {len(outcome.failures)} failures")
    for failure in outcome.failures[:_SHOWN_MAX]:
        print(f"  {failure}")
    return 1 if outcome.failures else 0


def _try_mutants(jobs: int) -> int:
    alive = 0
    for mutant in MUTATIONS:
        found = next((outcome for outcome in _outcomes(range(_MUTANT_SEEDS), jobs, mutant) if outcome.failures), None)
        alive += found is None
        print(f"{mutant}: " + (f"found by seed {found.seed}: {found.failures[0][:120]}" if found else "NOT FOUND"), flush=True)
    print(f"{len(MUTATIONS)} mutants, {alive} not found within {_MUTANT_SEEDS} seeds")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
