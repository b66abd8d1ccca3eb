"""Two nodes and a gateway on loopback: started in order, joined at the first start, restarted when they die.

Ports above the base: 0 the entrance, 1 and 2 the nodes, 100 the entrance with TLS, 201 and 202 the nodes for each other.
Below the data directory: `a` and `b` the nodes, `gateway` and `logs`.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, TextIO

from twinhull.cli.agent_client import AgentClient
from twinhull.cli.processes import only_process_of
from twinhull.config.settings import CLUSTER_PORT_OFFSET, LogSettings
from twinhull.gateway.certificate import self_signed
from twinhull.gateway.settings import Address, Backend, GatewaySettings
from twinhull.gateway.supervise import Gateway, GatewayStatus
from twinhull.kit.clock import Clock, SystemClock
from twinhull.kit.errors import TwinhullError, Unavailable
from twinhull.observe.log import configure_logging

HOST: Final = "127.0.0.1"
TLS_OFFSET: Final = 100
PASSWORD_VARIABLE: Final = "TWINHULL_ADMIN_PASSWORD"  # noqa: S105 - the name of a variable
# As in Harbor's sample file: this command is for trying things out.
PASSWORD: Final = "Harbor12345"  # noqa: S105 - said to everybody who starts it

_READY_TIMEOUT_S: Final = 90.0
_POLL_S: Final = 0.1
_RESTART_AFTER_S: Final = 1.0
_STOP_TIMEOUT_S: Final = 45.0
_LOG_KEPT_BYTES: Final = 10 * 1000 * 1000
_TAIL_LINES: Final = 8


class _Node:
    """One of the two: where it is, and its process."""

    def __init__(self, name: str, directory: Path, port: int, log: Path, environ: Mapping[str, str]) -> None:
        self.name = name
        self.directory = directory
        self.port = port
        self.log = log
        self.process: asyncio.subprocess.Process | None = None
        self._environ = dict(environ)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def start(self, *command: str) -> None:
        """Start it as `serve`, or as the command given."""
        cluster_port = self.port + CLUSTER_PORT_OFFSET
        with self.log.open("ab") as output:
            # fmt: off
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "twinhull.cli.main", *(command or ("serve",)),
                "--data-dir", str(self.directory), "--name", self.name,
                "--listen", f"{HOST}:{self.port}", "--cluster-listen", f"{HOST}:{cluster_port}",
                "--stop-with-parent", str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env=self._environ,
                # Ctrl-C is for this command, which stops the others in order.
                process_group=0,
            )
            # fmt: on

    async def wait_ready(self, clock: Clock) -> None:
        """Wait until it can serve, or raise Unavailable with the end of its log."""
        deadline_s = clock.monotonic_s() + _READY_TIMEOUT_S
        while not await asyncio.to_thread(_is_ready, self.port):
            if self.process is not None and self.process.returncode is not None:
                raise Unavailable(f"node {self.name} did not start", hint=f"its log {self.log} ends with:\n{_tail(self.log)}")
            if clock.monotonic_s() > deadline_s:
                raise Unavailable(f"node {self.name} is not ready after {_READY_TIMEOUT_S:g} s", hint=f"see {self.log}")
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        """Let it finish what it is doing, for a while."""
        if self.process is None or self.process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), _STOP_TIMEOUT_S)
        except TimeoutError:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()


class Twins:
    """What `twinhull up` runs."""

    def __init__(self, directory: Path, base_port: int, environ: Mapping[str, str]) -> None:
        """Take the directory for all their data, the entrance's port, and the environment that the nodes get."""
        self._directory = directory
        self._base_port = base_port
        self._password = environ.get(PASSWORD_VARIABLE) or PASSWORD
        self._clock = SystemClock()
        self._logs = directory / "logs"
        node_environ = {**environ, PASSWORD_VARIABLE: self._password}
        self._a, self._b = (
            _Node(name, directory / name, base_port + number, self._logs / f"{name}.log", node_environ)
            for number, name in enumerate("ab", start=1)
        )
        # A node's identity is the last thing that joining writes: who has one is a member, and only has to be started.
        self._joined = self._b.directory / "node" / "identity.json"
        self._stop = asyncio.Event()
        self._stops_asked = 0

    async def run(self) -> None:
        """Run until SIGINT or SIGTERM; a second one ends everything at once."""
        with ExitStack() as stack:
            stack.enter_context(only_process_of(self._directory / "run" / "lock", self._clock))
            gateway_log = stack.enter_context(self._open_logs())
            configure_logging(LogSettings(), self._clock, stream=gateway_log, fields={"process": "gateway"})
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._ask_to_stop)
            tasks = [asyncio.create_task(work) for work in (self._serve(gateway_log), self._stop.wait())]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if tasks[0].done():
                    await tasks[0]
            finally:
                for task in tasks:
                    task.cancel()
                # The gateway first, inside `_serve`: its last requests still need the nodes.
                await asyncio.gather(*tasks, return_exceptions=True)
                await asyncio.gather(self._a.stop(), self._b.stop())

    def _ask_to_stop(self) -> None:
        self._stops_asked += 1
        if self._stops_asked > 1:
            self._a.kill()
            self._b.kill()
        elif sys.stdout.isatty():
            print("\nstopping; once more to stop at once", flush=True)
        self._stop.set()

    def _open_logs(self) -> TextIO:
        self._logs.mkdir(parents=True, exist_ok=True)
        for log in self._logs.glob("*.log"):
            if log.stat().st_size > _LOG_KEPT_BYTES:
                log.replace(log.with_suffix(".log.1"))
        return (self._logs / "gateway.log").open("a", encoding="utf-8", buffering=1)

    async def _serve(self, gateway_log: TextIO) -> None:
        first_start = not self._joined.exists()
        entrance = self._gateway(gateway_log)
        gateway = asyncio.create_task(entrance.run())
        try:
            await _while_running(gateway, self._start_nodes(first_start=first_start))
            # From here on: a node may die before the entrance has found both.
            keepers = [asyncio.create_task(self._keep(node)) for node in (self._a, self._b)]
            try:
                await _while_running(gateway, entrance.wait_status(_has_all_nodes))
                while not await asyncio.to_thread(_is_ready, self._base_port):
                    if gateway.done():
                        await gateway
                    await asyncio.sleep(_POLL_S)
                self._announce(first_start=first_start)
                await asyncio.wait([gateway, *keepers], return_when=asyncio.FIRST_COMPLETED)
                await gateway
            finally:
                for keeper in keepers:
                    keeper.cancel()
        finally:
            gateway.cancel()
            with suppress(asyncio.CancelledError, TwinhullError):
                await gateway

    async def _start_nodes(self, *, first_start: bool) -> None:
        await self._a.start()
        if not first_start:
            await self._b.start()
        await self._a.wait_ready(self._clock)
        if first_start:
            await self._b.start("cluster", "join", await self._invite())
        await self._b.wait_ready(self._clock)

    async def _invite(self) -> str:
        """Return a join token of node a, whose agent may come up a little later than its HTTP side."""
        deadline_s = self._clock.monotonic_s() + _READY_TIMEOUT_S
        while True:
            try:
                return str((await asyncio.to_thread(AgentClient(self._a.directory).post, "/invite"))["token"])
            except Unavailable:
                if self._clock.monotonic_s() > deadline_s:
                    raise
            await asyncio.sleep(_POLL_S)

    async def _keep(self, node: _Node) -> None:
        """Start the node again whenever it ends, until cancelled."""
        while True:
            if node.process is not None:
                code = await node.process.wait()
                ended = f"signal {-code}" if code < 0 else f"exit code {code}"
                print(f"node {node.name} ended ({ended}); starting it again", file=sys.stderr, flush=True)
            await asyncio.sleep(_RESTART_AFTER_S)
            await node.start()

    def _gateway(self, log: TextIO) -> Gateway:
        certificate, key = self_signed((), self._directory / "gateway" / "tls", self._clock)
        settings = GatewaySettings(
            backends=(Backend.parse(self._a.url), Backend.parse(self._b.url)),
            listen=(Address(HOST, self._base_port),),
            tls_listen=(Address(HOST, self._base_port + TLS_OFFSET),),
            certificate=certificate,
            key=key,
        )

        def output(chunk: bytes) -> None:
            log.write(chunk.decode("utf-8", "replace"))

        return Gateway(settings, run_dir=self._directory / "gateway" / "run", clock=self._clock, output=output)

    def _announce(self, *, first_start: bool) -> None:
        entrance, secure = f"{HOST}:{self._base_port}", f"{HOST}:{self._base_port + TLS_OFFSET}"
        known = self._password if first_start else f"{self._password}, unless it was another at the first start"
        image = "library/hello:1"
        print(
            f"two masters, one address:\n\n"
            f"  entrance   http://{entrance}   https://{secure} (its certificate is self-signed)\n"
            f"  node a     {self._a.url}\n"
            f"  node b     {self._b.url}\n"
            f"  user       admin\n"
            f"  password   {known}\n"
            f"  data       {self._directory}, logs in {self._logs}\n\n"
            f"push to one, pull from the other:\n\n"
            f"  echo {self._password} | docker login -u admin --password-stdin {HOST}:{self._a.port}\n"
            f"  echo {self._password} | docker login -u admin --password-stdin {HOST}:{self._b.port}\n"
            f"  date > now && tar c now | docker import - {HOST}:{self._a.port}/{image}\n"
            f"  docker push {HOST}:{self._a.port}/{image}\n"
            f"  docker pull {HOST}:{self._b.port}/{image}\n\n"
            f"the same through the entrance:\n\n"
            f"  echo {self._password} | docker login -u admin --password-stdin {entrance}\n"
            f"  docker pull {entrance}/{image}\n\n"
            f"Ctrl-C stops all; a second start finds the data again",
            flush=True,
        )


async def _while_running(gateway: asyncio.Task[None], step: Coroutine[object, object, object]) -> None:
    """Take a step, or raise what ended the gateway meanwhile."""
    reached = asyncio.create_task(step)
    await asyncio.wait([reached, gateway], return_when=asyncio.FIRST_COMPLETED)
    if gateway.done():
        reached.cancel()
        await gateway
    await reached


def _has_all_nodes(status: GatewayStatus) -> bool:
    return all(node.well and node.in_rotation for node in status.nodes)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:])
