"""Options that several commands share, so that they read and behave alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="A harbor.yml; ours stand under twinhull:")]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Where the node keeps everything.  [default: data]")
]
ListenOption = Annotated[
    str | None, typer.Option("--listen", metavar="HOST:PORT", help="Where clients connect; port 0 takes a free one.")
]
ClusterListenOption = Annotated[
    str | None,
    typer.Option("--cluster-listen", metavar="HOST:PORT", help="Where peers connect; by default the clients' port + 200."),
]
NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="What people call this node.  [default: the host's name]")
]
WorkersOption = Annotated[int | None, typer.Option("--workers", metavar="N", help="HTTP worker processes.  [default: 2]")]
StopWithParentOption = Annotated[int | None, typer.Option("--stop-with-parent", metavar="PID", hidden=True)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def serve_options(
    data_dir: Path | None, listen: str | None, cluster_listen: str | None, name: str | None, workers: int | None
) -> dict[str, object]:
    """Return the options of `serve` by the paths of the settings that they set."""
    return {"data_dir": data_dir, "listen": listen, "cluster_listen": cluster_listen, "name": name, "workers": workers}
