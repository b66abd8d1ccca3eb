"""Skopeo against the masters and their entrance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.compat import held, wire
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


class Skopeo(ListingDriver, DeletingDriver, IndexDriver):
    """Copies between OCI layouts and the registry, and keeps every byte."""

    def __init__(self, program: Path, home: Home) -> None:
        self._program = program
        self.home = home

    def login(self, registry: Registry) -> None:
        words = ("login", "--tls-verify=false", "--username", registry.user, "--password-stdin", registry.address)
        self.home.run(self._program, *words, stdin=registry.password)

    def push(self, target: Target, seed: str) -> Held:
        return self._push(target, images.image(seed))

    def push_index(self, target: Target, seed: str) -> Held:
        return self._push(target, images.index(seed))

    def _push(self, target: Target, content: images.Content) -> Held:
        layout = images.write_layout(self.home.new_path(), content, tag=target.tag)
        self.copy(f"oci:{layout}:{target.tag}", f"docker://{target.tagged}", "--preserve-digests")
        return held.expected(content)

    def pull(self, target: Target) -> Held:
        into = self.home.new_path()
        self.copy(f"docker://{target.tagged}", f"oci:{into}:{target.tag}", "--preserve-digests")
        return held.in_layout(into)

    def pull_index(self, target: Target) -> Held:
        return self.pull(target)

    def tags(self, target: Target) -> list[str]:
        said = self.home.run(self._program, "list-tags", "--tls-verify=false", f"docker://{target.name}").stdout
        tags: list[str] = json.loads(said)["Tags"]
        return tags

    def delete(self, target: Target) -> None:
        self.home.run(self._program, "delete", "--tls-verify=false", f"docker://{target.tagged}")

    def copy(self, source: str, destination: str, *options: str) -> None:
        """Copy with all platforms."""
        self.home.run(
            self._program, "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", *options, source, destination
        )


class TestSkopeo(PushAndPull, TagList, Delete, Index, TwoMasters):
    @pytest.fixture
    def driver(self, home: Home) -> Skopeo:
        return Skopeo(require_client("skopeo"), home)

    def test_image_copied_as_docker_schema_2_keeps_its_form(self, driver: Skopeo, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        layout = images.write_layout(driver.home.new_path(), images.image("converted"), tag="1.0.0")
        driver.copy(f"oci:{layout}:1.0.0", f"docker://{target.tagged}", "--format=v2s2")
        answer = wire.ask(registry, "GET", wire.manifest_path(target.repository, target.tag))
        assert answer.headers["Content-Type"] == images.DOCKER_MANIFEST
        into = driver.home.new_path()
        driver.copy(f"docker://{target.tagged}", f"dir:{into}")
        assert (into / "manifest.json").read_bytes() == answer.body

    def test_copy_between_repositories_keeps_the_digest(self, driver: Skopeo, registry: Registry) -> None:
        driver.login(registry)
        source, destination = new_target(registry), new_target(registry)
        pushed = driver.push_index(source, "moved")
        driver.copy(f"docker://{source.tagged}", f"docker://{destination.tagged}")
        assert destination.served() == pushed.digest
        assert driver.pull(destination) == pushed
