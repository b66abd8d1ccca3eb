"""`twinhull up`: two masters and the gateway on this machine, to try things out and for tests."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from twinhull.cli.options import DataDirOption


def up(
    *,
    data_dir: DataDirOption = None,
    base_port: Annotated[
        int, typer.Option("--base-port", metavar="PORT", min=1, max=65_333, help="The gateway's; nodes are on the next two.")
    ] = 8080,
) -> None:
    """Run two nodes and the gateway on loopback until Ctrl-C; what they keep is there again at the next start."""
    # The gateway's libraries are imported here, so that --help is quick.
    from twinhull.cli.twins import Twins

    directory = data_dir or Path(os.environ.get("TWINHULL_DATA_DIR") or "data")
    asyncio.run(Twins(directory.absolute(), base_port, os.environ).run())
