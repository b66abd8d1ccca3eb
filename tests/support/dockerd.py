"""Runs a real docker daemon of the tests' own: its images, socket and processes are apart from any other daemon's."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.clients import require_client, unavailable
from tests.support.processes import stop, wait_until

START_LIMIT_S: Final = 60
STOP_LIMIT_S: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerd:
    """A running daemon."""

    host: str
    log: Path


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over the daemon's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=5)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a port."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(5)
        self.sock.connect(str(self._path))


def _answers(path: Path) -> bool:
    """Say whether the daemon answers its ping."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", "/_ping")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def running_dockerd() -> Iterator[Dockerd]:
    """Start a daemon that can push, pull, load and build without a network of its own, and stop it at the end."""
    program = require_client("dockerd")
    if os.geteuid() != 0:
        unavailable("dockerd needs root")
    # Not pytest's tmp_path: the path of a unix socket may have 107 characters, and containerd's is well inside exec/.
    directory = Path(tempfile.mkdtemp(prefix="th-dockerd-"))
    log = directory / "log"
    sock = directory / "docker.sock"
    command = [
        *(str(require_client("setpriv")), "--pdeathsig", "TERM", str(program)),
        *("--data-root", str(directory / "data"), "--exec-root", str(directory / "exec")),
        *("--host", f"unix://{sock}", "--pidfile", str(directory / "pid")),
        *("--config-file", str(directory / "daemon.json"), "--iptables=false", "--ip6tables=false", "--bridge=none"),
        *("--insecure-registry", "127.0.0.0/8"),
    ]
    (directory / "daemon.json").write_text("{}")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(directory)}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        wait_until(lambda: _answers(sock), process=process, log=log, limit_s=START_LIMIT_S)
        yield Dockerd(host=f"unix://{sock}", log=log)
    finally:
        stop(process, signal.SIGTERM, limit_s=STOP_LIMIT_S)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Dockerd]:
    """Run one daemon for all tests of the session."""
    with running_dockerd() as daemon:
        yield daemon
