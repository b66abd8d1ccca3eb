"""The registries that can be measured: how each is configured and started, and where it is found."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tools.bench.failures import BenchFailed

TWINHULL: Final = "twinhull"
ADMIN: Final = "admin"
PASSWORD: Final = "Harbor12345"  # noqa: S105 - of a registry that lives for a minute on loopback
# Where `make clients` puts what it builds.
_BUILT: Final = Path(__file__).resolve().parents[2] / ".cache" / "bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A registry that can be started."""

    name: str
    # Writes what it needs into its directory, and returns the command for a port.
    command: Callable[[Path, int], list[str]]
    ready_path: str = "/v2/"
    environment: Mapping[str, str] = field(default_factory=dict)
    # Twinhull is asked with a bearer token, the others by anybody.
    tokens: bool = False


def twinhull(workers: int | None = None) -> Program:
    """Return the Twinhull that is installed beside the interpreter that runs this."""
    program = Path(sys.executable).with_name("twinhull")
    more = ("--workers", str(workers)) if workers else ()

    def command(directory: Path, port: int) -> list[str]:
        return [str(program), "serve", *twinhull_options(directory, port), *more]

    return Program(name=TWINHULL, command=command, ready_path="/readyz", tokens=True, environment=twinhull_environment())


def twinhull_options(directory: Path, port: int) -> list[str]:
    """Return the options of a node with its data below the directory; it takes a free port for its peers."""
    listen = ("--listen", f"127.0.0.1:{port}", "--cluster-listen", "127.0.0.1:0")
    return ["--data-dir", str(twinhull_data(directory)), "--name", directory.name, *listen]


def twinhull_environment() -> dict[str, str]:
    """Return what a node's environment needs."""
    return {"TWINHULL_ADMIN_PASSWORD": PASSWORD}


def twinhull_data(directory: Path) -> Path:
    """Return a node's data directory."""
    return directory / "data"


def distribution(name: str, binary: str) -> Program:
    """Return the reference registry, of any version, configured as Debian does but without passwords."""

    def command(directory: Path, port: int) -> list[str]:
        document = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {
                "cache": {"blobdescriptor": "inmemory"},
                "filesystem": {"rootdirectory": str(directory / "data")},
                "delete": {"enabled": True},
            },
            "http": {"addr": f"127.0.0.1:{port}", "secret": "bench"},
        }
        return [binary, "serve", str(_written(directory, document))]

    return Program(name=name, command=command, environment={"OTEL_TRACES_EXPORTER": "none"})


def zot(name: str, binary: str) -> Program:
    """Return zot as it comes, with its log turned down."""

    def command(directory: Path, port: int) -> list[str]:
        document = {
            "distSpecVersion": "1.1.1",
            "storage": {"rootDirectory": str(directory / "data"), "gc": False},
            "http": {"address": "127.0.0.1", "port": str(port)},
            "log": {"level": "error"},
        }
        return [binary, "serve", str(_written(directory, document))]

    return Program(name=name, command=command)


def _written(directory: Path, document: object) -> Path:
    """Write a configuration; JSON is YAML too."""
    path = directory / "config.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def found_peers() -> list[Program]:
    """Return the other registries that are on this machine: Debian's, and others on PATH or built by this project."""
    peers = []
    for name, binary in (("docker-registry", "docker-registry"), ("distribution", "registry"), ("zot", "zot")):
        path = shutil.which(binary) or shutil.which(binary, path=str(_BUILT))
        if path:
            peers.append(zot(name, path) if name == "zot" else distribution(name, path))
    return peers


def named_peer(text: str) -> Program:
    """Return the registry that NAME=BINARY says: zot if the name begins so, else one that is configured as distribution is."""
    name, _, binary = text.partition("=")
    path = shutil.which(binary) if name and binary else None
    if path is None:
        raise BenchFailed(f"--peer {text}: write NAME=BINARY, with a program that can be run")
    return zot(name, path) if name.startswith("zot") else distribution(name, path)
