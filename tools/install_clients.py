"""Install the real clients and servers that the tests drive: Debian's by apt-get, Go's by go install, others as pinned."""

from __future__ import annotations

import argparse
import contextlib
import glob
import hashlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
CATALOGUE: Final = ROOT / "tools" / "clients.toml"
GO_BIN: Final = ROOT / ".cache" / "bin"
# Node.js of a known release, whatever the machine has.
NODE_BIN: Final = ROOT / ".cache" / "python" / "bin"
POLICY: Final = Path("/usr/sbin/policy-rc.d")
# Two of these programs take minutes to compile; a build that waits on a dead proxy must not take the whole run with it.
BUILD_LIMIT_S: Final = 1_200
APT_LIMIT_S: Final = 600


class InstallError(Exception):
    """A client could not be installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianClient:
    """A program that comes with packages of the distribution."""

    name: str
    packages: tuple[str, ...]
    probe: str

    def present(self) -> bool:
        """Say whether the program is on this machine."""
        return bool(glob.glob(self.probe))  # noqa: PTH207 - the pattern is absolute, which Path.glob refuses

    def source(self) -> str:
        """Say where it would come from."""
        return f"Debian packages {' '.join(self.packages)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoClient:
    """A program that is built from a module at a fixed version."""

    name: str
    package: str
    version: str

    @property
    def marker(self) -> Path:
        """Name the file that says which version of the program was built; it is written after the build succeeded."""
        return GO_BIN / f".{self.name}.version"

    def present(self) -> bool:
        """Say whether the program was built from this very version."""
        built = self.marker.read_text().strip() if self.marker.is_file() else ""
        return built == self.version and os.access(GO_BIN / self.name, os.X_OK)

    def source(self) -> str:
        """Say where it would come from."""
        return f"go install {self.package}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedClients:
    """Packages that come together into a folder of their own, just as files pin them, hashes included."""

    name: str
    pins: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        """Name the folder that holds them and nothing else; as it is named without links, since programs in it name it."""
        return (ROOT / ".cache" / self.name).resolve()

    @property
    def marker(self) -> Path:
        """Name the file that says which pins were installed; it is written after the installation succeeded."""
        return self.folder / ".installed"

    def fingerprint(self) -> str:
        """Return what tells these pins, this Python and this folder from all others."""
        known = [sys.version.encode(), os.fsencode(self.folder), *(path.read_bytes() for path in self.pins)]
        return hashlib.sha256(b"\0".join(known)).hexdigest()

    def present(self) -> bool:
        """Say whether just these pins are installed."""
        return self.marker.is_file() and self.marker.read_text().strip() == self.fingerprint()


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonClients(PinnedClients):
    """Python's packages, in an environment of their own: what they need does not go together with what a node needs."""

    def source(self) -> str:
        """Say where they would come from."""
        return f"pip install -r {self.pins[0].relative_to(ROOT)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NpmClients(PinnedClients):
    """Packages for Node.js, which itself comes with Python's clients."""

    def source(self) -> str:
        """Say where they would come from."""
        return f"npm ci, as {self.pins[0].relative_to(ROOT)} says"


Client = DebianClient | GoClient | PythonClients | NpmClients


def read_catalogue(path: Path = CATALOGUE) -> tuple[Client, ...]:
    """Return every client that the catalogue lists: Debian's first, npm's after Python's, whose Node.js they run on."""
    tables = tomllib.loads(path.read_text())
    debian = (
        DebianClient(name=name, packages=tuple(row["packages"]), probe=row["probe"]) for name, row in tables["debian"].items()
    )
    go = (GoClient(name=name, package=row["package"], version=row["version"]) for name, row in tables["go"].items())
    python = (PythonClients(name=name, pins=_paths(row["pins"])) for name, row in tables["python"].items())
    npm = (NpmClients(name=name, pins=_paths(row["pins"])) for name, row in tables["npm"].items())
    return (*debian, *go, *python, *npm)


def _paths(names: Sequence[str]) -> tuple[Path, ...]:
    return tuple(ROOT / name for name in names)


def choose(clients: Sequence[Client], names: Sequence[str]) -> tuple[Client, ...]:
    """Return the named clients (all when no name is given), or raise InstallError for a name that is not listed."""
    unknown = sorted(set(names) - {client.name for client in clients})
    if unknown:
        known = " ".join(client.name for client in clients)
        raise InstallError(f"no client is called {', '.join(unknown)}; there are: {known}")
    return tuple(client for client in clients if not names or client.name in names)


def say(line: str) -> None:
    """Print one progress line at once, also when the output is a file."""
    print(line, flush=True)


