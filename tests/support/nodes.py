"""Runs several real nodes of one cluster, each behind a line that its peers dial, and does to them what can happen."""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.line import Line
from tests.support.processes import last_lines
from tests.support.real_node import RealNode, eventually

__all__ = ["Cluster", "ClusterNode", "eventually", "new_name", "running_cluster", "seeded"]


@dataclass(slots=True, kw_only=True)
class ClusterNode(RealNode):
    """One node of the cluster and the line that its peers reach it by."""

    line: Line

    def advertised(self) -> str:
        """Return the near end of the line, which leads to this node."""
        self.line.target = self.cluster_address
        return self.line.address

    def owns(self, port: int) -> bool:
        """Tell whether a process of this node holds the local end of the connection from that port."""
        wanted = f"0100007F:{port:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
        sockets = {f"socket:[{row[9]}]" for row in rows if row[1] == wanted}
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                    with contextlib.suppress(OSError):
                        if str(descriptor.readlink()) in sockets:
                            return True
        return False


class Cluster(Sequence[ClusterNode]):
    """Nodes that know each other."""

    def __init__(self, directory: Path, names: Sequence[str], environment: Mapping[str, str]) -> None:
        """Prepare the nodes; `start` runs them."""
        self._nodes = [
            ClusterNode(name=name, directory=directory / name, line=Line(), environment=environment) for name in names
        ]

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - a node, or several for a slice
        """Return a node."""
        return self._nodes[index]

    def __len__(self) -> int:
        """Return how many nodes there are."""
        return len(self._nodes)

    def start(self) -> None:
        """Found the cluster with the first node, and let the others join it."""
        first, *others = self._nodes
        first.start()
        for node in others:
            node.start(first.invite())
        self.wait_in_sync()

    def wait_in_sync(self, nodes: Sequence[ClusterNode] | None = None) -> None:
        """Return once each of the nodes, all by default, sees the others in sync."""
        chosen = self._nodes if nodes is None else nodes
        for node in chosen:
            for other in chosen:
                if other is not node:
                    eventually(
                        lambda node=node, other=other: node.state_of(other) == "in sync",  # type: ignore[misc]
                        what=f"{node.name} sees {other.name} in sync",
                    )

    def mend(self) -> None:
        """Let all lines pass everything, run what does not run, and wait until all are in sync: for the next test."""
        for node in self._nodes:
            node.line.mend()
            node.line.refuses = lambda _port: False
            if node.running.poll() is None:
                node.thaw()
            else:
                node.start(wait=False)
        for node in self._nodes:
            node.wait_ready()
            eventually(lambda node=node: node.ask("POST", "/resume"), what=f"{node.name} resumed")  # type: ignore[misc]
        self.wait_in_sync()

    def part(self, one: ClusterNode, other: ClusterNode) -> None:
        """Break the lines between two nodes, both ways; the others reach both."""
        one.line.refuses, other.line.refuses = other.owns, one.owns
        one.line.drop()
        other.line.drop()

    def stop(self) -> None:
        """End all nodes and take the lines away."""
        for node in self._nodes:
            with contextlib.suppress(ProcessLookupError):
                node.stop()
        for node in self._nodes:
            node.line.close()

    def logs(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(f"== {node.name}\n{last_lines(node.log, 30)}" for node in self._nodes)


@contextlib.contextmanager
def running_cluster(
    directory: Path, names: Sequence[str] = ("a", "b"), environment: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Run a cluster of so many nodes for as long as the block lasts."""
    cluster = Cluster(directory, names, environment or {})
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def new_name() -> str:
    """Return the name of a repository that nobody has used before."""
    return f"library/r{secrets.token_hex(5)}"


def seeded(name: str) -> random.Random:
    """Return a generator that gives the same to each run of a test."""
    return random.Random(name)
