"""Crane against the masters and their entrance."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat import held
from tests.compat.contract import (
    Delete,
    DeletingDriver,
    Index,
    IndexDriver,
    ListingDriver,
    PushAndPull,
    TagList,
    Target,
    TwoMasters,
    new_target,
)
from tests.compat.held import Held
from tests.support import images
from tests.support.clients import Home, require_client
from tests.support.twins import Registry


class Crane(ListingDriver, DeletingDriver, IndexDriver):
    """Moves OCI layouts, and talks plain HTTP to loopback without being told."""

    def __init__(self, program: Path, home: Home) -> None:
        self._program = program
        self.home = home

    def login(self, registry: Registry) -> None:
        words = ("auth", "login", registry.address, "--username", registry.user, "--password-stdin")
        self.home.run(self._program, *words, stdin=registry.password)
        # Crane's login stores the password without asking the registry: make it show itself.
        self.home.run(self._program, "catalog", registry.address)

    def push(self, target: Target, seed: str) -> Held:
        content = images.image(seed)
        layout = images.write_layout(self.home.new_path(), content, tag=target.tag)
        self.home.run(self._program, "push", layout, target.tagged)
        return held.expected(content)

    def push_index(self, target: Target, seed: str) -> Held:
        content = images.index(seed)
        layout = images.write_layout(self.home.new_path(), content, tag=target.tag)
        # Crane pushes the layout's index.json itself, so that is made to be the image's index.
        (layout / "index.json").write_bytes(content.manifest.content)
        self.home.run(self._program, "push", "--index", layout, target.tagged)
        return held.expected(content)

    def pull(self, target: Target) -> Held:
        into = self.home.new_path()
        self.home.run(self._program, "pull", "--format=oci", target.tagged, into)
        return held.in_layout(into)

    def pull_index(self, target: Target) -> Held:
        return self.pull(target)

    def tags(self, target: Target) -> list[str]:
        return self.home.run(self._program, "ls", target.name).stdout.split()

    def delete(self, target: Target) -> None:
        self.home.run(self._program, "delete", f"{target.name}@{self.digest(target)}")

    def digest(self, target: Target) -> str:
        """Return the digest that the registry names for the tag."""
        return self.home.run(self._program, "digest", target.tagged).stdout.strip()

    def copy(self, source: Target, destination: Target) -> None:
        """Copy from registry to registry."""
        self.home.run(self._program, "copy", source.tagged, destination.tagged)

    def tag(self, target: Target, tag: str) -> None:
        """Give the image one more tag."""
        self.home.run(self._program, "tag", target.tagged, tag)


class TestCrane(PushAndPull, TagList, Delete, Index, TwoMasters):
    @pytest.fixture
    def driver(self, home: Home) -> Crane:
        return Crane(require_client("crane"), home)

    def test_second_tag_names_the_same_image(self, driver: Crane, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        pushed = driver.push(target, "first")
        driver.tag(target, "latest")
        assert driver.digest(target.with_tag("latest")) == pushed.digest

    def test_copy_to_another_repository_mounts_the_blobs(self, driver: Crane, registry: Registry) -> None:
        driver.login(registry)
        source, destination = new_target(registry), new_target(registry)
        pushed = driver.push(source, "moved")
        driver.copy(source, destination)
        assert driver.pull(destination) == pushed
