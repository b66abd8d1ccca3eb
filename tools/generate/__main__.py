"""Fills a node's database, and times a node's lists.

python -m tools.generate write DATA_DIR [--artifacts 100000]   the node must not run
python -m tools.generate time ADDRESS                          the same node, running; as admin
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.generate.lists import time_lists
from tools.generate.records import write_records


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write")
    write.add_argument("data_dir", type=Path)
    write.add_argument("--artifacts", type=int, default=100_000)
    time = commands.add_parser("time")
    time.add_argument("address")
    time.add_argument("--password", default="Harbor12345")
    time.add_argument("--times", type=int, default=20)
    given = parser.parse_args()
    if given.command == "write":
        print(write_records(given.data_dir, artifacts=given.artifacts))
    else:
        for line in time_lists(given.address, password=given.password, times=given.times):
            print(line)


if __name__ == "__main__":
    main()
