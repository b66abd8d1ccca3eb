"""`python -m tools.walk HOST:PORT [--peer HOST:PORT]`: walk over an empty node whose admin has Harbor's default password."""

from __future__ import annotations

import argparse
import sys

from tools.descriptions import RECORDING, VARIABLE, harbor_api_dir
from tools.walk.client import Client
from tools.walk.report import render
from tools.walk.walker import Walker, read_recording


def main() -> int:
    """Walk, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="the node's host:port")
    parser.add_argument("--peer", default="", help="another registry's host:port; the node itself without")
    parser.add_argument("--password", default="Harbor12345", help="the administrator's")
    options = parser.parse_args()
    folder = harbor_api_dir()
    if folder is None:
        print(f"the recording is not here: set {VARIABLE}", file=sys.stderr)
        return 2
    client = Client(options.address, {"admin": options.password})
    walker = Walker(client, peer=options.peer or options.address)
    outcomes = list(walker.walk(read_recording(folder / RECORDING)))
    client.close()
    print(render(outcomes, walker.failed_steps), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
