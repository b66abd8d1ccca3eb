"""Gives the same registry tests every way into a registry: one node, either of two, their entrance, and any node by chance."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pytest

from tests.support.registry_client import RegistryClient, Repository
from tests.support.single import SingleNode, running_node
from tests.support.twins import Twins

TOPOLOGIES: Final = ("one", "a", "b", "entrance", "random")
# Read before the session begins: its first fixture clears what the environment says of registries.
GIVEN: Final = os.environ.get("TWINHULL_TEST_REGISTRY", "")
GIVEN_USER: Final = os.environ.get("TWINHULL_TEST_USER", "")
GIVEN_PASSWORD: Final = os.environ.get("TWINHULL_TEST_PASSWORD", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A way into a registry: its addresses, its administrator, and repositories that nobody has used before."""

    topology: str
    client: RegistryClient
    project: str

    @property
    def url(self) -> str:
        """Return the address of the way in; of the first node where each request goes to one by chance."""
        return f"http://{self.client.addresses[0]}"

    @property
    def user(self) -> str:
        """Return the administrator's name, or "" for a registry that asks nobody."""
        return self.client.user

    @property
    def password(self) -> str:
        """Return the administrator's password."""
        return self.client.password

    def new_repository(self, name: str = "app") -> Repository:
        """Return a repository of an unused name in the project."""
        return Repository(client=self.client, name=f"{self.project}/{name}-{secrets.token_hex(6)}")


@pytest.fixture(scope="session")
def single_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SingleNode]:
    """Run one node for all tests that ask for it."""
    with running_node(tmp_path_factory.mktemp("single-node")) as node:
        yield node


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test of a registry once for every way into it, or for those that its module names in TOPOLOGIES."""
    if "topology" in metafunc.fixturenames:
        metafunc.parametrize("topology", ["given"] if GIVEN else getattr(metafunc.module, "TOPOLOGIES", TOPOLOGIES))


@pytest.fixture
def registry(request: pytest.FixtureRequest, topology: str) -> Registry:
    """Return the registry under test by one way into it.

    TWINHULL_TEST_REGISTRY=HOST:PORT in the environment puts another registry, with TWINHULL_TEST_USER and
    TWINHULL_TEST_PASSWORD, in the place of ours: so the tests themselves are tested.
    """
    addresses: Sequence[str]
    user, password = GIVEN_USER, GIVEN_PASSWORD
    if topology == "given":
        addresses = (GIVEN,)
    elif topology == "one":
        node: SingleNode = request.getfixturevalue("single_node")
        addresses, user, password = (node.address,), node.user, node.password
    else:
        twins: Twins = request.getfixturevalue("twins")
        ways = {"a": (twins.a,), "b": (twins.b,), "entrance": (twins.entrance,), "random": (twins.a, twins.b)}[topology]
        addresses, user, password = tuple(way.address for way in ways), twins.a.user, twins.a.password
    # The test's name is the seed, so that a failing order of nodes comes back when the test is run again.
    draw = random.Random(request.node.nodeid)
    client = RegistryClient(addresses=addresses, user=user, password=password, draw=draw)
    return Registry(topology=topology, client=client, project="library")


@pytest.fixture
def repository(registry: Registry) -> Repository:
    """Return an unused repository of the registry under test."""
    return registry.new_repository()
