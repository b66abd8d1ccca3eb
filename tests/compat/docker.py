"""The driver for docker, which the tests of docker itself and those of accounts share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.compat import held
from tests.compat.contract import IndexDriver, Target
from tests.compat.held import Held
from tests.support import images
from tests.support.clients import Home
from tests.support.dockerd import Dockerd
from tests.support.twins import Registry

DIGEST: Final = re.compile(r"(?i)digest: (sha256:[0-9a-f]{64})")
ARCHITECTURES: Final = ("amd64", "arm64")


class Docker(IndexDriver):
    """The daemon packs layers again at each push and unpacks them at each pull, so layers are compared unpacked."""

    def __init__(self, program: Path, home: Home, daemon: Dockerd) -> None:
        self._program = program
        self._environment = {"DOCKER_HOST": daemon.host, "DOCKER_BUILDKIT": "1"}
        self.home = home

    def run(self, *words: str | Path, stdin: str = "") -> str:
        """Run one command and return its output."""
        return self.home.run(self._program, *words, stdin=stdin, environment=self._environment).stdout

    def login(self, registry: Registry) -> None:
        self.run("login", "--username", registry.user, "--password-stdin", registry.address, stdin=registry.password)

    def push(self, target: Target, seed: str) -> Held:
        return self._push(target, images.image(seed, docker=True))

    def _push(self, target: Target, image: images.Image) -> Held:
        archive = images.write_archive(self.home.new_path(), image, name=target.tagged)
        self.run("load", "--input", archive)
        return Held(digest=self.push_local(target), content=held.unpacked(image))

    def push_local(self, target: Target) -> str:
        """Push the image that the daemon has under the target's name, and return its digest."""
        return self._digest(self.run("push", target.tagged))

    def pull(self, target: Target) -> Held:
        return self.pull_platform(target, ARCHITECTURES[0])

    def pull_platform(self, target: Target, architecture: str) -> Held:
        """Pull for one platform, with no image kept from before."""
        self.forget_images()
        digest = self._digest(self.run("pull", f"--platform=linux/{architecture}", target.tagged))
        archive = self.home.new_path()
        self.run("save", "--output", archive, target.tagged)
        return Held(digest=digest, content=held.in_archive(archive))

    def push_index(self, target: Target, seed: str) -> Held:
        parts = [target.with_tag(architecture) for architecture in ARCHITECTURES]
        pushed = [self._push(part, images.image(seed, architecture=part.tag, docker=True)) for part in parts]
        names = [f"{part.name}@{one.digest}" for part, one in zip(parts, pushed, strict=True)]
        self.run("manifest", "create", "--insecure", target.tagged, *names)
        digest = self.run("manifest", "push", "--insecure", "--purge", target.tagged).split()[-1]
        return Held(digest=digest, content=tuple(part for one in pushed for part in one.content))

    def pull_index(self, target: Target) -> Held:
        pulled = [self.pull_platform(target, architecture) for architecture in ARCHITECTURES]
        (digest,) = {one.digest for one in pulled}
        return Held(digest=digest, content=tuple(part for one in pulled for part in one.content))

    def forget_images(self) -> None:
        """Remove every image from the daemon, so that a pull has to fetch all of its bytes."""
        ids = set(self.run("image", "ls", "--all", "--quiet").split())
        if ids:
            self.run("image", "rm", "--force", *sorted(ids))

    @staticmethod
    def _digest(said: str) -> str:
        """Return the digest that docker printed."""
        found = DIGEST.search(said)
        if found is None:
            raise AssertionError(f"docker named no digest: {said}")
        return found[1]
