"""A few of the fault scenarios, in each test run; `make faults` plays them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fault.scenarios import every
from tests.fault.scenarios.registry import Scenario, played
from tests.support.site import Site, running_site

QUICK = [one for one in every.SCENARIOS.values() if one.quick]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three nodes on hosts of their own, for all scenarios."""
    with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.mark.timeout(300)
@pytest.mark.parametrize("chosen", QUICK, ids=lambda one: one.name)
def test_promises_are_kept(site: Site, chosen: Scenario) -> None:
    result = played(chosen, site, "check")
    assert not result.failure, result.failure
    assert result.verdict.operations > 20


def test_scenarios_are_at_least_thirty_and_say_what_they_do() -> None:
    assert len(every.SCENARIOS) >= 30
    assert all(one.title.endswith(".") for one in every.SCENARIOS.values())
