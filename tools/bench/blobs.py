"""Measures how fast blobs go in and out, by one stream and by eight, and what that costs the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tools.bench.clients import Client
from tools.bench.content import LAYERS, Blob
from tools.bench.crowd import Start, together
from tools.bench.failures import BenchFailed
from tools.bench.metrics import Metric
from tools.bench.servers import Server, running
from tools.bench.session import PROJECT, Session
from tools.bench.wire import Connection

_REPOSITORY = f"{PROJECT}/bench"

Work = Callable[[Server, bytes, Sequence[Blob], Start], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """One way of sending or fetching all layers, by so many streams, and where its results go."""

    work: Work
    streams: int
    # How often the layers are written to disk by it.
    copies: int
    speed: Metric
    cost: Metric


def measure_push(session: Session) -> None:
    """Push all layers one after the other, all at once, and in docker's way; each to an empty server."""
    ways = (
        _Way(work=_push, streams=1, copies=1, speed=Metric.PUSH_ONE, cost=Metric.PUSH_ONE_CPU),
        _Way(work=_push, streams=LAYERS, copies=1, speed=Metric.PUSH_EIGHT, cost=Metric.PUSH_EIGHT_CPU),
        _Way(work=_push_by_patch, streams=1, copies=1, speed=Metric.PUSH_PATCH, cost=Metric.PUSH_PATCH_CPU),
    )
    for program in session.programs:
        for way in ways:
            with running(program, session.place(program, "push")) as server:
                _measure(session, server, way, session.layers.fresh())


def measure_pull(session: Session) -> None:
    """Pull all layers one after the other, and all at once; the bytes are in the page cache."""
    ways = (
        _Way(work=_pull, streams=1, copies=0, speed=Metric.PULL_ONE, cost=Metric.PULL_ONE_CPU),
        _Way(work=_pull, streams=LAYERS, copies=0, speed=Metric.PULL_EIGHT, cost=Metric.PULL_EIGHT_CPU),
    )
    for program in session.programs:
        with running(program, session.place(program, "pull")) as server:
            layers = session.layers.fresh()
            together(_shared_out(server, _push, layers, LAYERS))
            for way in ways:
                _measure(session, server, way, layers)


def _measure(session: Session, server: Server, way: _Way, layers: Sequence[Blob]) -> None:
    works = _shared_out(server, way.work, layers, way.streams)
    session.settle(way.copies)
    done = together(works, usages=[server.usage])
    session.book.note(way.speed, server.program.name, session.layers.total_bytes / 1e6 / done.seconds)
    session.book.note(way.cost, server.program.name, done.cpu_s[0] / session.gigabytes)


def _shared_out(server: Server, work: Work, layers: Sequence[Blob], streams: int) -> list[Callable[[Start], None]]:
    authorization = server.authorization(_REPOSITORY)
    return [partial(work, server, authorization, layers[number::streams]) for number in range(streams)]


def push_all(address: str, repository: str, authorization: bytes, layers: Sequence[Blob], start: Start) -> None:
    """Push the layers one after the other by one connection."""
    with Connection(address) as connection:
        client = Client(connection, repository, authorization)
        start()
        for layer in layers:
            client.push_blob(layer)


def _push(server: Server, authorization: bytes, layers: Sequence[Blob], start: Start) -> None:
    push_all(server.address, _REPOSITORY, authorization, layers, start)


def _push_by_patch(server: Server, authorization: bytes, layers: Sequence[Blob], start: Start) -> None:
    with Connection(server.address) as connection, Connection(server.address) as other:
        client = Client(connection, _REPOSITORY, authorization)
        start()
        for layer in layers:
            client.push_blob_by_patch(layer, other)


def _pull(server: Server, authorization: bytes, layers: Sequence[Blob], start: Start) -> None:
    with Connection(server.address) as connection:
        client = Client(connection, _REPOSITORY, authorization)
        start()
        for layer in layers:
            drained = client.pull_blob(layer.digest)
            if (drained.status, drained.size_bytes) != (200, layer.size_bytes):
                raise BenchFailed(f"pull answered {drained.status} with {drained.size_bytes} bytes")
