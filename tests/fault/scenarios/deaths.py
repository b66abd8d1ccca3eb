"""Nodes and processes that are killed or frozen at random moments, one, several, or all of them."""

from __future__ import annotations

from tests.fault.scenarios.registry import scenario
from tests.support.site import NAMES, Act


@scenario("kill-at-random")
def kill_at_random(act: Act) -> None:
    """Nodes lose their power at random moments, and start again while clients go on."""
    with act.clients():
        for _ in range(3):
            act.go_on(act.rng.uniform(0.2, 1.2))
            name = act.rng.choice(NAMES)
            act.kill(name)
            act.go_on(act.rng.uniform(0.0, 0.5))
            act.restart(name)
    act.heal()


@scenario("kill-all")
def kill_all(act: Act) -> None:
    """All offices lose their power within the same moment, twice."""
    with act.clients():
        for _ in range(2):
            act.go_on(2)
            for name in NAMES:
                act.kill(name)
            for name in NAMES:
                act.node(name).start(wait=False)
            for name in NAMES:
                act.node(name).wait_ready()
    act.heal()


@scenario("kill-thrice-in-a-row")
def kill_thrice_in_a_row(act: Act) -> None:
    """A node is killed again while it is still recovering, three times."""
    with act.clients():
        for _ in range(3):
            act.kill("b")
            act.node("b").start(wait=False)
            act.go_on(act.rng.uniform(0.1, 1.5))
        act.kill("b")
        act.restart("b")
    act.heal()


@scenario("kill-while-apart")
def kill_while_apart(act: Act) -> None:
    """An office that nobody hears is killed, and starts again alone."""
    with act.clients():
        act.part("ab", "c")
        act.go_on(3)
        act.kill("c")
        act.restart("c")
        act.go_on(3)
    act.heal()


@scenario("kill-both-sides")
def kill_both_sides(act: Act) -> None:
    """Two offices are apart and die one after the other, so that each has something which no living node has."""
    with act.clients():
        act.part("a", "b", "c")
        act.go_on(3)
        act.kill("a")
        act.kill("b")
        act.site.network.heal()
        act.go_on(2)
        act.restart("a")
        act.go_on(1)
        act.restart("b")
    act.heal()


@scenario("kill-agent")
def kill_agent(act: Act) -> None:
    """The process that talks to peers dies, again and again: serving goes on."""
    with act.clients():
        for _ in range(4):
            act.go_on(act.rng.uniform(0.3, 1.5))
            # What is written meanwhile cannot be told to anybody.
            act.disturb_node("a")
            act.kill_process("a", "agent")
    act.heal()


@scenario("kill-worker")
def kill_worker(act: Act) -> None:
    """A process that answers clients dies, again and again, and the others notice nothing."""
    with act.clients():
        for _ in range(4):
            act.go_on(act.rng.uniform(0.3, 1.5))
            act.kill_process("a", "worker")
    act.heal()


@scenario("freeze-node")
def freeze_node(act: Act) -> None:
    """A node stands still for longer than everybody's patience, and goes on as if nothing had been."""
    with act.clients():
        act.go_on(1)
        act.freeze("b", 4)
        act.go_on(1)
    act.heal()


@scenario("freeze-node-for-long")
def freeze_node_for_long(act: Act) -> None:
    """A node stands still until all its connections have been given up."""
    with act.clients():
        act.freeze("c", 15)
        act.go_on(1)
    act.heal()


@scenario("freeze-agent")
def freeze_agent(act: Act) -> None:
    """The process that talks to peers stands still while the node's workers go on."""
    with act.clients():
        act.disturb_node("a")
        act.freeze_process("a", "agent", 8)
    act.heal()


@scenario("freeze-each-in-turn")
def freeze_each_in_turn(act: Act) -> None:
    """Every node in turn stands still for about as long as peers wait for one another."""
    with act.clients():
        for name in NAMES * 2:
            act.freeze(name, act.rng.uniform(1.0, 3.0))
    act.heal()
