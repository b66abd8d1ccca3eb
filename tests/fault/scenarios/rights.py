"""Rights that are taken away on one side of a partition while the other, which has not heard of it, writes the same thing."""

from __future__ import annotations

from tests.fault.scenarios.registry import scenario
from tests.support.office import Subject
from tests.support.site import Act

_COUNT = 4


def _subjects(act: Act) -> tuple[list[Subject], list[Subject]]:
    """Return users and robots that all nodes know."""
    node = act.node("a")
    users = [act.office.new_user(node) for _ in range(_COUNT)]
    robots = [act.office.new_robot(node) for _ in range(_COUNT)]
    made = [subject for subject in users + robots if subject is not None]
    assert len(made) == 2 * _COUNT
    for other in act.nodes:
        assert all(act.office.probe(other, subject) == 2 for subject in made), f"{other.name} knows them at once"
    return made[:_COUNT], made[_COUNT:]


@scenario("revocations-apart", quick=True)
def revocations_apart(act: Act) -> None:
    """Users, members, roles and robots lose rights on one side, and are changed on the other: the revocation holds."""
    users, robots = _subjects(act)
    here, there, office = act.node("a"), act.node("c"), act.office
    act.part("ab", "c")
    for subject in users:
        office.meddle(there, subject)
        office.promote(there, subject)
    for robot in robots:
        office.describe(there, robot)
    outcomes = [
        office.remove(here, users[0]),
        office.expel(here, users[1]),
        office.weaken(here, users[2]),
        office.disable(here, robots[0]),
        office.remove(here, robots[1]),
        office.rotate(here, robots[2]),
    ]
    assert outcomes == ["done"] * 6
    for subject in users:
        office.meddle(there, subject)
        office.promote(there, subject)
    for robot in robots:
        office.describe(there, robot)
    act.did("take rights away at a, and change the same users, members and robots at c, before and after")
    act.heal()
    for node in act.nodes:
        assert [office.probe(node, subject) for subject in users] == [0, 0, 1, 2], node.name
        assert [office.probe(node, robot) for robot in robots] == [0, 0, 0, 2], node.name


@scenario("administrator-apart")
def administrator_apart(act: Act) -> None:
    """A user stops being an administrator on one side and is made one on the other: they are none."""
    users, _ = _subjects(act)
    here, there, office = act.node("a"), act.node("c"), act.office
    assert office.set_administrator(here, users[0], wanted=True) == office.set_administrator(here, users[1], wanted=True) == 200
    act.part("ab", "c")
    assert office.set_administrator(here, users[0], wanted=False) == 200
    assert office.set_administrator(there, users[0], wanted=True) == 200
    act.did("take the flag away at a and set it anew at c")
    act.heal()
    for node in act.nodes:
        assert not office.is_administrator(node, users[0]), f"{users[0].name} is one at {node.name}"
        assert office.is_administrator(node, users[1]), "and the other still is"


@scenario("revocation-then-power-failure")
def revocation_then_power_failure(act: Act) -> None:
    """Rights are taken away, the node that took them dies at once, and no other node ever lets them in again."""
    users, robots = _subjects(act)
    office = act.office
    for subject in (*users, *robots):
        office.remove(act.node("a"), subject)
    act.kill("a")
    for subject in (*users, *robots):
        assert office.probe(act.node("b"), subject) == 0
        assert office.probe(act.node("c"), subject) == 0
    act.restart("a")
    act.heal()


@scenario("revocation-apart-then-power-failure")
def revocation_apart_then_power_failure(act: Act) -> None:
    """An office takes rights away alone, loses its power before anybody hears of it, and tells it when it is back."""
    users, robots = _subjects(act)
    office = act.office
    act.part("a", "bc")
    for subject in (*users[:2], *robots[:2]):
        assert office.remove(act.node("a"), subject) == "done"
    act.kill("a")
    for subject in users[:2]:
        office.meddle(act.node("b"), subject)
        office.promote(act.node("b"), subject)
    act.site.network.heal()
    act.restart("a")
    act.heal()
