"""Clusters of real nodes, started once and mended after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.nodes import Cluster, running_cluster
from tests.support.proxied import Upstream, running_upstream


@pytest.fixture(scope="session")
def shared_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes for all tests of the session."""
    with running_cluster(tmp_path_factory.mktemp("pair"), ("a", "b")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def shared_trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes for all tests of the session."""
    with running_cluster(tmp_path_factory.mktemp("trio"), ("a", "b", "c")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def shared_upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """A docker-registry for all tests of the session."""
    with running_upstream(tmp_path_factory.mktemp("upstream")) as upstream:
        yield upstream


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Iterator[Upstream]:
    """A docker-registry; whatever the test does to its line is mended afterwards."""
    yield shared_upstream
    shared_upstream.mend()


@pytest.fixture
def pair(shared_pair: Cluster) -> Iterator[Cluster]:
    """Two nodes, a and b, in sync; whatever the test does to them is mended afterwards."""
    yield shared_pair
    shared_pair.mend()


@pytest.fixture
def trio(shared_trio: Cluster) -> Iterator[Cluster]:
    """Three nodes, a, b and c, in sync; whatever the test does to them is mended afterwards."""
    yield shared_trio
    shared_trio.mend()
