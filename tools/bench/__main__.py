"""`python -m tools.bench`: starts Twinhull and its peers one after the other, measures each, and prints one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools.bench.blobs import measure_pull, measure_push
from tools.bench.content import Layers
from tools.bench.failures import BenchFailed
from tools.bench.images import measure_images
from tools.bench.manifests import measure_manifests
from tools.bench.memory import measure_memory
from tools.bench.pair import measure_pair
from tools.bench.programs import Program, found_peers, named_peer, twinhull
from tools.bench.report import Book, say
from tools.bench.session import Session

MEASURES: Final = {
    "push": measure_push,
    "pull": measure_pull,
    "manifests": measure_manifests,
    "images": measure_images,
    "pair": measure_pair,
    "memory": measure_memory,
}
# The layers, and two images on two nodes.
COPIES: Final = 5
# A disk, unlike /tmp on many a machine: what is measured includes syncs.
DIRECTORY: Final = Path(__file__).resolve().parents[2] / ".cache"


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="measure this alone; may be repeated")
    parser.add_argument("--size", type=int, default=900, metavar="MB", help="all eight layers together [900]")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long requests are sent [3]")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="measure so often; shows median (best) [1]")
    parser.add_argument("--workers", type=int, help="HTTP workers of each Twinhull node [its default]")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=BINARY", help="another registry to measure")
    parser.add_argument("--alone", action="store_true", help="measure Twinhull and no other registry")
    parser.add_argument("--dir", type=Path, default=DIRECTORY, help="where the data goes meanwhile [.cache]")
    parser.add_argument("--cold", action="store_true", help="do not touch memory first that the host may have taken back")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    return parser.parse_args(arguments)


def programs(given: argparse.Namespace) -> list[Program]:
    """Return what is to be measured: Twinhull, what is found here, and what was named."""
    peers = [named_peer(text) for text in given.peer]
    found = [] if given.alone else [peer for peer in found_peers() if peer.name not in {named.name for named in peers}]
    return [twinhull(given.workers), *found, *peers]


def measure(given: argparse.Namespace) -> Book:
    """Measure all that is asked for, and leave nothing on the disk; raises BenchFailed."""
    servers = programs(given)
    book = Book([server.name for server in servers])
    given.dir.mkdir(parents=True, exist_ok=True)
    needed_bytes = given.size * 1_000_000 * COPIES
    if shutil.disk_usage(given.dir).free < needed_bytes:
        raise BenchFailed(f"{given.dir} has no {needed_bytes / 1e9:.1f} GB free: give another --dir, or a smaller --size")
    say(f"measuring {', '.join(server.name for server in servers)}; up to {needed_bytes / 1e9:.1f} GB in {given.dir} meanwhile")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=given.dir) as directory:
        session = Session(
            programs=servers,
            layers=Layers(Path(directory), given.size * 1_000_000),
            directory=Path(directory),
            for_s=given.seconds,
            cold=given.cold,
            book=book,
        )
        for number in range(given.repeat):
            for name in given.only or MEASURES:
                say(f"{name}{f', {number + 1} of {given.repeat}' if given.repeat > 1 else ''}")
                MEASURES[name](session)
    return book


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 1 when something could not be measured."""
    given = options(arguments)
    began_s = time.monotonic()
    try:
        book = measure(given)
    except BenchFailed as failure:
        say(f"error: {failure}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 1
    machine = {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    if given.json:
        settings = {"size_mb": given.size, "seconds": given.seconds, "repeat": given.repeat}
        print(json.dumps({"machine": machine, "settings": settings, "results": book.document()}, indent=2))
    else:
        print(f"\n{machine['cpus']} CPUs, {machine['system']}, Python {machine['python']}; {given.size} MB of layers")
        print(f"{book.table()}\n\nmeasured in {time.monotonic() - began_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