def run(command: Sequence[str], *, limit_s: int, environment: dict[str, str], folder: Path = ROOT) -> None:
    """Run a command without input in a folder, or raise InstallError with the end of what it said."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            cwd=folder,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise InstallError(f"`{' '.join(command)}` took longer than {limit_s} s") from late
    if done.returncode:
        tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-20:])
        raise InstallError(f"`{' '.join(command)}` failed with {done.returncode}:\n{tail}")


@contextlib.contextmanager
def services_stay_down() -> Iterator[None]:
    """Keep maintainer scripts from starting daemons while packages are installed; a policy that is there stays."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def install_debian(clients: Sequence[DebianClient]) -> None:
    """Install the packages of all given clients in one go, or raise InstallError."""
    packages = list(dict.fromkeys(package for client in clients for package in client.packages))
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    # Another apt-get may be at work on a shared machine: wait for its lock rather than fail.
    patient = ["-q", "-o", "DPkg::Lock::Timeout=300"]
    say("apt-get update …")
    run(["apt-get", *patient, "update"], limit_s=APT_LIMIT_S, environment=quiet)
    say(f"apt-get install {' '.join(packages)} …")
    with services_stay_down():
        run(
            ["apt-get", *patient, "install", "-y", "--no-install-recommends", "--no-upgrade", *packages],
            limit_s=APT_LIMIT_S,
            environment=quiet,
        )


def install_go(client: GoClient) -> None:
    """Build the client into .cache/bin at low priority, or raise InstallError."""
    GO_BIN.mkdir(parents=True, exist_ok=True)
    client.marker.unlink(missing_ok=True)
    say(f"{client.source()} …")
    run(
        ["nice", "-n", "10", "go", "install", "-trimpath", "-ldflags=-s -w", f"{client.package}@{client.version}"],
        limit_s=BUILD_LIMIT_S,
        environment={"GOBIN": str(GO_BIN), "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"},
    )
    client.marker.write_text(f"{client.version}\n")


def install_python(clients: PythonClients) -> None:
    """Make the environment anew with just what is pinned, or raise InstallError."""
    say(f"{clients.source()} …")
    folder = str(clients.folder)
    # With the pip that runs this, and compiled when first used: half the time.
    run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], limit_s=BUILD_LIMIT_S, environment={})
    pip = [sys.executable, "-m", "pip", "--python", f"{folder}/bin/python", "install", "--quiet", "--disable-pip-version-check"]
    pins = [word for path in clients.pins for word in ("-r", str(path))]
    run([*pip, "--no-compile", "--require-hashes", "--no-deps", *pins], limit_s=BUILD_LIMIT_S, environment={})
    clients.marker.write_text(f"{clients.fingerprint()}\n")


def install_npm(clients: NpmClients) -> None:
    """Make the folder anew with just what is pinned, and without running what packages bring, or raise InstallError."""
    say(f"{clients.source()} …")
    shutil.rmtree(clients.folder, ignore_errors=True)
    clients.folder.mkdir(parents=True)
    for path in clients.pins:
        shutil.copy(path, clients.folder)
    bin_path = f"{NODE_BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [str(NODE_BIN / "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    run(command, limit_s=BUILD_LIMIT_S, environment={"PATH": bin_path}, folder=clients.folder)
    clients.marker.write_text(f"{clients.fingerprint()}\n")


def timed(names: str, install: Callable[[], None]) -> None:
    """Run one installation and say how long it took."""
    began = time.monotonic()
    install()
    say(f"  {names}: installed in {time.monotonic() - began:.0f} s")


def install(missing: Sequence[Client]) -> list[Client]:
    """Install what this user can install here, and return what stays missing for want of root or go."""
    debian = [client for client in missing if isinstance(client, DebianClient)]
    go = [client for client in missing if isinstance(client, GoClient)]
    left: list[Client] = []
    if debian and os.geteuid() == 0 and shutil.which("apt-get"):
        timed(" ".join(client.name for client in debian), lambda: install_debian(debian))
    else:
        left += debian
    if go and shutil.which("go"):
        for client in go:
            timed(client.name, lambda client=client: install_go(client))  # type: ignore[misc]
    else:
        left += go
    for python in [client for client in missing if isinstance(client, PythonClients)]:
        timed(python.name, lambda clients=python: install_python(clients))  # type: ignore[misc]
    for npm in [client for client in missing if isinstance(client, NpmClients)]:
        timed(npm.name, lambda clients=npm: install_npm(clients))  # type: ignore[misc]
    return left + [client for client in missing if client not in left and not client.present()]


def report_missing(missing: Sequence[Client], *, strict: bool) -> int:
    """Print what is missing and where it comes from; return the exit code."""
    for client in missing:
        say(f"missing: {client.name} ({client.source()})")
    if not missing:
        say("all clients are there")
        return 0
    say("tests that need them " + ("would fail" if strict else "are skipped; run this as root, with go on PATH, to have them"))
    return 1 if strict else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Install the missing clients; return 1 when an installation fails, or some stay missing under CI=true or --check."""
    parser = argparse.ArgumentParser(description="Install the real clients and servers that the tests drive.")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="these clients alone")
    parser.add_argument("--check", action="store_true", help="install nothing; exit 1 when something is missing")
    options = parser.parse_args(arguments)
    strict = options.check or os.environ.get("CI") == "true"
    try:
        missing: Sequence[Client] = [client for client in choose(read_catalogue(), options.only) if not client.present()]
        if missing and not options.check:
            missing = install(missing)
    except InstallError as failure:
        sys.stderr.write(f"error: {failure}\n")
        return 1
    return report_missing(missing, strict=strict)


if __name__ == "__main__":
    sys.exit(main())
