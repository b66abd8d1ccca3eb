"""The seeded simulation: nodes agree in the end on what must be, and a seed always tells the same story."""

from __future__ import annotations

import pytest

from tools.simulate.run import run_seed


@pytest.mark.parametrize("seed", range(6))
def test_promises_hold_whatever_the_seed_has_in_store(seed: int) -> None:
    assert run_seed(seed).failures == []


def test_seed_tells_the_same_story_twice() -> None:
    assert run_seed(1).trace == run_seed(1).trace
    assert run_seed(1).trace != run_seed(3).trace


@pytest.mark.parametrize("mutant", ["old-tags-remembered", "deletions-not-projected"])
def test_program_with_something_wrong_in_it_is_found_out(mutant: str) -> None:
    assert any(run_seed(seed, mutant=mutant).failures for seed in range(30))
