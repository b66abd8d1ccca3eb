"""Everything at once, by chance: partitions, kills and freezes, one over the other, while clients work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.fault.scenarios.registry import scenario
from tests.support.site import NAMES, Act
from twinhull.kit.clock import SystemClock

# Now and then all is well for a while, so that what clients read is held to all promises again.
_REST_SHARE: Final = 0.15
_PARTITIONS: Final = (("ab", "c"), ("ac", "b"), ("bc", "a"), ("a", "b", "c"))


def _part(act: Act) -> None:
    act.site.network.heal()
    act.part(*act.rng.choice(_PARTITIONS))


def _cut(act: Act) -> None:
    one, other = act.rng.sample(NAMES, 2)
    act.rng.choice((act.cut, act.cut_one_way))(one, other)


def _heal_links(act: Act) -> None:
    # The nodes need a moment to notice, so what was cut still counts as disturbed, until the whole site is equal again.
    act.site.network.heal()


def _kill(act: Act) -> None:
    name = act.rng.choice(NAMES)
    act.kill(name)
    act.go_on(act.rng.uniform(0.0, 2.0))
    act.node(name).start(wait=False)


def _kill_process(act: Act) -> None:
    name, title = act.rng.choice(NAMES), act.rng.choice(("agent", "worker"))
    act.disturb_node(name)
    act.kill_process(name, title)


def _freeze(act: Act) -> None:
    act.freeze(act.rng.choice(NAMES), act.rng.uniform(0.5, 5.0))


_FAULTS: Final[dict[Callable[[Act], None], int]] = {_part: 4, _cut: 3, _heal_links: 5, _kill: 4, _kill_process: 2, _freeze: 1}


def _at_random(act: Act, seconds: float, *, pause_s: tuple[float, float]) -> None:
    clock = SystemClock()
    end_s = clock.monotonic_s() + seconds
    with act.clients():
        while clock.monotonic_s() < end_s:
            act.go_on(act.rng.uniform(*pause_s))
            [fault] = act.rng.choices(list(_FAULTS), weights=list(_FAULTS.values()))
            fault(act)
            if act.rng.random() < _REST_SHARE:
                act.rest()
                act.go_on(act.rng.uniform(0.5, 3.0))
    act.heal()


@scenario("ten-seconds", quick=True)
def ten_seconds(act: Act) -> None:
    """Partitions, kills and freezes by chance for ten seconds, on three nodes with clients at all of them."""
    _at_random(act, 10, pause_s=(0.2, 1.0))


@scenario("ten-minutes")
def ten_minutes(act: Act) -> None:
    """Partitions, kills and freezes by chance for ten minutes (MINUTES=), on three nodes with clients at all of them."""
    _at_random(act, act.minutes * 60, pause_s=(0.5, 6.0))
