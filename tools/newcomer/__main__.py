"""`python -m tools.newcomer`: lets an empty node join one with many artifacts; prints how long it takes, and memory.

It does so with a tenth of the site first, which fills all caches and queues that have a bound: what the whole takes beyond
that, by artifact, is what grows with a site.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tools.bench.failures import BenchFailed
from tools.bench.pair import joining, order, run_order
from tools.bench.programs import Program, twinhull, twinhull_data
from tools.bench.report import say
from tools.bench.servers import Server, running
from tools.generate.records import write_records

DIRECTORY: Final = Path(__file__).resolve().parents[2] / ".cache"
# That much of the site that was asked for is measured before it.
_PART: Final = 10
BYTES_EACH_MAX: Final = 200
_LOOK_S: Final = 0.2
# A question by the command line costs as much as a hundred blobs.
_LOOKS_FOR_A_QUESTION: Final = 5
_LIMIT_S: Final = 3600
# What a start leaves to do is done by then.
_SETTLED_S: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """How a node joined: seconds from its start, and the most memory (PSS, bytes) that either took meanwhile."""

    artifacts: int
    in_sync_s: float
    equal_s: float
    source_bytes: int
    newcomer_bytes: int

    def told(self) -> str:
        """Return it in words."""
        memory = f"{self.source_bytes / 1e6:.0f} MB at the node that it joined, {self.newcomer_bytes / 1e6:.0f} MB at itself"
        return (
            f"{self.artifacts:,} artifacts: in sync after {self.in_sync_s:.1f} s, equal with all blobs after "
            f"{self.equal_s:.1f} s ({self.artifacts / self.equal_s:,.0f} artifacts/s); at most {memory}"
        )


def main() -> int:
    """Measure both sites; return 1 if memory grows by more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=int, default=100_000, help="of the bigger site [100000]")
    parser.add_argument("--dir", type=Path, default=DIRECTORY, help="where the data goes meanwhile [.cache]")
    given = parser.parse_args()
    given.dir.mkdir(parents=True, exist_ok=True)
    try:
        small, big = (measure(given.dir, artifacts) for artifacts in (given.artifacts // _PART, given.artifacts))
    except BenchFailed as failure:
        say(str(failure))
        return 1
    each = {
        "the node that it joined": (big.source_bytes - small.source_bytes) / (big.artifacts - small.artifacts),
        "the newcomer": (big.newcomer_bytes - small.newcomer_bytes) / (big.artifacts - small.artifacts),
    }
    for joined in (small, big):
        print(joined.told())
    for name, value in each.items():
        print(f"memory that grows with the site, at {name}: {value:.0f} bytes for each artifact (at most {BYTES_EACH_MAX})")
    return int(max(each.values()) > BYTES_EACH_MAX)


def measure(place: Path, artifacts: int) -> Joined:
    """Generate a site, let a node join it, and wait until both say that they are equal; raises BenchFailed."""
    # Ready it is when it has all that the other one had: that is measured, not waited for.
    program = replace(twinhull(), ready_path="/livez")
    with tempfile.TemporaryDirectory(prefix="newcomer-", dir=place) as directory:
        source = Path(directory) / "a"
        with running(program, source, keeps=True):
            say(f"generating {artifacts:,} artifacts in {source}")
        # Two artifacts of each number: one in a repository of many, one in its own.
        say(f"  {write_records(twinhull_data(source), artifacts=artifacts // 2, with_blobs=True)}")
        with running(program, source, keeps=True) as a:
            return _join(program, a, Path(directory) / "b", artifacts)


def _join(program: Program, a: Server, directory: Path, artifacts: int) -> Joined:
    time.sleep(_SETTLED_S)
    most = [a.usage.pss_bytes(), 0]
    say(f"  joining; the node takes {most[0] / 1e6:.0f} MB before")
    began_s = time.monotonic()
    in_sync_s = 0.0
    with joining(program, directory, a) as b:
        for look in itertools.count():
            most = [max(was, server.usage.pss_bytes()) for was, server in zip(most, (a, b), strict=True)]
            seconds = time.monotonic() - began_s
            if look % _LOOKS_FOR_A_QUESTION == 0:
                if not in_sync_s and _states_of_peers(a) == ["in sync"]:
                    in_sync_s = seconds
                if in_sync_s and _is_equal(b):
                    break
            if seconds > _LIMIT_S:
                raise BenchFailed(f"not equal after {_LIMIT_S} s: {order(b, 'status')}")
            time.sleep(_LOOK_S)
        equal_s = time.monotonic() - began_s
        most = [max(was, server.usage.pss_bytes()) for was, server in zip(most, (a, b), strict=True)]
    return Joined(artifacts=artifacts, in_sync_s=in_sync_s, equal_s=equal_s, source_bytes=most[0], newcomer_bytes=most[1])


def _is_equal(node: Server) -> bool:
    """Tell whether the node finds itself equal to its peer, with all blobs."""
    return not _status(node)["node"]["lag_blobs"] and run_order(node, "verify").returncode == 0


def _states_of_peers(node: Server) -> list[str]:
    return [member["state"] for member in _status(node)["members"] if member["state"] != "self"]


def _status(node: Server) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(order(node, "status", "--json"))
    return status


if __name__ == "__main__":
    sys.exit(main())
