"""Runs Debian's docker-registry on loopback: the foreign registry that is none of ours."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.clients import require_client
from tests.support.processes import stop, wait_until
from tests.support.registry_client import RegistryClient, Repository
from tests.support.single import free_address

USER: Final = "puller"
SECRET: Final = "S3cret-of-the-other-side"
# Of that secret, as htpasswd makes it, with as little work as bcrypt allows.
_HASHED: Final = "$2b$04$ttgH96V1LYjhJsJ.PnOJle9CVdXBBsH4pBSzDYmVQ.m3yZVl3y9G6"
_START_LIMIT_S: Final = 20
_STOP_LIMIT_S: Final = 10


class PlainRegistry:
    """A registry that can be stopped and started again with what it has."""

    def __init__(self, directory: Path, *, private: bool = False) -> None:
        """Take where its files go, and whether it asks for USER and SECRET."""
        self._directory = directory
        self._directory.mkdir(parents=True, exist_ok=True)
        self._private = private
        self._process: subprocess.Popen[bytes] | None = None
        self.address = free_address()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.address}"

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        log = self._directory / "log"
        with log.open("ab") as sink:
            process = subprocess.Popen(
                [require_client("docker-registry"), "serve", self._written()],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        self._process = process
        wait_until(self._answers, process=process, log=log, limit_s=_START_LIMIT_S)

    def stop(self, gently: signal.Signals = signal.SIGTERM) -> None:
        """Stop it; what it has stays."""
        if self._process is not None:
            stop(self._process, gently, limit_s=_STOP_LIMIT_S)
            self._process = None

    def repository(self, name: str) -> Repository:
        """Return one of its repositories, for somebody who may do everything."""
        client = RegistryClient(addresses=[self.address], user=USER if self._private else "", password=SECRET)
        return Repository(client=client, name=name)

    def asked(self, method: str, path: str) -> int:
        """Return how many requests of that method at a path that ends so it has answered."""
        lines = (self._directory / "log").read_text(errors="replace").splitlines()
        return sum(f'"{method} /v2/' in line and f"{path} HTTP/" in line for line in lines)

    def _answers(self) -> bool:
        host, _, port = self.address.rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return True
        return False

    def _written(self) -> Path:
        document: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {
                "cache": {"blobdescriptor": "inmemory"},
                "filesystem": {"rootdirectory": str(self._directory / "data")},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.address, "secret": "of a registry that lives for a minute"},
        }
        if self._private:
            passwords = self._directory / "passwords"
            passwords.write_text(f"{USER}:{_HASHED}\n", encoding="ascii")
            document["auth"] = {"htpasswd": {"realm": "other", "path": str(passwords)}}
        path = self._directory / "config.json"
        path.write_text(json.dumps(document), encoding="ascii")
        return path


@contextlib.contextmanager
def plain_registry(directory: Path, *, private: bool = False) -> Iterator[PlainRegistry]:
    """Run one for as long as the block lasts."""
    registry = PlainRegistry(directory, private=private)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()
