"""Links that are cut, cut one way, slow, thin, lossy and loose."""

from __future__ import annotations

from tests.fault.scenarios.registry import scenario
from tests.support.site import Act


@scenario("two-and-one", quick=True)
def two_and_one(act: Act) -> None:
    """One office is cut off from the two others while clients work in all of them."""
    with act.clients():
        act.go_on(1)
        act.part("ab", "c")
        act.go_on(3)
    act.heal()


@scenario("all-apart")
def all_apart(act: Act) -> None:
    """No office hears another."""
    with act.clients():
        act.go_on(1)
        act.part("a", "b", "c")
        act.go_on(8)
    act.heal()


@scenario("two-apart-one-between")
def two_apart_one_between(act: Act) -> None:
    """Two offices cannot hear each other, and the third hears both and passes everything on."""
    with act.clients():
        act.cut("a", "b")
        act.go_on(8)
    act.heal()
