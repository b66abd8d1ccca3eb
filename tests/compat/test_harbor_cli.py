"""harbor-cli, the command line that drives harborapi, manages all of it at every way in.

One program is run for all of it, with its own shell: it takes two seconds to start.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.clients import Home, require_client
from tests.support.images import image
from tests.support.pushes import push
from tests.support.registry_client import RegistryClient, Repository
from tests.support.twins import Registry, Twins

MARK: Final = "== done =="
# What it says beside its output when something was not well.
REFUSAL: Final = re.compile(r"✗|Error|Traceback")


# Runs a command, and returns what it printed.
Ask = Callable[[str], Any]


class Shell:
    """The client's shell: takes a command at a time, and says in JSON what came of it."""

    def __init__(self, home: Home) -> None:
        """Start it."""
        program = require_client("harbor")
        self._said = home.new_path()
        (home.path / "config.toml").write_text("[harbor]\nkeyring = false\n", encoding="utf-8")
        words = ["--config", str(home.path / "config.toml"), "repl"]
        self._errors = self._said.open("wb")
        self._process = home.start(program, *words, errors=self._errors)

    def __call__(self, way: Registry, command: str) -> Any:  # noqa: ANN401 - whatever JSON is
        """Run a command at a way in, and return what it printed; None if it printed nothing, fails if it was not well."""
        told = self._said.stat().st_size
        options = ["--url", f"http://{way.address}/api/v2.0", "--username", way.user, "--secret", way.password]
        line = " ".join([*map(shlex.quote, [*options, "--format", "json"]), command])
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n!echo '{MARK}'\n".encode())
        self._process.stdin.flush()
        printed = bytearray()
        while not printed.endswith(f"{MARK}\n".encode()):
            piece = self._process.stdout.readline()
            assert piece, f"harbor-cli ended: {self.errors()}"
            printed += piece
        said = self.errors()[told:]
        assert not REFUSAL.search(said), f"{command}: {said}"
        text = printed.decode().removesuffix(f"{MARK}\n").strip()
        return json.loads(text) if text else None

    def errors(self) -> str:
        """Return all that it said beside its output."""
        return self._said.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Return the client's shell."""
    made = Shell(Home(Path(tmp_path_factory.mktemp("harbor-cli"))))
    yield made
    made.close()


def test_harbor_cli_manages_all_of_it(shell: Shell, way: Registry, twins: Twins) -> None:
    token, other = secrets.token_hex(4), twins.other(way)
    project = f"cli-{token}"

    do, see = partial(shell, way), partial(shell, other)
    assert see("system health")["status"] == "healthy"
    do(f"project create {project} --public false --storage-limit 1000000000")
    assert see(f"project get {project}")["metadata"]["public"] == "false"
    do(f"project update {project} --public true")
    assert see(f"project get {project}")["metadata"]["public"] == "true"
    do(f"project metadata set {project} --auto-scan true")
    assert see(f"project metadata get {project}")["auto_scan"] == "true"
    _people(do, see, project, token)
    client = RegistryClient(addresses=(way.address,), user=way.user, password=way.password)
    push(Repository(client=client, name=f"{project}/app"), image(token), "v1")
    do(f"repository update {project} app --description 'an app'")
    assert see(f"repository get {project} app")["description"] == "an app"
    do(f"artifact tag create {project}/app:v1 v2")
    assert {tag["name"] for tag in see(f"artifact tag list {project}/app:v1")} == {"v1", "v2"}
    do(f"artifact tag delete {project}/app:v1 v2 --force")
    assert [tag["name"] for tag in see(f"artifact tag list {project}/app:v1")] == ["v1"]
    assert see(f"artifact get {project}/app:v1")["artifact"]["type"] == "IMAGE"
    do(f"artifact delete {project}/app:v1 --force")
    do(f"repository delete {project} app --force")
    assert see(f"project repos {project}") in (None, [])
    _system(do, see, other, token)
    do(f"project delete {project} --force")
    assert see(f"project list --query name={project}") in (None, [])
    assert see(f"auditlog list --query resource={project} --limit 10")


def _people(do: Ask, see: Ask, project: str, token: str) -> None:
    user = f"cli-{token}"
    do(f"user create {user} --password Passw0rd1 --email {user}@x.io --realname Al --comment c")
    do(f"user update {user} --realname Alice")
    assert see(f"user get {user}")["realname"] == "Alice"
    do(f"user set-admin {user}")
    assert see(f"user get {user}")["sysadmin_flag"] is True
    do(f"user unset-admin {user}")
    do(f"project member add-user {project} {user} developer")
    do(f"project member update-role {project} {user} guest")
    roles = {one["entity_name"]: one["role_name"] for one in see(f"project member list {project}")}
    assert roles == {"admin": "projectAdmin", user: "guest"}
    do(f"project member remove {project} {user}")
    do(f"user delete {user} --force")
    assert user not in {one["username"] for one in see("user list --limit 100")}


def _system(do: Ask, see: Ask, other: Registry, token: str) -> None:
    endpoint = f"--access-key {other.user} --access-secret {other.password} --credential-type basic --insecure"
    do(f"registry create cli-{token} http://{other.address} --type harbor {endpoint}")
    (number,) = [one["id"] for one in see("registry list --limit 100") if one["name"] == f"cli-{token}"]
    do(f"registry update {number} --description there")
    assert see(f"registry get {number}")["description"] == "there"
    do(f"registry delete {number} --force")
    do("cve-allowlist update --cve CVE-2024-1")
    assert [one["cve_id"] for one in see("cve-allowlist get")["items"]] == ["CVE-2024-1"]
    do("cve-allowlist clear")
    assert see("cve-allowlist get")["items"] == []
    do("config update --token-expiration 66")
    assert see("config get")["token_expiration"] == 66
    do("config update --token-expiration 30")
    do("gc schedule create --type Daily --cron '0 0 0 * * *'")
    assert see("gc schedule get")["schedule"]["type"] == "Daily"
    do("gc schedule update --type None")
