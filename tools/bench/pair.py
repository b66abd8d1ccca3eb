"""Measures two nodes: how soon the second has what the first was given, and how it is pulled from there before that."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tools.bench.blobs import push_all
from tools.bench.clients import Client
from tools.bench.content import LAYERS, Blob, config_of, manifest_of
from tools.bench.crowd import Start, together
from tools.bench.failures import BenchFailed
from tools.bench.metrics import Metric
from tools.bench.programs import TWINHULL, Program, twinhull_data
from tools.bench.servers import Server, free_port, running
from tools.bench.session import PROJECT, Session
from tools.bench.wire import Connection, Drained
from twinhull.blobs.layout import Layout
from twinhull.kit.digest import Digest

_REPOSITORY: Final = f"{PROJECT}/pair"
_POLL_S: Final = 0.002
_ARRIVAL_LIMIT_S: Final = 120
_JOINED_LIMIT_S: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two nodes of one cluster."""

    a: Server
    b: Server


@contextlib.contextmanager
def running_pair(program: Program, directory: Path) -> Iterator[Pair]:
    """Start a node, have another join it, and wait until a write waits for both; or raise BenchFailed."""
    with running(program, directory / "a") as a, joining(program, directory / "b", a) as b:
        _wait_joined(a)
        yield Pair(a=a, b=b)


@contextlib.contextmanager
def joining(program: Program, directory: Path, member: Server) -> Iterator[Server]:
    """Start a node that joins the other one's cluster, on an empty directory; or raise BenchFailed."""
    token = order(member, "invite").split()[-1]
    port = free_port()
    start, _, *options = program.command(directory, port)
    with running(program, directory, [start, "cluster", "join", token, *options], port) as node:
        yield node


def order(node: Server, *words: str) -> str:
    """Return what `twinhull cluster` says to that at a node; raises BenchFailed when it fails."""
    done = run_order(node, *words)
    if done.returncode:
        raise BenchFailed(f"twinhull cluster {' '.join(words)}: {done.stderr}")
    return done.stdout


def run_order(node: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `twinhull cluster` with that at a node, however it ends."""
    program = str(Path(sys.executable).with_name("twinhull"))
    where = ("--data-dir", str(twinhull_data(node.directory)))
    return subprocess.run([program, "cluster", *words, *where], capture_output=True, text=True, check=False)


def measure_pair(session: Session) -> None:
    """Push an image to one node and wait for the other's disk; push another, and pull it from the other at once."""
    for program in session.programs:
        if program.name == TWINHULL:
            with running_pair(program, session.directory / "pair") as pair:
                _measure_arrival(session, pair)
                _measure_pull(session, pair)


def _measure_arrival(session: Session, pair: Pair) -> None:
    book, name = session.book, pair.a.program.name
    layers = session.layers.fresh()
    session.settle(2)
    usages = [pair.a.usage, pair.b.usage]
    before_s = [usage.cpu_s() for usage in usages]
    config, seconds = _push_layers(pair, layers)
    acknowledged_s = _push_manifest(pair, config, layers, "v1")
    arrived_s = _wait_arrived(pair.b, [config, *layers])
    cpu_s = [usage.cpu_s() - before for usage, before in zip(usages, before_s, strict=True)]
    book.note(Metric.PAIR_PUSH, name, session.layers.total_bytes / 1e6 / seconds)
    book.note(Metric.PAIR_LAG, name, max(0.0, arrived_s - acknowledged_s))
    book.note(Metric.PAIR_CPU_A, name, cpu_s[0] / session.gigabytes)
    book.note(Metric.PAIR_CPU_B, name, cpu_s[1] / session.gigabytes)


def _measure_pull(session: Session, pair: Pair) -> None:
    book, name = session.book, pair.a.program.name
    layers = session.layers.fresh()
    session.settle(2)
    config, _ = _push_layers(pair, layers)
    authorization = pair.b.authorization(_REPOSITORY, "pull")
    _push_manifest(pair, config, layers, "v2")
    began_s = time.monotonic()
    with Connection(pair.b.address) as connection:
        client = Client(connection, _REPOSITORY, authorization)
        drained = [client.pull_manifest("v2"), client.pull_blob(config.digest, hashed=True)]
    done = together([partial(_pull, pair.b.address, authorization, layer) for layer in layers])
    whole = [one.status == 200 for one in drained]
    whole += [one.digest == layer.digest for one, layer in zip(done.results, layers, strict=True)]
    book.note(Metric.PAIR_PULLED, name, 100 * sum(whole) / len(whole))
    book.note(Metric.PAIR_FIRST_BYTE, name, 1e3 * max(one.first_byte_s for one in (*drained, *done.results)))
    book.note(Metric.PAIR_PULL, name, session.layers.total_bytes / 1e6 / (done.ended_s - began_s))


def _push_layers(pair: Pair, layers: Sequence[Blob]) -> tuple[Blob, float]:
    """Push all layers at once to node a, then the configuration; return it, and how long the layers took."""
    authorization = pair.a.authorization(_REPOSITORY)
    works = [partial(push_all, pair.a.address, _REPOSITORY, authorization, layers[number::LAYERS]) for number in range(LAYERS)]
    done = together(works)
    config = config_of(layers)
    with Connection(pair.a.address) as connection:
        Client(connection, _REPOSITORY, authorization).push_blob(config)
    return config, done.seconds


def _push_manifest(pair: Pair, config: Blob, layers: Sequence[Blob], tag: str) -> float:
    """Push the manifest to node a, and return the moment of the 201."""
    with Connection(pair.a.address) as connection:
        Client(connection, _REPOSITORY, pair.a.authorization(_REPOSITORY)).push_manifest(tag, manifest_of(config, layers))
        return time.monotonic()


def _wait_arrived(node: Server, blobs: Sequence[Blob]) -> float:
    """Return the moment at which the node has every blob whole on its own disk, or raise BenchFailed."""
    layout = Layout(twinhull_data(node.directory))
    left = [layout.blob(Digest(blob.digest)) for blob in blobs]
    deadline_s = time.monotonic() + _ARRIVAL_LIMIT_S
    while left:
        left = [path for path in left if not path.exists()]
        now_s = time.monotonic()
        if left and now_s > deadline_s:
            raise BenchFailed(f"after {_ARRIVAL_LIMIT_S} s node b lacks {len(left)} of {len(blobs)} blobs")
        if left:
            time.sleep(_POLL_S)
    return now_s


def _pull(address: str, authorization: bytes, layer: Blob, start: Start) -> Drained:
    with Connection(address) as connection:
        client = Client(connection, _REPOSITORY, authorization)
        start()
        return client.pull_blob(layer.digest, hashed=True)


def _wait_joined(node: Server) -> None:
    """Wait until the node's answers wait for its peer: from then on both are one registry."""
    config = config_of([])
    deadline_s = time.monotonic() + _JOINED_LIMIT_S
    with Connection(node.address) as connection:
        client = Client(connection, _REPOSITORY, node.authorization(_REPOSITORY))
        client.push_blob(config)
        tag = 0
        while client.push_manifest(f"ready-{tag}", manifest_of(config, [])).header(b"twinhull-durability") != "metadata":
            if time.monotonic() > deadline_s:
                raise BenchFailed(f"after {_JOINED_LIMIT_S} s the nodes do not wait for each other")
            tag += 1
            time.sleep(_POLL_S)
