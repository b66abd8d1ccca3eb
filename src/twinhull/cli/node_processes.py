"""What a node consists of while it runs: a supervisor, the HTTP server with its workers, and the agent."""

from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

import structlog
import uvloop
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import Server

from twinhull.cli.processes import (
    Role,
    Supervisor,
    call_in_child,
    default_stop_signals,
    die_with_parent,
    name_process,
    only_process_of,
)
from twinhull.config.load import Loaded
from twinhull.config.settings import Settings
from twinhull.config.values import Address
from twinhull.kit.clock import SystemClock
from twinhull.kit.errors import Conflict, SettingsInvalid
from twinhull.node import entering, start
from twinhull.node.agent import run_agent
from twinhull.node.allocator import keep_freed_memory, share_freed_memory
from twinhull.node.worker import http_app
from twinhull.observe.log import configure_logging
from twinhull.observe.metrics import clear_metrics
from twinhull.observe.stop_mark import StopMark

_log: Final = structlog.get_logger()

# The server's own messages go the way of all others; its lines for requests are not used.
_SERVER_LOGS: Final[dict[str, Any]] = {
    "handlers": {},
    "formatters": {},
    "loggers": {"_granian": {"handlers": [], "propagate": True}, "granian.access": {"handlers": [], "propagate": False}},
}
# Part of the time to stop is the agent's: it comes last, and has what was just written to pass on.
_AGENT_STOP_S: Final = 3.0
_WORKER_NICE: Final = 2


class Join(NamedTuple):
    """A token of another cluster's node, and what to do with data that this node has already."""

    token: str
    own_data: str


def run_node(loaded: Loaded, *, join: Join | None = None, stop_with_parent: int | None = None) -> None:
    """Run the node until it is told to stop; join the token's cluster first if there is one."""
    settings = loaded.settings
    clock = SystemClock()
    if stop_with_parent is not None:
        die_with_parent(signal.SIGTERM, stop_with_parent)
    _set_up_process(settings, "supervisor")
    keep_freed_memory()
    os.umask(0o027)
    with ExitStack() as stack:
        stack.enter_context(only_process_of(settings.run_dir / "lock", clock))
        clear_metrics(settings.metrics_dir)
        settings = _with_ports(settings, stack)
        for warning in loaded.warnings:
            _log.warning("setting without effect", setting=warning)
        if join is not None:
            call_in_child(partial(entering.join, settings, join.token, join.own_data), "join")
        started = call_in_child(partial(start.initialise, settings), "initialise")
        _announce(settings, started)
        roles = (
            Role(name="http", work=partial(_serve_http, settings)),
            Role(name="agent", work=partial(_run_agent, settings)),
        )
        stopping = StopMark(settings.run_dir)
        stopping.clear()
        stop_timeout_s = settings.stop_timeout_s + _AGENT_STOP_S
        Supervisor(roles, clock=clock, stop_timeout_s=stop_timeout_s, on_stop=stopping.set).run()


def _announce(settings: Settings, started: start.Initialised) -> None:
    print(
        f"node {settings.node_name} listens on http://{settings.listen}, "
        f"for peers on {settings.cluster_address}, and keeps its data in {settings.data_dir}",
        flush=True,
    )
    if started.generated_admin_password:
        print(f"password of admin, shown only now: {started.generated_admin_password.reveal()}", flush=True)


def _serve_http(settings: Settings) -> None:
    _set_up_process(settings, "http")
    # Workers are forks of this process, which has loaded the program; other ways of starting them would load it again.
    multiprocessing.set_start_method("fork", force=True)
    # Else a stop that finds a worker still loading would be lost in the handlers that it inherits, and take its full time.
    os.register_at_fork(after_in_child=default_stop_signals)
    server = Server(
        target="twinhull.node.worker:http_app",
        address=_resolve(settings.listen)[1][0],
        port=settings.listen.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        loop=Loops.uvloop,
        http=HTTPModes.auto,
        http1_settings=HTTP1Settings(),
        backlog=settings.limits.connection_backlog,
        backpressure=settings.limits.requests_running_max,
        respawn_failed_workers=True,
        workers_kill_timeout=max(1, int(settings.stop_timeout_s)),
        log_level=LogLevels.warning,
        log_dictconfig=_SERVER_LOGS,
    )
    server.serve(target_loader=partial(_load_app, settings, os.getpid()), wrap_loader=False)


def _load_app(settings: Settings, parent: int) -> Callable[..., Any]:
    die_with_parent(signal.SIGKILL, parent)
    # Under load the agent comes first: what it has to pass on and to confirm is what other nodes' clients are waiting for.
    os.nice(_WORKER_NICE)
    name_process("twinhull worker")
    _set_up_process(settings, "worker")
    app: Callable[..., Any] = http_app(settings)
    return app


def _run_agent(settings: Settings) -> None:
    _set_up_process(settings, "agent")
    share_freed_memory()
    uvloop.run(_agent_until_stopped(settings))


async def _agent_until_stopped(settings: Settings) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await run_agent(settings, stop)


def _set_up_process(settings: Settings, process: str) -> None:
    configure_logging(settings.log, SystemClock(), fields={"node": settings.node_name, "process": process})


def _with_ports(settings: Settings, stack: ExitStack) -> Settings:
    """Return the settings with real ports in place of 0, kept from others until the stack is closed; or raise Conflict."""
    any_port = settings.listen.port == 0
    listen = _reserve(settings.listen, "--listen", stack)
    settings = replace(settings, listen=listen)
    try:
        cluster_listen = _reserve(settings.cluster_address, "--cluster-listen", stack)
    except Conflict:
        if not any_port or settings.cluster_listen is not None:
            raise
        cluster_listen = _reserve(settings.cluster_address.with_port(0), "--cluster-listen", stack)
    return replace(settings, cluster_listen=cluster_listen)


def _reserve(address: Address, option: str, stack: ExitStack) -> Address:
    family, where = _resolve(address)
    try:
        # Workers share the port by SO_REUSEPORT, and a second node would quietly share it too: so first ask for it alone.
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
        # Bound and never listening: it gets no connection, and keeps the port while workers come and go.
        keeper = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper.bind(where)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = f"{address} is in use"
        elif error.errno == errno.EACCES:
            message = f"{address}: this user may not listen on port {address.port}"
        else:
            message = f"cannot listen on {address}: {error.strerror}"
        raise Conflict(message, hint=f"stop what listens there, or choose another {option}") from error
    return address.with_port(keeper.getsockname()[1])


def _resolve(address: Address) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise SettingsInvalid(f"{address.host!r} is not an address of this machine: {error.strerror}") from error
    family, _, _, _, where = found[0]
    return family, where
