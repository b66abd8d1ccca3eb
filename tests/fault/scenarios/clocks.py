"""Clocks that are apart, as libfaketime shows them to the nodes: time of day only, for what counts seconds is not touched."""

from __future__ import annotations

import glob

from tests.fault.scenarios.registry import scenario
from tests.support.clients import unavailable
from tests.support.real_node import eventually
from tests.support.site import NAMES, Act

_LIBRARY = "/usr/lib/*/faketime/libfaketime.so.1"
_CACHE_S = 1


def _with_clocks(act: Act) -> None:
    """Run all nodes with clocks that can be set."""
    act.clocks_agree = False
    libraries = glob.glob(_LIBRARY)  # noqa: PTH207 - the pattern is absolute, which Path.glob refuses
    if not libraries:
        unavailable("libfaketime is not installed (Debian's package faketime)")
    for name in NAMES:
        clock = act.site.directory / f"clock-{name}"
        clock.write_text("+0\n")
        environment = {
            "LD_PRELOAD": libraries[0],
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": str(_CACHE_S),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "FAKETIME_DONT_RESET": "1",
        }
        act.node(name).stop()
        act.restart(name, environment)
    eventually(act.site.is_equal, what="equal with clocks that can be set")


def _set(act: Act, name: str, offset: str) -> None:
    """Set a node's clock off by that much, as libfaketime writes it."""
    file = act.site.directory / f"clock-{name}"
    spare = file.with_suffix(".new")
    spare.write_text(f"{offset}\n")
    spare.replace(file)
    act.did(f"clock of {name} {offset}")
    act.go_on(_CACHE_S + 0.5)


@scenario("clocks-apart-by-4-minutes", spoils=True)
def clocks_apart_by_4_minutes(act: Act) -> None:
    """One clock is 4 minutes ahead and another 4 behind the third: nobody notices, apart or together."""
    _with_clocks(act)
    _set(act, "b", "+4m")
    with act.clients():
        act.go_on(3)
        act.part("a", "bc")
        act.go_on(3)
    act.heal()


@scenario("clock-jumps", spoils=True)
def clock_jumps(act: Act) -> None:
    """A node's clock is set forward and back while clients work: its stamps never go back."""
    _with_clocks(act)
    with act.clients():
        for offset in ("+2m", "-2m", "+4m", "-4m", "+0"):
            _set(act, "a", offset)
    act.heal()


@scenario("clock-10-minutes-ahead", spoils=True)
def clock_10_minutes_ahead(act: Act) -> None:
    """A clock 10 minutes ahead wins no conflict: what it stamps is held back, the others go on, and all comes in time."""
    _with_clocks(act)
    act.disturb_node("b")
    _set(act, "b", "+10m")
    with act.clients():
        act.go_on(6)
    first, third = act.node("a"), act.node("c")
    eventually(lambda: first.state_of(third) == "in sync", what="a and c are in sync all the same")
    # Six minutes later, for all.
    for name, offset in (("a", "+6m"), ("c", "+6m"), ("b", "+6m")):
        _set(act, name, offset)
    act.heal()


@scenario("clock-10-minutes-behind", spoils=True)
def clock_10_minutes_behind(act: Act) -> None:
    """A clock 10 minutes behind takes all others for broken until it is set right; nothing is lost meanwhile."""
    _with_clocks(act)
    act.disturb_node("c")
    _set(act, "c", "-10m")
    with act.clients():
        act.go_on(6)
    _set(act, "c", "+0")
    act.heal()
