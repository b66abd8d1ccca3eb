"""Newcomers whose link is cut, or who are killed, while they take over the cluster's state and clients go on."""

from __future__ import annotations

from tests.fault.scenarios.registry import scenario
from tests.support.real_node import RealNode
from tests.support.site import SPARE, Act

_WORK_S = 3.0
_LIMIT_S = 60.0
# A newcomer has all blobs of the cluster to fetch, which is no healing, and takes what it takes.
_CATCH_UP_S = 60.0


def _newcomer(act: Act) -> RealNode:
    """Begin to join a node on the spare host, while clients are at work."""
    node = act.site.add(SPARE)
    node.start(act.node("a").invite(), wait=False)
    act.did(f"{SPARE} begins to join")
    return node


def _finish(act: Act, node: RealNode) -> None:
    """Start the newcomer as often as it takes: as a member, if it has become one, or with another invite."""
    for _ in range(5):
        if node.running.poll() is not None:
            is_member = (node.data_dir / "node" / "identity.json").exists()
            node.start("" if is_member else act.node("a").invite(), wait=False)
            act.did(f"{SPARE} starts again{'' if is_member else ' with another invite'}")
        if node.becomes_ready(_LIMIT_S):
            return
    raise AssertionError(f"{node.name} did not become ready")


@scenario("join-while-clients-work", spoils=True)
def join_while_clients_work(act: Act) -> None:
    """A fourth office joins while clients push, delete and revoke in the others, and then works like them."""
    with act.clients():
        act.go_on(_WORK_S)
        node = _newcomer(act)
        _finish(act, node)
        act.go_on(1)
    act.office.nodes = act.nodes
    with act.clients():
        act.go_on(3)
    act.heal(_CATCH_UP_S)


@scenario("cut-in-join", spoils=True)
def cut_in_join(act: Act) -> None:
    """The newcomer's link is cut several times while it takes over the state."""
    with act.clients():
        act.go_on(_WORK_S)
        node = _newcomer(act)
        for _ in range(3):
            act.go_on(act.rng.uniform(0.3, 1.2))
            act.part("abc", SPARE)
            act.go_on(act.rng.uniform(0.5, 2.5))
            act.site.network.heal()
        _finish(act, node)
    act.heal(_CATCH_UP_S)


@scenario("kill-in-join", spoils=True)
def kill_in_join(act: Act) -> None:
    """The newcomer is killed several times while it takes over the state."""
    with act.clients():
        act.go_on(_WORK_S)
        node = _newcomer(act)
        for _ in range(4):
            act.go_on(act.rng.uniform(0.3, 1.5))
            act.kill(SPARE)
            is_member = (node.data_dir / "node" / "identity.json").exists()
            node.start("" if is_member else act.node("a").invite(), wait=False)
        _finish(act, node)
    act.heal(_CATCH_UP_S)


@scenario("kill-the-host-of-a-join", spoils=True)
def kill_the_host_of_a_join(act: Act) -> None:
    """The node that invited is killed while the newcomer takes over the state; the others have it too."""
    with act.clients():
        act.go_on(_WORK_S)
        node = _newcomer(act)
        act.go_on(act.rng.uniform(0.5, 1.5))
        act.kill("a")
        act.go_on(2)
        act.restart("a")
        _finish(act, node)
    act.heal(_CATCH_UP_S)


@scenario("leave-while-clients-work", spoils=True)
def leave_while_clients_work(act: Act) -> None:
    """An office leaves while clients push to it; what it was the first to take is with the others."""
    with act.clients():
        act.go_on(_WORK_S)
        act.office.nodes = act.nodes[:2]
        act.go_on(1)
        act.node("c").cli("leave")
        act.did("c leaves")
        act.go_on(2)
    act.node("c").stop()
    del act.site.nodes["c"]
    act.heal(_CATCH_UP_S)
