"""Regctl against the masters and their entrance."""

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


class Regctl(ListingDriver, DeletingDriver, IndexDriver):
    """Copies between OCI layouts and the registry."""

    def __init__(self, program: Path, home: Home) -> None:
        self._program = program
        self._plain: set[str] = set()
        self.home = home

    def run(self, registry: Registry, *words: str, stdin: str = "") -> str:
        """Run one command, having said once that the registry speaks plain HTTP, and return its output."""
        if registry.address not in self._plain:
            self.home.run(self._program, "registry", "set", "--tls=disabled", "--skip-check", registry.address)
            self._plain.add(registry.address)
        return self.home.run(self._program, *words, stdin=stdin).stdout

    def login(self, registry: Registry) -> None:
        words = ("registry", "login", "--user", registry.user, "--pass-stdin", registry.address)
        self.run(registry, *words, stdin=registry.password)

    def push(self, target: Target, seed: str) -> Held:
        return self.push_content(target, images.image(seed))

    def push_index(self, target: Target, seed: str) -> Held:
        return self.push_content(target, images.index(seed))

    def push_content(self, target: Target, content: images.Content) -> Held:
        """Push from a layout."""
        layout = images.write_layout(self.home.new_path(), content, tag=target.tag)
        self.run(target.registry, "image", "copy", f"ocidir://{layout}:{target.tag}", target.tagged)
        return held.expected(content)

    def pull(self, target: Target) -> Held:
        into = self.home.new_path()
        self.run(target.registry, "image", "copy", target.tagged, f"ocidir://{into}:{target.tag}")
        return held.in_layout(into)

    def pull_index(self, target: Target) -> Held:
        return self.pull(target)

    def tags(self, target: Target) -> list[str]:
        return self.run(target.registry, "tag", "ls", target.name).split()

    def delete(self, target: Target) -> None:
        self.run(target.registry, "tag", "delete", target.tagged)


class TestRegctl(PushAndPull, TagList, Delete, Index, TwoMasters):
    @pytest.fixture
    def driver(self, home: Home) -> Regctl:
        return Regctl(require_client("regctl"), home)

    def test_referrers_of_an_image_are_listed(self, driver: Regctl, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        image = images.image("subject")
        driver.push_content(target, image)
        report = images.artifact("report", subject=image.manifest)
        driver.push_content(target.with_tag("report"), report)
        listed = driver.run(
            registry, "artifact", "list", target.tagged, "--format={{range .Descriptors}}{{println .Digest}}{{end}}"
        )
        assert listed.split() == [report.digest]

    def test_deleted_tag_leaves_another_tag_of_the_image(self, driver: Regctl, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        pushed = driver.push(target, "same")
        driver.push(target.with_tag("2.0.0"), "same")
        driver.delete(target)
        assert target.served() is None
        assert driver.pull(target.with_tag("2.0.0")) == pushed
