"""Plays the scenarios one after the other and tells what came of each: `python -m tests.fault.scenarios --help`."""

from __future__ import annotations

import argparse
import fnmatch
import secrets
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.fault.scenarios.every import SCENARIOS
from tests.fault.scenarios.registry import Result, Scenario, played
from tests.support.site import running_site


def main() -> int:
    """Play those that were asked for, and return how the process is to end."""
    parser = argparse.ArgumentParser(
        prog="make faults", description="Real faults on real nodes, and what became of the promises."
    )
    parser.add_argument("--only", default="*", help="names of scenarios, with * and commas")
    parser.add_argument("--seed", default=secrets.token_hex(3), help="what random choices follow from")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the longest scenario goes on")
    parser.add_argument("--list", action="store_true", help="list the scenarios and end")
    options = parser.parse_args()
    chosen = _chosen(options.only)
    if options.list or not chosen:
        for one in chosen or SCENARIOS.values():
            print(f"{one.name:28} {one.title}")
        return 0 if chosen else 2
    # Else an end from outside would leave nodes and namespaces behind.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    with running_site(Path(tempfile.mkdtemp(prefix="faults-"))) as site:
        results = []
        for one in chosen:
            print(f"\n== {one.name} (SEED={options.seed}): {one.title}", flush=True)
            results.append(played(one, site, options.seed, minutes=options.minutes))
            _tell(results[-1])
    return _sum_up(results)


def _chosen(only: str) -> list[Scenario]:
    wanted = [word.strip() for word in only.split(",") if word.strip()]
    return [one for name, one in SCENARIOS.items() if any(fnmatch.fnmatchcase(name, word) for word in wanted)]


def _tell(result: Result) -> None:
    print(f"   did: {'; '.join(result.story)}")
    print(f"   healed: equal everywhere {result.healed_s:.1f} s after the last repair")
    print(f"   counted: {result.verdict}")
    print(f"   {'FAILED' if result.failure else 'passed'} in {result.took_s:.1f} s", flush=True)
    if result.failure:
        print(result.failure, flush=True)


def _sum_up(results: Sequence[Result]) -> int:
    print(f"\n{'scenario':28} {'healed':>7} {'ops':>6} {'pushes':>6} {'lost':>4} {'revoked':>7} {'undone':>6} {'stale':>5}")
    for result in results:
        verdict = result.verdict
        print(
            f"{result.scenario.name:28} {result.healed_s:5.1f} s {verdict.operations:6} {verdict.acknowledged_pushes:6}"
            f" {len(verdict.lost):4} {verdict.revocations:7} {len(verdict.undone):6} {len(verdict.stale):5}"
            f"  {'FAILED' if result.failure else 'passed'}"
        )
    failed = sum(bool(result.failure) for result in results)
    print(f"\n{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
