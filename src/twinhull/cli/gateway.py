"""`twinhull gateway`: the one address in front of the nodes, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from twinhull.config.settings import LogSettings
from twinhull.gateway.nginx import CURRENT, Nginx, find_nginx
from twinhull.gateway.render import FILES_PER_CONNECTION, render
from twinhull.gateway.settings import GatewaySettings, gateway_settings, read_gateway_toml
from twinhull.gateway.supervise import Gateway
from twinhull.kit.clock import SystemClock
from twinhull.kit.errors import Unavailable
from twinhull.observe.log import configure_logging

# What `--print` names when no --run-dir is given.
_RUN_DIR_PRINTED: Final = Path("/run/twinhull-gateway")


def gateway(  # noqa: PLR0917 - the options of a command
    config: Annotated[Path | None, typer.Option(help="TOML file with the gateway's settings; options given here win.")] = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="A node, as http://HOST:PORT; once per node.", metavar="URL")
    ] = None,
    listen: Annotated[list[str] | None, typer.Option(help="Address for plain HTTP.", metavar="HOST:PORT")] = None,
    tls_listen: Annotated[list[str] | None, typer.Option(help="Address for HTTPS.", metavar="HOST:PORT")] = None,
    cert: Annotated[Path | None, typer.Option(help="Certificate and its chain (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(help="The certificate's private key (PEM).")] = None,
    redirect: Annotated[bool | None, typer.Option("--redirect", help="Send plain HTTP to HTTPS.")] = None,
    affinity: Annotated[str | None, typer.Option(help="ip: pin each client address to a node.", metavar="none|ip")] = None,
    trusted_proxy: Annotated[
        list[str] | None, typer.Option(help="A proxy in front whose X-Forwarded-* are believed.", metavar="NETWORK")
    ] = None,
    access_log: Annotated[str | None, typer.Option(help="Where requests are logged.", metavar="off|stderr|FILE")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Where nginx keeps its files; default: a temporary directory.")] = None,
    print_: Annotated[bool, typer.Option("--print", help="Show nginx's configuration and end.")] = False,
) -> None:
    """Serve all nodes under one address, through nginx."""
    given: dict[str, Any] = {
        "backends": backend,
        "listen": listen,
        "tls_listen": tls_listen,
        "certificate": str(cert.absolute()) if cert else None,
        "key": str(key.absolute()) if key else None,
        "redirect": redirect,
        "affinity": affinity,
        "trusted_proxies": trusted_proxy,
        "access_log": access_log if access_log in {None, "off", "stderr"} else str(Path(str(access_log)).absolute()),
    }
    from_file = read_gateway_toml(config) if config else {}
    settings = gateway_settings(from_file | {name: value for name, value in given.items() if value})
    if print_:
        files = settings.worker_connections * FILES_PER_CONNECTION
        directory = (run_dir or _RUN_DIR_PRINTED).absolute()
        typer.echo(render(settings, run_dir=directory, nginx=asyncio.run(_nginx_here()), open_files=files), nl=False)
        return
    configure_logging(LogSettings(), SystemClock(), fields={"part": "gateway"})
    with contextlib.ExitStack() as stack:
        directory = run_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twinhull-gateway-")))
        asyncio.run(_serve(settings, directory))


async def _nginx_here() -> Nginx:
    try:
        return await find_nginx()
    except Unavailable:
        return CURRENT


async def _serve(settings: GatewaySettings, run_dir: Path) -> None:
    """Run the gateway until SIGINT or SIGTERM; a second one cuts what is still running."""
    running = asyncio.create_task(Gateway(settings, run_dir=run_dir).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
