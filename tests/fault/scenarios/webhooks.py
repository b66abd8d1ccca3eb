"""What is told to a webhook's receiver while nodes and their agents die, links are cut, and the receiver itself is away."""

from __future__ import annotations

import contextlib
import http.client
import secrets
import threading
from collections import defaultdict

from tests.fault.scenarios.registry import scenario
from tests.support.images import image
from tests.support.network import HUB_ADDRESS
from tests.support.pushes import push
from tests.support.real_node import RealNode, eventually
from tests.support.receiver import Receiver, running_receiver
from tests.support.site import NAMES, Act

_PATIENCE_S = 60.0


class _Pusher:
    """Pushes one image after the other to random nodes, and notes which pushes were acknowledged."""

    def __init__(self, act: Act) -> None:
        self._act = act
        self._rng = act.rng
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.acknowledged: list[str] = []

    def __enter__(self) -> _Pusher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            name = f"library/told-{secrets.token_hex(5)}"
            node: RealNode = self._rng.choice(self._act.nodes)
            with contextlib.suppress(OSError, AssertionError, http.client.HTTPException):
                push(node.repository(name), image(name), "v1")
                self.acknowledged.append(name)


def _told(receiver: Receiver) -> dict[str, set[str]]:
    """Return, for each repository that was told of and taken, by which ids of events."""
    found: dict[str, set[str]] = defaultdict(set)
    bodies: dict[str, str] = {}
    for one in receiver.matching(lambda one: one.status == http.client.OK):
        found[one.body["event_data"]["repository"]["repo_full_name"]].add(one.event_id)
        # Whatever is told again is the same.
        assert bodies.setdefault(one.event_id, one.text) == one.text
    return found


@scenario("webhooks-through-deaths")
def webhooks_through_deaths(act: Act) -> None:
    """Each acknowledged push is told, though agents, nodes and the receiver die; no event is told as another."""
    with running_receiver(host=HUB_ADDRESS) as receiver:
        body = {
            "name": f"hook-{secrets.token_hex(3)}",
            "targets": [{"type": "http", "address": receiver.url}],
            "event_types": ["PUSH_ARTIFACT"],
            "enabled": True,
        }
        act.node("a").manage("POST", "/projects/library/webhook/policies", body).expect(201)
        with _Pusher(act) as pusher, act.clients(count=1):
            for _ in range(3):
                receiver.status = act.rng.choice((200, 500, 503))
                act.did(f"the receiver answers {receiver.status}")
                act.go_on(act.rng.uniform(0.5, 1.5))
                name = act.rng.choice(NAMES)
                act.disturb_node(name)
                act.kill_process(name, "agent")
                act.go_on(act.rng.uniform(0.1, 0.8))
                act.cut("a", "c")
                act.go_on(act.rng.uniform(0.5, 1.0))
                victim = act.rng.choice(NAMES)
                act.kill(victim)
                act.restart(victim)
                act.site.network.heal()
                receiver.status = 200
        act.heal()
        assert len(pusher.acknowledged) > 20
        eventually(
            lambda: set(pusher.acknowledged) <= set(_told(receiver)),
            limit_s=_PATIENCE_S,
            what=f"of {len(pusher.acknowledged)} pushes all are told",
        )
        told = _told(receiver)
        twice = [name for name in pusher.acknowledged if len(told[name]) > 1]
        assert not twice, f"pushed once, and told as {[sorted(told[name]) for name in twice]}"
        again = len(receiver.matching(lambda one: one.status == http.client.OK)) - len(told)
        act.did(f"{len(pusher.acknowledged)} acknowledged pushes are told, {again} of them more than once")
