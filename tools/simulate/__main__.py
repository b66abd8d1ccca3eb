"""`python -m tools.simulate --seeds N`: run so many seeds, and say which broke a promise."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Final

import structlog

from tools.simulate.run import run_seed

_HASH_SEED: Final = "PYTHONHASHSEED"


def main() -> int:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--loud", action="store_true")
    options = parser.parse_args()
    if os.environ.get(_HASH_SEED) != "0":
        # The order of sets is part of what a seed decides.
        os.execve(sys.executable, [sys.executable, "-m", "tools.simulate", *sys.argv[1:]], {**os.environ, _HASH_SEED: "0"})  # noqa: S606
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    began = time.perf_counter()
    seeds = [options.seed] if options.seed is not None else range(options.seeds)
    for seed in seeds:
        outcome = run_seed(seed, loud=options.loud)
        print(seed, outcome.nodes, outcome.trace, outcome.failures, outcome.counts)
    print(time.perf_counter() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
