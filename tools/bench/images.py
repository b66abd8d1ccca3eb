"""Measures how many small images a server takes from eight clients: all requests and all syncs, hardly any bytes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from tools.bench.clients import Client
from tools.bench.content import config_of, in_memory, manifest_of
from tools.bench.crowd import Start, together
from tools.bench.metrics import Metric
from tools.bench.pair import running_pair
from tools.bench.programs import TWINHULL
from tools.bench.servers import Server, running
from tools.bench.session import PROJECT, Session
from tools.bench.usage import Usage
from tools.bench.wire import Connection

CLIENTS: Final = 8
LAYER_BYTES: Final = 3_000


@dataclass(frozen=True, slots=True)
class _Pushed:
    """What one client got done."""

    images: int
    # How many of them the server said to have at level metadata or better.
    replicated: int


def measure_images(session: Session) -> None:
    """Push to one server, then to one of two nodes."""
    for program in session.programs:
        with running(program, session.place(program, "images")) as server:
            _measure(session, server, [server.usage], (Metric.IMAGES, Metric.IMAGES_CPU))
    for program in session.programs:
        if program.name == TWINHULL:
            with running_pair(program, session.directory / "images") as pair:
                usages = [pair.a.usage, pair.b.usage]
                share = _measure(session, pair.a, usages, (Metric.IMAGES_TWO, Metric.IMAGES_TWO_CPU))
                session.book.note(Metric.IMAGES_TWO_REACHED, program.name, 100 * share)


def _measure(session: Session, server: Server, usages: Sequence[Usage], metrics: tuple[Metric, Metric]) -> float:
    """Note the rate and the cost, and return the share of images that a peer has the manifest of."""
    works = []
    for number in range(CLIENTS):
        repository = f"{PROJECT}/small-{number}"
        works.append(partial(_push, server.address, repository, server.authorization(repository), session.for_s))
    session.settle()
    done = together(works, usages=usages)
    count = sum(pushed.images for pushed in done.results)
    rate, cost = metrics
    session.book.note(rate, server.program.name, count / done.seconds)
    session.book.note(cost, server.program.name, sum(done.cpu_s) / count * 1e3)
    return sum(pushed.replicated for pushed in done.results) / count


def _push(address: str, repository: str, authorization: bytes, for_s: float, start: Start) -> _Pushed:
    with Connection(address) as connection:
        client = Client(connection, repository, authorization)
        start()
        began_s = time.monotonic()
        images = replicated = 0
        while time.monotonic() - began_s < for_s:
            level = _push_image(client, f"v{images}")
            images += 1
            replicated += level in ("metadata", "full")
    return _Pushed(images, replicated)


def _push_image(client: Client, tag: str) -> str:
    """Push an image that nobody has seen before, and return the level of durability that the answer names."""
    layers = [in_memory(os.urandom(LAYER_BYTES)) for _ in range(2)]
    config = config_of(layers)
    for blob in (*layers, config):
        if not client.has_blob(blob.digest):
            client.push_blob(blob)
    return client.push_manifest(tag, manifest_of(config, layers)).header(b"twinhull-durability")
