"""Runs two real masters behind a real gateway by `twinhull up`, for tests that talk to them as clients do."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import last_lines, stop, wait_until

ADMIN: Final = "admin"
ADMIN_PASSWORD: Final = "Harbor12345"
PROJECT: Final = "library"
START_LIMIT_S: Final = 90
STOP_LIMIT_S: Final = 45
# Relative to the base: the gateway, the nodes, the TLS entrance and the ports of the node traffic.
OFFSETS: Final = (0, 1, 2, 100, *range(200, 206))
# Below the range that the system takes for outgoing connections, so that no client's connection can sit on a port chosen here.
FIRST_BASE: Final = 20_000
LAST_BASE: Final = 32_000
# Tests can be pointed at masters that run already: ENTRANCE,A,B as host:port. Read before the tests' environment is cleaned.
RUNNING: Final = os.environ.get("TWINHULL_TEST_TWINS", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """One address of a registry and who the tests are there."""

    address: str
    user: str = ADMIN
    password: str = ADMIN_PASSWORD
    project: str = PROJECT

    def seen_by(self, user: str, password: str) -> Registry:
        """Return the same registry as another user meets it."""
        return dataclasses.replace(self, user=user, password=password)


@dataclass(frozen=True, slots=True, kw_only=True)
class Twins:
    """Two masters and their entrance."""

    entrance: Registry
    a: Registry
    b: Registry
    log: Path | None = None

    def other(self, node: Registry) -> Registry:
        """Return the other master."""
        return self.b if node == self.a else self.a


def _free(port: int) -> bool:
    """Say whether nothing listens on the loopback port."""
    with socket.socket() as probe:
        # As servers do: a closed connection that lingers does not make the port unusable.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_base_port() -> int:
    """Return a base port all of whose neighbours that `twinhull up` uses are free, or raise OSError."""
    for _ in range(200):
        base = FIRST_BASE + secrets.randbelow(LAST_BASE - FIRST_BASE)
        if all(_free(base + offset) for offset in OFFSETS):
            return base
    raise OSError(f"no base port between {FIRST_BASE} and {LAST_BASE} has its neighbours free")


def _ready(address: str) -> bool:
    """Say whether the node or gateway at the address calls itself ready."""
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _twins_at(addresses: Sequence[str], log: Path | None = None) -> Twins:
    """Return the twins at the given addresses: entrance, a, b."""
    entrance, a, b = (Registry(address=address) for address in addresses)
    return Twins(entrance=entrance, a=a, b=b, log=log)


@contextlib.contextmanager
def running_twins(directory: Path) -> Iterator[Twins]:
    """Start two masters with their data under the directory, and stop them as Ctrl-C does, or raise ServerFailed."""
    base = free_base_port()
    log = directory / "twinhull.log"
    command = [
        str(Path(sys.executable).with_name("twinhull")),
        "up",
        "--data-dir",
        str(directory / "data"),
        "--base-port",
        str(base),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TWINHULL_")}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    twins = _twins_at([f"127.0.0.1:{base + offset}" for offset in (0, 1, 2)], log)
    try:
        for registry in (twins.a, twins.b, twins.entrance):
            wait_until(lambda at=registry.address: _ready(at), process=process, log=log, limit_s=START_LIMIT_S)  # type: ignore[misc]
        # Each answers, but the entrance may still find one well and the other not yet: `up` says when that is over.
        wait_until(lambda: "docker pull" in log.read_text(encoding="utf-8"), process=process, log=log, limit_s=START_LIMIT_S)
        yield twins
    finally:
        stop(process, signal.SIGINT, limit_s=STOP_LIMIT_S)


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """Run one pair of masters for all tests of the session, or use the pair that TWINHULL_TEST_TWINS names."""
    if RUNNING:
        yield _twins_at(RUNNING.split(","))
        return
    with running_twins(tmp_path_factory.mktemp("twins")) as pair:
        yield pair


def log_of(twins: Twins) -> str:
    """Return the end of what each process said, for a failure report."""
    if twins.log is None:
        return "the masters were not started by the tests"
    logs = (twins.log, *sorted((twins.log.parent / "data" / "logs").glob("*.log")))
    return "\n".join(f"-- {log.name}\n{last_lines(log)}" for log in logs)
