"""nginx's configuration as text: a pure function of the gateway's settings and of who is out."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jinja2

from twinhull.gateway.nginx import CURRENT, Nginx
from twinhull.gateway.settings import Backend, GatewaySettings, quoted_path

# Mozilla's "intermediate" list of 2024 without the finite-field ciphers, which need a parameter file.
_CIPHERS: Final = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
# Stands for a node whose name can't be resolved: nginx would refuse to start over the name, and leaving the node out
# would move every pinned client.
_NOWHERE: Final = "127.0.0.1:9"

# A connection may need a second descriptor, for a file or a resolver.
FILES_PER_CONNECTION: Final = 2


@dataclass(frozen=True, slots=True)
class _Server:
    address: str
    down: bool


def _environment() -> jinja2.Environment:
    template = importlib.resources.files("twinhull.gateway").joinpath("templates/nginx.conf.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(  # noqa: S701 - not HTML; every text goes through `quoted` or was checked by its grammar
        loader=jinja2.DictLoader({"nginx.conf": template}),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = quoted_path
    return environment


_ENVIRONMENT: Final = _environment()


def render(
    settings: GatewaySettings,
    *,
    run_dir: Path,
    nginx: Nginx = CURRENT,
    down: AbstractSet[Backend] = frozenset(),
    addresses: Mapping[Backend, str | None] | None = None,
    worker_user: str | None = None,
    open_files: int = 0,
) -> str:
    """Return nginx.conf for these settings; SettingsInvalid if the run directory's path can't be written into it.

    `down` are nodes that get no requests; `addresses` what the nodes' names resolved to (None: to nothing).
    """
    servers = []
    for backend in settings.backends:
        address = str(backend.address) if addresses is None else addresses.get(backend)
        servers.append(_Server(address or _NOWHERE, backend in down or address is None))
    return _ENVIRONMENT.get_template("nginx.conf").render(
        s=settings,
        run_dir=str(run_dir),
        version=nginx.version,
        temp_modules=nginx.temp_modules,
        servers=servers,
        user=settings.user or worker_user,
        open_files=open_files,
        redirect_port=settings.tls_listen[0].port if settings.redirect else 0,
        ciphers=_CIPHERS,
    )
