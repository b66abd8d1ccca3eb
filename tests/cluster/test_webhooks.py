"""Webhooks in a cluster: each event is told by the node on which it happened, once; what was not taken is told again."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import image
from tests.support.nodes import Cluster, ClusterNode, eventually, new_name, running_cluster
from tests.support.pushes import push
from tests.support.receiver import Receiver, running_receiver
from tests.support.single import free_address

POLICIES = "/projects/library/webhook/policies"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of its own for each test, so that it hears of nothing else."""
    with running_receiver() as running:
        yield running


def add_policy(node: ClusterNode, address: str) -> int:
    """Let the project of all tell this receiver of pushes, and return the policy's id."""
    body = {
        "name": f"hook-{secrets.token_hex(3)}",
        "targets": [{"type": "http", "address": address, "auth_header": "Bearer abc"}],
        "event_types": ["PUSH_ARTIFACT"],
        "enabled": True,
    }
    answer = node.manage("POST", POLICIES, body).expect(201)
    return int((answer.header("Location") or "").rpartition("/")[2])


def executions(node: ClusterNode, policy: int) -> list[dict[str, Any]]:
    """Return what the node says was sent by the policy."""
    found: list[dict[str, Any]] = json.loads(node.manage("GET", f"{POLICIES}/{policy}/executions").expect(200).body)
    return found


def test_event_is_told_once_by_the_node_on_which_it_happened(pair: Cluster, receiver: Receiver) -> None:
    a, b = pair
    policy = add_policy(a, receiver.url)
    names = [new_name() for _ in range(6)]
    for number, name in enumerate(names):
        push(pair[number % 2].repository(name), image(f"hook-{number}"), "v1")
    deliveries = receiver.wait_for(6)
    assert sorted(one.body["event_data"]["repository"]["repo_full_name"] for one in deliveries) == sorted(names)
    assert {one.headers["authorization"] for one in deliveries} == {"Bearer abc"}
    assert len({one.event_id for one in deliveries}) == 6
    hosts = {one.body["event_data"]["resources"][0]["resource_url"].partition("/")[0] for one in deliveries}
    assert hosts == {a.address, b.address}
    for node in pair:
        eventually(lambda node=node: [one["status"] for one in executions(node, policy)] == ["Success"] * 6)  # type: ignore[misc]
    assert executions(a, policy) == executions(b, policy)
    assert len(receiver.deliveries) == 6


def test_receiver_that_was_down_hears_of_all_in_order_when_it_is_back(pair: Cluster) -> None:
    a, b = pair
    address = free_address()
    policy = add_policy(b, f"http://{address}/hook")
    name = new_name()
    for tag in ("v1", "v2", "v3"):
        push(a.repository(name), image(f"down {tag}"), tag)
    eventually(lambda: [one["status"] for one in executions(b, policy)] == ["Running"] * 3, what="b sees what a could not send")
    with running_receiver(int(address.rpartition(":")[2])) as receiver:
        told = receiver.wait_for(3)
        assert [one.body["event_data"]["resources"][0]["tag"] for one in told] == ["v1", "v2", "v3"]
        eventually(lambda: [one["status"] for one in executions(b, policy)] == ["Success"] * 3)
        assert len(receiver.deliveries) == 3


def test_event_is_told_again_with_its_id_when_the_agent_dies_before_it_was_taken(pair: Cluster, receiver: Receiver) -> None:
    a, _ = pair
    policy = add_policy(a, receiver.url)
    receiver.goes_on.clear()
    push(a.repository(new_name()), image("killed"), "v1")
    receiver.wait_for(1)
    agent = a.agent()
    assert agent is not None
    os.kill(agent, signal.SIGKILL)
    receiver.goes_on.set()
    first, second = receiver.wait_for(2)
    assert (first.event_id, first.text) == (second.event_id, second.text)
    eventually(lambda: [one["status"] for one in executions(a, policy)] == ["Success"])
    assert len(receiver.deliveries) == 2
    pair.mend()


def test_what_a_removed_node_could_not_tell_is_told_by_another(tmp_path: Path, receiver: Receiver) -> None:
    with running_cluster(tmp_path) as cluster:
        a, b = cluster
        policy = add_policy(a, receiver.url)
        receiver.status = 503
        push(b.repository(new_name()), image("removed"), "v1")
        first = receiver.wait_for(1)[0]
        eventually(lambda: [one["status"] for one in executions(a, policy)] == ["Running"])
        b.kill()
        receiver.status = 200
        a.cli("remove", b.name)
        told = receiver.matching(lambda one: one is not first)
        receiver.wait_for(len(told) + 2)
        last = receiver.deliveries[-1]
        assert (first.event_id, first.text) == (last.event_id, last.text)
        eventually(lambda: sorted(one["status"] for one in executions(a, policy)) == ["Error", "Success"])
