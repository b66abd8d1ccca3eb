"""Runs the command line as people and scripts do: to its end, or as a node that is served for a while."""

from __future__ import annotations

import base64
import http.client
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.processes import wait_until

LIMIT_S: Final = 60
FIRST_LINE: Final = re.compile(r"node (\S+) listens on http://(\S+?), for peers on (\S+?), and keeps its data in (\S+)\n")


def twinhull(*arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    return subprocess.run(
        [sys.executable, "-m", "twinhull.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env={**os.environ, **(environ or {})},
    )


def basic(password: str) -> str:
    """Return admin's credentials as HTTP wants them."""
    return base64.b64encode(f"admin:{password}".encode()).decode()


def descendants(root: int) -> dict[str, list[int]]:
    """Return a process and all below it, by name; one that ends meanwhile is left out."""
    found: dict[str, list[int]] = {}
    todo = [root]
    while todo:
        pid = todo.pop()
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            todo += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.setdefault(name, []).append(pid)
    return found


@dataclass(frozen=True, slots=True)
class Served:
    """A node that was started by `serve` with port 0."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    def get(self, path: str, *, password: str = "") -> tuple[int, bytes]:
        """Ask the node, as admin if there is a password."""
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET", path, headers={"Authorization": f"Basic {basic(password)}"} if password else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def ready(self) -> bool:
        """Say whether it answers that it is ready."""
        try:
            return self.get("/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def processes(self) -> dict[str, list[int]]:
        """Return the processes of the node by what they are."""
        return descendants(self.process.pid)


@contextmanager
def serving(directory: Path, *, environ: Mapping[str, str] | None = None, ready: bool = True) -> Iterator[Served]:
    """Serve a node until the end of the block, which begins when it is ready, or earlier: when it has said its address."""
    directory.mkdir(exist_ok=True)
    log = directory / "log"
    log.write_bytes(b"")
    arguments = ["serve", "--data-dir", str(directory / "data"), "--listen", "127.0.0.1:0", "--workers", "2"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "twinhull.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **(environ or {})},
        )
    try:
        wait_until(lambda: FIRST_LINE.search(log.read_text()) is not None, process=process, log=log, limit_s=LIMIT_S)
        match = FIRST_LINE.search(log.read_text())
        assert match is not None
        served = Served(process, match[2], log)
        if ready:
            wait_until(served.ready, process=process, log=log, limit_s=LIMIT_S)
        yield served
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
