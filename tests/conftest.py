"""What holds for every test: its folder is its marker, a unit test has no network, generated cases are the same each time."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import hypothesis
import pytest

# The classes of the compat suite stand in a module that pytest would not look at: have its assertions say what they compared.
pytest.register_assert_rewrite("tests.compat.contract")
# One pair of masters, one daemon and one database server for the whole run, started when a test first asks.
pytest_plugins = ("tests.support.twins", "tests.support.topology", "tests.support.dockerd", "tests.support.postgres")

TESTS: Final = Path(__file__).parent
# Folders whose name is a marker too, so that `-m "not compat"` needs no line in each file.
MARKING_FOLDERS: Final = frozenset({"compat", "cluster", "fault", "contract", "property"})
# From quick to slow, so that a plain mistake shows in the first seconds.
ORDER: Final = ("unit", "contract", "property", "functional", "cluster", "fault", "compat", "bench")

# `check` is the same on every run; `search` looks for new cases: pytest --hypothesis-profile=search tests/property
hypothesis.settings.register_profile("check", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=10_000, print_blob=True)
hypothesis.settings.load_profile("check")


class NetworkRefusal:
    """Refuses connections while a unit test runs; an audit hook can't be taken away again, so it is switched."""

    def __init__(self) -> None:
        """Let everything through."""
        self.on = False

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        """Fail the test that opens a connection or looks up a name; sockets of the unix family are files."""
        if not self.on or event not in {"socket.connect", "socket.getaddrinfo", "socket.bind"}:
            return
        if isinstance(args[0], socket.socket) and args[0].family == socket.AF_UNIX:
            return
        # No OSError: the code under test may catch those.
        raise AssertionError(f"a unit test reaches for the network ({event}): use a fake, or move it to tests/functional")


_refusal: Final = NetworkRefusal()
sys.addaudithook(_refusal)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let whoever has the time ask for more of what is repeated."""
    parser.addoption(
        "--rounds", type=int, default=None, help="how often tests that repeat one thing do it (default: each its own)"
    )


def folder_of(item: pytest.Item) -> str:
    """Return the folder directly under tests/ that a test is in."""
    inside = item.path.relative_to(TESTS).parts
    return inside[0] if len(inside) > 1 else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its folder, and run the quick folders first."""
    for item in items:
        if folder_of(item) in MARKING_FOLDERS:
            item.add_marker(folder_of(item))
    items.sort(key=lambda item: ORDER.index(folder_of(item)) if folder_of(item) in ORDER else len(ORDER))


@pytest.fixture(autouse=True)
def _no_network_in_unit_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Switch the network off for tests/unit."""
    _refusal.on = folder_of(request.node) == "unit"
    yield
    _refusal.on = False


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> int | None:
    """Return how often a test that repeats one thing was asked to do it, or None for its own number."""
    asked: int | None = request.config.getoption("--rounds")
    return asked


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> None:
    """Drop what the person who runs the tests has set for a node or a client of their own."""
    for name in list(os.environ):
        if name.startswith("TWINHULL_") or name in {"DOCKER_HOST", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "HARBOR_URL"}:
            del os.environ[name]
