"""Fixtures of the functional tests: the registry under test by every way into it, and unused repositories in it."""

from __future__ import annotations

from tests.support.topology import pytest_generate_tests, registry, repository, single_node
from tests.support.twins import twins

__all__ = ["pytest_generate_tests", "registry", "repository", "single_node", "twins"]
