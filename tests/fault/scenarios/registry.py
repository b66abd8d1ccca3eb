"""The list of fault scenarios, and how one of them is played."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.support.promises import Verdict
from tests.support.site import HEALING_MAX_S, Act, Site, new_act, start_over
from twinhull.kit.clock import SystemClock

Play = Callable[[Act], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A scenario: what it is called and does, whether each test run plays it, and whether the site is of no use after it."""

    name: str
    title: str
    play: Play
    quick: bool
    spoils: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a scenario. `failure` is empty where all promises were kept."""

    scenario: Scenario
    story: list[str]
    healed_s: float
    took_s: float
    verdict: Verdict
    failure: str


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(name: str, *, quick: bool = False, spoils: bool = False) -> Callable[[Play], Play]:
    """Put a function on the list; its docstring is the title. Some spoil the site: the next one gets another."""

    def put(play: Play) -> Play:
        assert name not in SCENARIOS, name
        title = (play.__doc__ or "").strip().partition("\n")[0]
        SCENARIOS[name] = Scenario(name=name, title=title, play=play, quick=quick, spoils=spoils)
        return play

    return put


def played(chosen: Scenario, site: Site, seed: str, *, minutes: float = 10.0) -> Result:
    """Play the scenario, heal, judge, and put the site in order again; an exception of the scenario's is its failure."""
    clock = SystemClock()
    began_s = clock.monotonic_s()
    act = new_act(site, f"{chosen.name} {seed}", minutes=minutes)
    failure = ""
    try:
        chosen.play(act)
        # Whatever was done after it was healed last; a scenario may have given itself more time before.
        act.heal(max(HEALING_MAX_S, act.healed_s))
        act.judge()
    except Exception:  # noqa: BLE001 - whatever it was, it is told, and the next scenario has its turn
        failure = traceback.format_exc(limit=4) + "\n" + site.differences()
    took_s = clock.monotonic_s() - began_s
    try:
        act.clean_up()
        if failure or chosen.spoils:
            start_over(site)
    except Exception:  # noqa: BLE001 - as above
        failure += traceback.format_exc(limit=4)
    return Result(scenario=chosen, story=act.story, healed_s=act.healed_s, took_s=took_s, verdict=act.verdict, failure=failure)
