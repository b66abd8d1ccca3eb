"""Registries while they run: started on a loopback port and an empty directory, asked for tokens, stopped, swept away."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tools.bench.failures import BenchFailed
from tools.bench.programs import ADMIN, PASSWORD, Program
from tools.bench.usage import Usage
from tools.bench.wire import Connection, header

_START_LIMIT_S: Final = 90
_STOP_LIMIT_S: Final = 30
_POLL_S: Final = 0.05
_LOG_LINES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running registry."""

    program: Program
    address: str
    directory: Path
    usage: Usage

    def authorization(self, repository: str, actions: str = "pull,push") -> bytes:
        """Return the header line that lets a client do that, which is none where everybody may do everything."""
        if not self.program.tokens:
            return b""
        with Connection(self.address) as connection:
            challenge = connection.ask("GET", "/v2/").expect(401).header(b"www-authenticate")
            realm, service = (challenge.partition(f'{name}="')[2].partition('"')[0] for name in ("realm", "service"))
            basic = base64.b64encode(f"{ADMIN}:{PASSWORD}".encode()).decode()
            target = f"{urlsplit(realm).path}?service={service}&scope=repository:{repository}:{actions}"
            answer = connection.ask("GET", target, header("Authorization", f"Basic {basic}")).expect(200)
        return header("Authorization", f"Bearer {json.loads(answer.body)['token']}")


@contextlib.contextmanager
def running(
    program: Program, directory: Path, command: Sequence[str] = (), port: int = 0, *, keeps: bool = False
) -> Iterator[Server]:
    """Start the registry on a directory, wait until it is ready, and at the end stop it and sweep the directory away.

    Another command than the program's own comes with the port that it says. Who keeps the directory can start there again.
    Raises BenchFailed when it does not start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    address = f"127.0.0.1:{port}"
    log = directory / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command or program.command(directory, port),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=_clean_environment() | dict(program.environment),
            start_new_session=True,
        )
    try:
        _wait_ready(program, process, address, log)
        yield Server(program=program, address=address, directory=directory, usage=Usage(process.pid))
    finally:
        _stop(process)
        if not keeps:
            shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    """Return a loopback port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _clean_environment() -> dict[str, str]:
    """Return the environment without what would configure a registry by the way."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TWINHULL_", "REGISTRY_"))}


def _wait_ready(program: Program, process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline_s = time.monotonic() + _START_LIMIT_S
    while not _is_ready(program, address):
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(_POLL_S)
            raise BenchFailed(f"{program.name} ended with {code}:\n{_tail(log)}")
        if time.monotonic() > deadline_s:
            raise BenchFailed(f"{program.name} was not ready after {_START_LIMIT_S} s:\n{_tail(log)}")


def _is_ready(program: Program, address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", program.ready_path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end; after a while kill it, and all of its session, which is nobody else's."""
    process.terminate()
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
