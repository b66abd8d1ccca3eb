"""Runs one real node, `twinhull serve`, in a directory of its own."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.processes import stop, wait_until
from twinhull.cli.agent_client import AgentClient
from twinhull.kit.errors import TwinhullError

START_LIMIT_S: Final = 60
STOP_LIMIT_S: Final = 30
ADMIN_PASSWORD: Final = "Harbor12345"


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleNode:
    """A running node: where it listens, who may do everything, and what it says of itself."""

    address: str
    user: str
    password: str
    data_dir: Path
    log: Path
    process: subprocess.Popen[bytes]


def twinhull() -> Path:
    """Return the program that was installed beside the interpreter that runs the tests."""
    return Path(sys.executable).with_name("twinhull")


def free_address() -> str:
    """Return a loopback address whose port nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def is_ready(address: str) -> bool:
    """Say whether the server at that address answers its readiness check with 200."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def agent_answers(data_dir: Path) -> bool:
    """Say whether the node's agent, which is a process beside the one that answers clients, can be asked yet."""
    try:
        AgentClient(data_dir).get("/status")
    except TwinhullError:
        return False
    return True


@contextlib.contextmanager
def running_node(directory: Path, *, environment: Mapping[str, str] | None = None) -> Iterator[SingleNode]:
    """Start a node with an empty or existing data directory under this one, wait until it is ready, and stop it at the end."""
    address = free_address()
    data_dir = directory / "data"
    log = directory / "log"
    command = [
        *(str(twinhull()), "serve", "--data-dir", str(data_dir), "--workers", "1"),
        *("--listen", address, "--cluster-listen", free_address()),
    ]
    variables = os.environ | {"TWINHULL_ADMIN_PASSWORD": ADMIN_PASSWORD} | dict(environment or {})
    with log.open("ab") as sink:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=variables, start_new_session=True
        )
    try:
        wait_until(lambda: is_ready(address) and agent_answers(data_dir), process=process, log=log, limit_s=START_LIMIT_S)
        yield SingleNode(address=address, user="admin", password=ADMIN_PASSWORD, data_dir=data_dir, log=log, process=process)
    finally:
        stop(process, signal.SIGTERM, limit_s=STOP_LIMIT_S)
