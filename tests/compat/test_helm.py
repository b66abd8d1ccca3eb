"""Helm against the masters and their entrance."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
from pathlib import Path

import pytest

from tests.compat import held
from tests.compat.contract import Driver, PushAndPull, Target, TwoMasters
from tests.compat.held import Held
from tests.support.clients import Home, require_client
from tests.support.images import random_bytes
from tests.support.twins import Registry

CREATED_S = 1_704_067_200


def write_chart(folder: Path, *, name: str, version: str, seed: str) -> Path:
    """Write a packaged chart, which depends on nothing but these words, and return its path."""
    metadata = f"apiVersion: v2\nname: {name}\nversion: {version}\ndescription: made from {seed}\n"
    files = {"Chart.yaml": metadata, "values.yaml": f"token: {random_bytes(seed, 32).hex()}\n"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    folder.mkdir()
    chart = folder / f"{name}-{version}.tgz"
    chart.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    # Helm writes the file's time into the manifest.
    os.utime(chart, (CREATED_S, CREATED_S))
    return chart


class Helm(Driver):
    """Pushes charts: the repository's last part is the chart's name, and the tag its version."""

    def __init__(self, program: Path, home: Home) -> None:
        self._program = program
        self._home = home

    def login(self, registry: Registry) -> None:
        words = ("registry", "login", "--plain-http", "--username", registry.user, "--password-stdin", registry.address)
        self._home.run(self._program, *words, stdin=registry.password)

    def push(self, target: Target, seed: str) -> Held:
        parent, _, name = target.name.rpartition("/")
        chart = write_chart(self._home.new_path(), name=name, version=target.tag, seed=seed)
        said = self._home.run(self._program, "push", "--plain-http", chart, f"oci://{parent}").said
        return Held(digest=self._digest(said), content=(held.sha256_of(chart),))

    def pull(self, target: Target) -> Held:
        into = self._home.new_path()
        into.mkdir()
        words = ("pull", "--plain-http", f"oci://{target.name}", "--version", target.tag, "--destination", into)
        said = self._home.run(self._program, *words).said
        (chart,) = into.iterdir()
        return Held(digest=self._digest(said), content=(held.sha256_of(chart),))

    @staticmethod
    def _digest(said: str) -> str:
        """Return the digest that helm printed."""
        found = re.search(r"Digest:\s*(sha256:[0-9a-f]{64})", said)
        if found is None:
            raise AssertionError(f"helm named no digest: {said}")
        return found[1]


class TestHelm(PushAndPull, TwoMasters):
    @pytest.fixture
    def driver(self, home: Home) -> Helm:
        return Helm(require_client("helm"), home)
