"""Buildah against the masters and their entrance."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat import held
from tests.compat.contract import Driver, PushAndPull, Target, TwoMasters
from tests.compat.held import Held
from tests.support import images
from tests.support.clients import Home, require_client
from tests.support.twins import Registry

CONTAINERFILE = 'FROM scratch\nCOPY random.bin /srv/random.bin\nCMD ["/srv/start"]\n'


class Buildah(Driver):
    """Builds what it pushes from a file of instructions, without running anything."""

    def __init__(self, program: Path, home: Home) -> None:
        self._program = program
        self._home = home
        self._storage = (
            *("--root", str(home.path / "containers" / "root"), "--runroot", str(home.path / "run" / "containers")),
            *("--storage-driver=vfs",),
        )

    def run(self, *words: str | Path, stdin: str = "") -> str:
        """Run one command and return its output."""
        return self._home.run(self._program, *self._storage, *words, stdin=stdin).stdout

    def login(self, registry: Registry) -> None:
        words = ("login", "--tls-verify=false", "--username", registry.user, "--password-stdin", registry.address)
        self._home.run(self._program, *words, stdin=registry.password)

    def push(self, target: Target, seed: str) -> Held:
        context = self._home.new_path()
        context.mkdir()
        (context / "Containerfile").write_text(CONTAINERFILE)
        (context / "random.bin").write_bytes(images.random_bytes(seed, 30_000))
        self.run("bud", "--quiet", "--timestamp=0", "--tag", target.tagged, context)
        digest = self._home.new_path()
        self.run("push", "--quiet", "--tls-verify=false", "--digestfile", digest, target.tagged, f"docker://{target.tagged}")
        return Held(digest=digest.read_text(), content=self._content(target))

    def pull(self, target: Target) -> Held:
        self.run("rmi", "--all", "--force")
        self.run("pull", "--quiet", "--tls-verify=false", target.tagged)
        digest = self.run("inspect", "--type=image", "--format={{.FromImageDigest}}", target.tagged).strip()
        return Held(digest=digest, content=self._content(target))

    def _content(self, target: Target) -> tuple[str, ...]:
        """Return what the local image consists of."""
        archive = self._home.new_path()
        self.run("push", "--quiet", target.tagged, f"docker-archive:{archive}")
        return held.in_archive(archive)


class TestBuildah(PushAndPull, TwoMasters):
    @pytest.fixture
    def driver(self, home: Home) -> Buildah:
        return Buildah(require_client("buildah"), home)
