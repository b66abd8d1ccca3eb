"""Fixtures of the tests with real clients: the masters, the clients' homes, and a user whose password may be guessed wrong."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.compat import wire
from tests.compat.docker import Docker
from tests.support.clients import Home, require_client
from tests.support.dockerd import Dockerd
from tests.support.twins import Registry, Twins, log_of


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the masters said lately to the report of a failed test."""
    report = yield
    pair = getattr(item, "funcargs", {}).get("twins")
    if report.failed and isinstance(pair, Twins):
        report.sections.append(("what the masters said", log_of(pair)))
    return report


@pytest.fixture
def registry(twins: Twins) -> Registry:
    """Return the registry as users meet it: at the entrance."""
    return twins.entrance


@pytest.fixture(scope="module", params=["a", "b", "entrance"])
def way(request: pytest.FixtureRequest, twins: Twins) -> Registry:
    """Return each way into the cluster: either master, and their entrance."""
    found: Registry = getattr(twins, request.param)
    return found


@pytest.fixture(scope="session")
def stranger(twins: Twins) -> str:
    """Return a user made for wrong passwords: whoever gives too many is slowed down, and that must not be the administrator."""
    name = f"stranger-{secrets.token_hex(4)}"
    body = {"username": name, "password": "Right-password-1", "email": f"{name}@example.com", "realname": name}
    wire.ask(twins.a, "POST", "/api/v2.0/users", body=body)
    return name


@pytest.fixture
def home() -> Iterator[Home]:
    """Return a home directory of the test's own for its clients."""
    # Not pytest's tmp_path: podman refuses a storage path of more than 50 characters.
    with tempfile.TemporaryDirectory(prefix="th-") as directory:
        yield Home(Path(directory))


@pytest.fixture
def docker(home: Home, dockerd: Dockerd) -> Iterator[Docker]:
    """Return docker with a configuration of the test's own and a daemon without images."""
    client = Docker(require_client("docker"), home, dockerd)
    yield client
    client.forget_images()
