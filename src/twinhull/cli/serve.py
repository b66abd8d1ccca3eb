"""`twinhull serve`: run one node."""

from __future__ import annotations

import os

from twinhull.cli.options import (
    ClusterListenOption,
    ConfigOption,
    DataDirOption,
    ListenOption,
    NameOption,
    StopWithParentOption,
    WorkersOption,
    serve_options,
)


def serve(
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    listen: ListenOption = None,
    cluster_listen: ClusterListenOption = None,
    name: NameOption = None,
    workers: WorkersOption = None,
    stop_with_parent: StopWithParentOption = None,
) -> None:
    """Run one node until it is stopped; on an empty data directory that makes a cluster of one."""
    from twinhull.config.load import load_settings

    loaded = load_settings(config, os.environ, serve_options(data_dir, listen, cluster_listen, name, workers))
    # The whole program is imported here: two seconds that `--help` and wrong options need not take.
    from twinhull.cli.node_processes import run_node

    run_node(loaded, stop_with_parent=stop_with_parent)
