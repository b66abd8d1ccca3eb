"""Measures how many manifest requests a server answers, and what one costs it."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Final

from tools.bench.clients import Client, manifest_headers
from tools.bench.content import config_of, in_memory, manifest_of
from tools.bench.failures import BenchFailed
from tools.bench.metrics import Metric
from tools.bench.servers import Server, running
from tools.bench.session import PROJECT, Session
from tools.bench.wire import Connection, Hammered, hammer

CONNECTIONS: Final = 16
_REPOSITORY: Final = f"{PROJECT}/bench"
_TARGET: Final = f"/v2/{_REPOSITORY}/manifests/latest"
_WARM_UP_S: Final = 0.5
# "  52342 requests in 3.00s, 41.21MB read"
_WRK_COUNT: Final = re.compile(r"(\d+) requests in ([\d.]+)(s|m)\b")


def measure_manifests(session: Session) -> None:
    """Ask for one manifest by its tag, over and over."""
    for program in session.programs:
        with running(program, session.place(program, "manifests")) as server:
            authorization = server.authorization(_REPOSITORY)
            size_bytes = _push_image(server, authorization)
            for method, rate, cost in (
                ("GET", Metric.MANIFEST_GET, Metric.MANIFEST_GET_CPU),
                ("HEAD", Metric.MANIFEST_HEAD, Metric.MANIFEST_HEAD_CPU),
            ):
                _ask(server, method, authorization, size_bytes, _WARM_UP_S)
                before_s = server.usage.cpu_s()
                done = _ask(server, method, authorization, size_bytes, session.for_s)
                cpu_s = server.usage.cpu_s() - before_s
                session.book.note(rate, program.name, done.count / done.seconds)
                session.book.note(cost, program.name, cpu_s / done.count * 1e6)


def _push_image(server: Server, authorization: bytes) -> int:
    """Push a small image, and return its manifest's size."""
    layers = [in_memory(b"layer %d" % number) for number in range(2)]
    config = config_of(layers)
    manifest = manifest_of(config, layers)
    with Connection(server.address) as connection:
        client = Client(connection, _REPOSITORY, authorization)
        for blob in (*layers, config):
            client.push_blob(blob)
        client.push_manifest("latest", manifest)
    return len(manifest)


def _ask(server: Server, method: str, authorization: bytes, size_bytes: int, for_s: float) -> Hammered:
    headers = manifest_headers(authorization)
    wrk = shutil.which("wrk")
    # wrk can't do HEAD: it waits for the body that the Content-Length speaks of.
    if method == "GET" and wrk and for_s >= 1:
        return _by_wrk(wrk, server.address, headers, int(for_s))
    body_bytes = size_bytes if method == "GET" else 0
    return hammer(server.address, method, _TARGET, headers, body_bytes=body_bytes, connections=CONNECTIONS, for_s=for_s)


def _by_wrk(wrk: str, address: str, headers: bytes, for_s: int) -> Hammered:
    lines = headers.decode("latin-1").split("\r\n")[:-1]
    options = [word for line in lines for word in ("-H", line)]
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{for_s}s", *options, f"http://{address}{_TARGET}"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=for_s + 30).stdout
    found = _WRK_COUNT.search(shown)
    if found is None or "Non-2xx" in shown or "Socket errors" in shown:
        raise BenchFailed(f"wrk had no good answers:\n{shown}")
    return Hammered(int(found[1]), float(found[2]) * (60 if found[3] == "m" else 1))
