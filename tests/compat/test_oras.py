"""Oras against the masters and their entrance."""

from __future__ import annotations

import json
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

REPORT: Path = Path("report.bin")


class Oras(ListingDriver, DeletingDriver, IndexDriver):
    """Pushes files as artifacts; indexes go by way of OCI layouts."""

    def __init__(self, program: Path, home: Home) -> None:
        self._program = program
        self.home = home

    def run(self, *words: str | Path, stdin: str = "") -> str:
        """Run one command and return its output."""
        return self.home.run(self._program, *words, stdin=stdin).stdout

    def login(self, registry: Registry) -> None:
        words = ("login", "--plain-http", "--username", registry.user, "--password-stdin", registry.address)
        self.run(*words, stdin=registry.password)

    def push(self, target: Target, seed: str) -> Held:
        file = self._write(seed)
        said = self.run(
            *("push", "--plain-http", "--format=json", "--artifact-type=application/vnd.example.report"),
            # Without a fixed time of creation the same file would be another artifact at each push.
            *(f"--annotation=org.opencontainers.image.created={images.CREATED}", target.tagged),
            f"{file.name}:application/octet-stream",
        )
        return Held(digest=json.loads(said)["digest"], content=(held.sha256_of(file),))

    def _write(self, seed: str) -> Path:
        """Write a file of random bytes where oras takes relative paths from."""
        file = self.home.path / REPORT
        file.write_bytes(images.random_bytes(seed, 50_000))
        return file

    def push_index(self, target: Target, seed: str) -> Held:
        content = images.index(seed)
        layout = images.write_layout(self.home.new_path(), content, tag=target.tag)
        self.run("cp", "--recursive", "--from-oci-layout", "--to-plain-http", f"{layout}:{target.tag}", target.tagged)
        return held.expected(content)

    def pull(self, target: Target) -> Held:
        into = self.home.new_path()
        reference = json.loads(self.run("pull", "--plain-http", "--format=json", "--output", into, target.tagged))["reference"]
        return Held(digest=reference.rpartition("@")[2], content=(held.sha256_of(into / REPORT),))

    def pull_index(self, target: Target) -> Held:
        into = self.home.new_path()
        self.run("cp", "--recursive", "--from-plain-http", "--to-oci-layout", target.tagged, f"{into}:{target.tag}")
        return held.in_layout(into)

    def tags(self, target: Target) -> list[str]:
        return self.run("repo", "tags", "--plain-http", target.name).split()

    def delete(self, target: Target) -> None:
        self.run("manifest", "delete", "--plain-http", "--force", target.tagged)

    def attach(self, target: Target, seed: str) -> str:
        """Attach a file to what the tag names and return the referrer's digest."""
        file = self._write(seed)
        words = (
            "attach",
            "--plain-http",
            "--format=json",
            "--artifact-type=application/vnd.example.scan",
            target.tagged,
            file.name,
        )
        digest: str = json.loads(self.run(*words))["digest"]
        return digest

    def discover(self, target: Target) -> list[str]:
        """Return the digests of what refers to the tag's manifest."""
        found = json.loads(self.run("discover", "--plain-http", "--format=json", target.tagged))
        return [row["digest"] for row in found.get("referrers", found.get("manifests", ()))]


class TestOras(PushAndPull, TagList, Delete, Index, TwoMasters):
    @pytest.fixture
    def driver(self, home: Home) -> Oras:
        return Oras(require_client("oras"), home)

    def test_attached_file_is_discovered(self, driver: Oras, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        driver.push(target, "subject")
        attached = driver.attach(target, "scan")
        assert driver.discover(target) == [attached]

    def test_attached_on_one_master_is_discovered_on_the_other(self, driver: Oras, pair: tuple[Registry, Registry]) -> None:
        here, there = pair
        target = new_target(here)
        driver.push(target, "subject")
        attached = driver.attach(target.at(there), "scan")
        assert driver.discover(target) == [attached]
