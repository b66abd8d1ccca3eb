"""Runs one real node of a cluster, in processes of its own, and does to them what can happen."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.support.processes import POLL_S, ServerFailed, last_lines, stop, wait_until
from tests.support.registry_client import Answer, RegistryClient, Repository, basic
from tests.support.single import ADMIN_PASSWORD, free_address, is_ready, twinhull
from twinhull.kit.clock import SystemClock

START_LIMIT_S: Final = 60
STOP_LIMIT_S: Final = 40
# A busy machine may take this long for what takes a blink elsewhere.
PATIENCE_S: Final = 30.0
_CLI_LIMIT_S: Final = 90

T = TypeVar("T")


def eventually(look: Callable[[], T], *, limit_s: float = PATIENCE_S, what: str = "") -> T:
    """Return what `look` returns once that is true, or fail; an AssertionError of its own counts as not yet."""
    clock = SystemClock()
    end_s = clock.monotonic_s() + limit_s
    while True:
        try:
            if found := look():
                return found
            failure = None
        except (AssertionError, OSError, http.client.HTTPException) as error:
            failure = error
        if clock.monotonic_s() > end_s:
            raise AssertionError(f"not within {limit_s} s: {what or look}") from failure
        time.sleep(POLL_S)


class _AgentConnection(http.client.HTTPConnection):
    """HTTP over the socket in a node's data directory, as the command line talks to it."""

    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=_CLI_LIMIT_S)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_CLI_LIMIT_S)
        self.sock.connect(str(self._path))


@dataclass(slots=True, kw_only=True)
class RealNode:
    """One node, the processes that it runs as, and what can be done to them."""

    name: str
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    cluster_address: str = ""
    process: subprocess.Popen[bytes] | None = None
    # What the node is run by: nothing, or what puts it on a host of its own.
    prefix: Sequence[str] = ()

    @property
    def data_dir(self) -> Path:
        """The node's data directory."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """What the node has said in all its lives."""
        return self.directory / "log"

    def start(self, join: str = "", *, own_data: str = "", wait: bool = True) -> None:
        """Run the node, as a member of the token's cluster if one is given; the data that it has become `--own_data`."""
        self.address = self.address or free_address()
        self.cluster_address = self.cluster_address or free_address()
        self.directory.mkdir(parents=True, exist_ok=True)
        begin = ["cluster", "join", join] if join else ["serve"]
        begin += [f"--{own_data}"] if own_data else []
        command = [
            *(*self.prefix, str(twinhull()), *begin, "--data-dir", str(self.data_dir), "--workers", "1", "--name", self.name),
            *("--listen", self.address, "--cluster-listen", self.cluster_address),
        ]
        variables = os.environ | {
            "TWINHULL_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "TWINHULL_CLUSTER_ADVERTISE": self.advertised(),
            **self.environment,
        }
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=variables, start_new_session=True
            )
        if wait:
            self.wait_ready()

    def advertised(self) -> str:
        """Return the address that peers are told to dial."""
        return self.cluster_address

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The node's supervisor."""
        assert self.process is not None, f"{self.name} was not started"
        return self.process

    def wait_ready(self) -> None:
        """Return once the node calls itself ready."""
        wait_until(lambda: is_ready(self.address), process=self.running, log=self.log, limit_s=START_LIMIT_S)

    def becomes_ready(self, limit_s: float) -> bool:
        """Tell whether the node calls itself ready within so long, before it ends."""
        try:
            wait_until(lambda: is_ready(self.address), process=self.running, log=self.log, limit_s=limit_s)
        except ServerFailed:
            return False
        return True

    def kill(self) -> None:
        """Kill all of the node's processes at once, as a power failure does."""
        if self.process is not None and self.process.poll() is None:
            self._signal_all(signal.SIGKILL)
            self.process.wait(STOP_LIMIT_S)
            eventually(lambda: not self.pids(), what="all processes gone")

    def freeze(self) -> None:
        """Stop all of the node's processes where they are; connections stay."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        """Send the signal to all processes, the supervisor first, so that it does not mend what is done to the others."""
        for pid in sorted(self.pids(), key=lambda pid: pid != self.running.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        """End the node as an operator does."""
        if self.process is not None and self.process.poll() is None:
            self.thaw()
            stop(self.process, signal.SIGTERM, limit_s=STOP_LIMIT_S)

    def pids(self) -> list[int]:
        """Return the processes of the node: those of the session that its supervisor leads."""
        session = self.running.pid
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                    if int(fields[3]) == session and fields[0] != "Z":
                        found.append(int(entry.name))
        return found

    def agent(self) -> int | None:
        """Return the process id of the node's agent."""
        for pid in self.pids():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").startswith("twinhull agent"):
                    return pid
        return None

    # -- asking ----------------------------------------------------------------------------------------------------

    def cli(self, *arguments: str, code: int | None = 0) -> str:
        """Return what a `twinhull cluster` command says to this node, after checking its exit code."""
        command = [str(twinhull()), "cluster", *arguments, "--data-dir", str(self.data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_CLI_LIMIT_S)
        assert code is None or done.returncode == code, f"{arguments}: {done}\n{last_lines(self.log, 20)}"
        return done.stdout + done.stderr

    def invite(self) -> str:
        """Return a join token."""
        return self.cli("invite").split()[-1]

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Return what the agent answers to the command line's request, which takes less time than a command."""
        connection = _AgentConnection(self.data_dir / "run" / "agent.sock")
        try:
            connection.request(method, path, body=json.dumps(body or {}), headers={"Content-Type": "application/json"})
            response = connection.getresponse()
            document = json.loads(response.read())
        finally:
            connection.close()
        assert response.status == http.client.OK, f"{method} {path}: {document}"
        assert isinstance(document, dict)
        return document

    def pause(self, peer: RealNode | None = None) -> None:
        """Exchange nothing with a peer, or with any."""
        self.ask("POST", "/pause", {"peer": peer.name if peer else None})

    def resume(self, peer: RealNode | None = None) -> None:
        """Exchange again."""
        self.ask("POST", "/resume", {"peer": peer.name if peer else None})

    def status(self) -> dict[str, Any]:
        """Return the node's view of the cluster."""
        return self.ask("GET", "/status")

    def state_of(self, other: RealNode) -> str:
        """Return how this node sees another one; "" if it is no member."""
        return next((str(member["state"]) for member in self.status()["members"] if member["name"] == other.name), "")

    def client(self, user: str = "admin", password: str = ADMIN_PASSWORD) -> RegistryClient:
        """Return a client of this node."""
        return RegistryClient(addresses=[self.address], user=user, password=password)

    def manage(self, method: str, path: str, body: object = None, *, authorization: str = "") -> Answer:
        """Ask the management API, below its root or by a whole path, as the administrator or with other credentials."""
        return self.client().request(
            method,
            path if path.startswith("/api") else f"/api/v2.0{path}",
            headers={"Content-Type": "application/json"},
            body=b"" if body is None else json.dumps(body).encode(),
            authorization=authorization or basic("admin", ADMIN_PASSWORD),
        )

    def repository(self, name: str) -> Repository:
        """Return a repository as this node shows it."""
        return Repository(client=self.client(), name=name)

    def has_blob(self, digest: str) -> bool:
        """Tell whether the blob's bytes are on this node's own disk."""
        return self.blob_path(digest).exists()

    def blob_path(self, digest: str) -> Path:
        """Return where the blob's bytes are, or would be."""
        algorithm, _, name = digest.partition(":")
        return self.data_dir / "blobs" / algorithm / name[:2] / name
