"""Podman against the masters and their entrance."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat import held, wire
from tests.compat.contract import Index, IndexDriver, PushAndPull, Target, TwoMasters
from tests.compat.held import Held
from tests.support import images
from tests.support.clients import Home, require_client
from tests.support.twins import Registry

ARCHITECTURES = ("amd64", "arm64")


class Podman(IndexDriver):
    """Keeps layers unpacked, so they are compared unpacked."""

    def __init__(self, program: Path, home: Home) -> None:
        self._program = program
        self._home = home
        # The vfs driver needs no support from the kernel and works inside any container.
        self._storage = (
            *("--root", str(home.path / "containers" / "root"), "--runroot", str(home.path / "run" / "containers")),
            *("--tmpdir", str(home.path / "run" / "libpod"), "--storage-driver=vfs", "--cgroup-manager=cgroupfs"),
            *("--events-backend=none",),
        )

    def run(self, *words: str | Path, stdin: str = "") -> str:
        """Run one command and return its output."""
        return self._home.run(self._program, *self._storage, *words, stdin=stdin).stdout

    def login(self, registry: Registry) -> None:
        words = ("login", "--tls-verify=false", "--username", registry.user, "--password-stdin", registry.address)
        self.run(*words, stdin=registry.password)

    def push(self, target: Target, seed: str) -> Held:
        image = images.image(seed, docker=True)
        self.run("load", "--input", images.write_archive(self._home.new_path(), image, name=target.tagged))
        digest = self._home.new_path()
        self.run("push", "--tls-verify=false", "--digestfile", digest, target.tagged)
        return Held(digest=digest.read_text(), content=held.unpacked(image))

    def pull(self, target: Target) -> Held:
        return self._pull_platform(target, ARCHITECTURES[0])

    def _pull_platform(self, target: Target, architecture: str) -> Held:
        """Pull for one platform, with no image kept from before."""
        self.run("rmi", "--all", "--force")
        identity = self.run("pull", "--tls-verify=false", "--quiet", f"--arch={architecture}", target.tagged).split()[-1]
        names = self.run("image", "inspect", "--format={{range .RepoDigests}}{{println .}}{{end}}", identity).split()
        archive = self._home.new_path()
        self.run("save", "--quiet", "--format=docker-archive", "--output", archive, identity)
        served = wire.digest_of(target.registry, target.repository, target.tag)
        (digest,) = [name.rpartition("@")[2] for name in names if name.endswith(str(served))]
        return Held(digest=digest, content=held.in_archive(archive))

    def push_index(self, target: Target, seed: str) -> Held:
        parts = [images.image(seed, architecture=architecture, docker=True) for architecture in ARCHITECTURES]
        self.run("manifest", "create", "many")
        for part in parts:
            archive = images.write_archive(self._home.new_path(), part, name=f"{target.name}:part")
            self.run("manifest", "add", "many", f"docker-archive:{archive}")
        digest = self._home.new_path()
        words = ("manifest", "push", "--all", "--tls-verify=false", "--digestfile", digest, "many", f"docker://{target.tagged}")
        self.run(*words)
        return Held(digest=digest.read_text(), content=tuple(name for part in parts for name in held.unpacked(part)))

    def pull_index(self, target: Target) -> Held:
        pulled = [self._pull_platform(target, architecture) for architecture in ARCHITECTURES]
        (digest,) = {one.digest for one in pulled}
        return Held(digest=digest, content=tuple(part for one in pulled for part in one.content))


class TestPodman(PushAndPull, Index, TwoMasters):
    @pytest.fixture
    def driver(self, home: Home) -> Podman:
        return Podman(require_client("podman"), home)
