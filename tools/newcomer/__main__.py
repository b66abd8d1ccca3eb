"""`python -m tools.newcomer`: lets an empty node join one with many artifacts; prints how long it takes, and memory.

It does so with a tenth of the site first, which fills all caches and queues that have a bound: what the whole takes beyond
that, by artifact, is what grows with a site.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tools.bench.failures import BenchFailed
from tools.bench.programs import Program, twinhull, twinhull_data
from tools.bench.report import say
from tools.bench.servers import Server, free_port, running
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
    token = _cli(a, "cluster", "invite").split()[-1]
    port = free_port()
    join = [_twinhull(), "cluster", "join", token, *program.command(directory, port)[2:]]
    most = [a.usage.pss_bytes(), 0]
    say(f"  joining; the node takes {most[0] / 1e6:.0f} MB before")
    began_s = time.monotonic()
    in_sync_s = 0.0
    with running(program, directory, join, port) as b:
        for look in itertools.count():
            most = [max(was, server.usage.pss_bytes()) for was, server in zip(most, (a, b), strict=True)]
            seconds = time.monotonic() - began_s
            if look % _LOOKS_FOR_A_QUESTION == 0:
                if not in_sync_s and _states(a) == ["in sync"]:
                    in_sync_s = seconds
                if in_sync_s and _is_equal(b):
                    break
            if seconds > _LIMIT_S:
                raise BenchFailed(f"not equal after {_LIMIT_S} s: {_cli(b, 'cluster', 'status')}")
            time.sleep(_LOOK_S)
        equal_s = time.monotonic() - began_s
        most = [max(was, server.usage.pss_bytes()) for was, server in zip(most, (a, b), strict=True)]
    return Joined(artifacts=artifacts, in_sync_s=in_sync_s, equal_s=equal_s, source_bytes=most[0], newcomer_bytes=most[1])


def _is_equal(node: Server) -> bool:
    """Tell whether the node finds itself equal to its peer, with all blobs."""
    if json.loads(_cli(node, "cluster", "status", "--json"))["node"]["lag_blobs"]:
        return False
    done = subprocess.run(_command(node, "cluster", "verify"), capture_output=True, text=True, check=False)
    return done.returncode == 0


def _states(node: Server) -> list[str]:
    members = json.loads(_cli(node, "cluster", "status", "--json"))["members"]
    return [member["state"] for member in members if member["name"] != node.directory.name]


def _cli(node: Server, *words: str) -> str:
    done = subprocess.run(_command(node, *words), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"twinhull {' '.join(words)}: {done.stderr}")
    return done.stdout


def _command(node: Server, *words: str) -> list[str]:
    return [_twinhull(), *words, "--data-dir", str(twinhull_data(node.directory))]


def _twinhull() -> str:
    program = shutil.which("twinhull", path=str(Path(sys.executable).parent))
    if program is None:
        raise BenchFailed("there is no twinhull beside this interpreter")
    return program


if __name__ == "__main__":
    sys.exit(main())
