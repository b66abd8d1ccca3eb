"""A dead or stopped node costs one wait, never the others' service, and comes back by itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.images import Image, image
from tests.support.nodes import Cluster, ClusterNode, eventually, new_name, running_cluster
from tests.support.pushes import LEVEL, check_pull, digest_of_tag, push, put_manifest
from twinhull.kit.clock import SystemClock

ACK_TIMEOUT_S = 2.0
# What a push takes on a busy machine beside the waiting.
WORK_S = 1.5


def timed_push(node: ClusterNode, name: str, content: Image, tag: str = "v1") -> tuple[float, str | None]:
    """Push a manifest whose blobs are there, and return how long the answer took and which level it names."""
    clock = SystemClock()
    began_s = clock.monotonic_s()
    answer = put_manifest(node.repository(name), content, tag).expect(201)
    return clock.monotonic_s() - began_s, answer.header(LEVEL)


def is_waited_for(node: ClusterNode, name: str, content: Image) -> bool:
    """Tell whether a write on the node reaches level metadata again."""
    return put_manifest(node.repository(name), content, "probe").expect(201).header(LEVEL) == "metadata"


def test_killed_peer_is_not_waited_for_and_catches_up_when_it_is_back(pair: Cluster) -> None:
    a, b = pair
    name, contents = new_name(), [image(f"killed {number}", layers=1) for number in range(4)]
    push(a.repository(name), contents[0], "v0")
    b.kill()
    for number, content in enumerate(contents):
        answer = push(a.repository(name), content, f"v{number}")
        assert answer.header(LEVEL) == "local"
    took_s, level = timed_push(a, name, contents[0], "again")
    assert took_s < WORK_S
    assert level == "local"
    b.start()
    # Ready, and asked before it can have caught up with everything.
    check_pull(b.repository(name), contents[3], "v3")
    for number, content in enumerate(contents):
        check_pull(b.repository(name), content, f"v{number}")
    eventually(lambda: is_waited_for(a, name, contents[0]), what="b is waited for again")
    eventually(lambda: a.ask("POST", "/verify")["equal"], what="equal")


def test_stopped_peer_costs_one_wait_and_does_not_answer_stale_when_it_goes_on(pair: Cluster) -> None:
    a, b = pair
    name, contents = new_name(), [image(f"frozen {number}", layers=0) for number in range(4)]
    for content in contents:
        push(a.repository(name), content, "v1")
    assert digest_of_tag(b.repository(name), "v1") == contents[3].digest
    b.freeze()
    try:
        first_s, level = timed_push(a, name, contents[0])
        assert level == "local"
        assert first_s < ACK_TIMEOUT_S + WORK_S
        assert first_s > ACK_TIMEOUT_S / 2
        for content in contents[1:3]:
            next_s, level = timed_push(a, name, content)
            assert next_s < WORK_S, "the second write waits no more"
            assert level == "local"
    finally:
        b.thaw()
    assert digest_of_tag(b.repository(name), "v1") == contents[2].digest
    eventually(lambda: is_waited_for(a, name, contents[0]), what="b is waited for again")
    assert a.state_of(b) in ("in sync", "behind")


def test_peer_that_is_cut_off_for_a_while_never_shows_an_older_tag_afterwards(pair: Cluster) -> None:
    a, b = pair
    name, contents = new_name(), [image(f"plugged {number}", layers=0) for number in range(6)]
    push(a.repository(name), contents[0], "v1")
    # What a sends to b is held up, as by a stalled link; b's own words still reach a.
    a.line.plugged.add("back")
    b.line.plugged.add("out")
    for content in contents[1:]:
        put_manifest(a.repository(name), content, "v1")
        push(a.repository(name), content, "v1")
    last = contents[-1].digest
    a.line.plugged.clear()
    b.line.plugged.clear()
    eventually(lambda: digest_of_tag(b.repository(name), "v1") == last, limit_s=5, what="the last tag")
    for content in contents:
        push(a.repository(name), content, "v1")
        assert digest_of_tag(b.repository(name), "v1") == content.digest


def test_peer_behind_a_slow_line_never_shows_an_older_tag(pair: Cluster) -> None:
    a, b = pair
    a.line.delay_s = b.line.delay_s = 0.15
    name, contents = new_name(), [image(f"slow {number}", layers=0) for number in range(6)]
    for content in contents:
        push(a.repository(name), content, "v1")
        assert digest_of_tag(b.repository(name), "v1") == content.digest
        assert digest_of_tag(a.repository(name), "v1") == content.digest


def test_node_killed_in_the_middle_of_pushes_has_all_that_it_acknowledged(pair: Cluster) -> None:
    a, b = pair
    acknowledged: list[tuple[str, Image]] = []
    enough = threading.Event()

    def push_until_it_dies(worker: int) -> None:
        for number in range(1000):
            name, content = new_name(), image(f"kill {worker} {number}", layers=1)
            try:
                push(a.repository(name), content, "v1")
            except (OSError, AssertionError):
                return
            acknowledged.append((name, content))
            if len(acknowledged) >= 12:
                enough.set()

    threads = [threading.Thread(target=push_until_it_dies, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    assert enough.wait(60)
    a.kill()
    for thread in threads:
        thread.join(60)
    for name, content in acknowledged:
        assert digest_of_tag(b.repository(name), "v1") == content.digest, "every reachable node has it at once"
    a.start()
    for name, content in acknowledged:
        for node in pair:
            check_pull(node.repository(name), content, "v1")
    eventually(lambda: a.ask("POST", "/verify")["equal"], what="equal")
    assert "equal" in b.cli("verify")


def test_death_of_the_agent_alone_stops_neither_pushes_nor_pulls(pair: Cluster) -> None:
    a, b = pair
    name, contents = new_name(), [image(f"agent {number}") for number in range(3)]
    push(a.repository(name), contents[0], "v0")
    agent = a.agent()
    assert agent is not None
    os.kill(agent, signal.SIGKILL)
    for number, content in enumerate(contents):
        push(a.repository(name), content, f"v{number}")
        check_pull(a.repository(name), content, f"v{number}")
    eventually(lambda: a.agent() not in (None, agent), what="another agent")
    eventually(lambda: is_waited_for(a, name, contents[0]), what="b is waited for again")
    for number, content in enumerate(contents):
        check_pull(b.repository(name), content, f"v{number}")


def test_write_during_the_agents_death_is_not_answered_stale_by_the_peer(pair: Cluster) -> None:
    a, b = pair
    name, contents = new_name(), [image(f"agent tag {number}", layers=0) for number in range(3)]
    for content in contents:
        push(a.repository(name), content, "v1")
    assert digest_of_tag(b.repository(name), "v1") == contents[2].digest
    agent = a.agent()
    assert agent is not None
    os.kill(agent, signal.SIGKILL)
    put_manifest(a.repository(name), contents[0], "v1").expect(201)
    # Either it hears of it in time, or it takes a for gone, until it hears from it again.
    eventually(lambda: digest_of_tag(b.repository(name), "v1") == contents[0].digest, limit_s=10, what="the new tag")


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes that would rather refuse a write than have it on one of them alone."""
    environment = {"TWINHULL_DURABILITY_ON_PEER_LOSS": "refuse", "TWINHULL_DURABILITY_ACK_TIMEOUT_S": "0.5"}
    with running_cluster(tmp_path_factory.mktemp("refusing"), ("a", "b"), environment) as cluster:
        yield cluster


def test_write_that_a_peer_does_not_confirm_is_refused_where_that_is_wanted(refusing: Cluster) -> None:
    a, b = refusing
    name, content = new_name(), image("refused")
    assert push(a.repository(name), content, "v1").header(LEVEL) == "metadata"
    b.kill()
    answer = put_manifest(a.repository(name), content, "v2").expect(503)
    assert "not confirmed by b" in answer.body.decode()
    # A client that asks for no more than this node's disk gets it.
    assert put_manifest(a.repository(name), content, "v3", level="local").expect(201).header(LEVEL) == "local"
    check_pull(a.repository(name), content, "v1")
    b.start()
    eventually(lambda: put_manifest(a.repository(name), content, "v4").status == 201, what="b confirms again")
    check_pull(b.repository(name), content, "v3")


def test_alarms_and_throughput_are_told_while_they_last(pair: Cluster) -> None:
    a, b = pair
    # Tests before this one may have written while a node was away, a moment ago.
    assert alarms(a) <= {"writes-degraded"}
    name = new_name()
    before = member(a, b)["sent_bytes"]
    push(a.repository(name), image("seen", layers=1, layer_bytes=300_000), "v1")
    eventually(lambda: member(a, b)["sent_bytes"] >= before + 300_000, what="bytes that went to b are counted")
    eventually(lambda: member(a, b)["sent_bytes_per_s"] > 0, what="and so is how fast")
    eventually(lambda: member(b, a)["received_bytes_per_s"] > 0, what="b tells the same")
    b.kill()
    eventually(lambda: "peer-down" in alarms(a), what="b's end is told")
    push(a.repository(name), image("unseen", layers=0), "v2")
    eventually(lambda: "writes-degraded" in alarms(a), what="degraded writes are told")
    metrics = a.client().request("GET", "/metrics").expect(200).body.decode()
    assert 'twinhull_alarms{alarm="peer-suspect"} 0' in metrics


def alarms(node: ClusterNode) -> set[str]:
    """Return the names of what a node says is wrong."""
    return {alarm["name"] for alarm in node.status()["alarms"]}


def member(node: ClusterNode, other: ClusterNode) -> dict[str, Any]:
    """Return what a node says of another one."""
    return next(one for one in node.status()["members"] if one["name"] == other.name)


@pytest.fixture
def strict_pair(pair: Cluster) -> Iterator[Cluster]:
    """Two nodes whose cluster wants all bytes to be at both, and refuses to do with less."""
    a, b = pair
    assert "full (the cluster's setting)" in b.cli("durability", "--level", "full", "--on-peer-loss", "refuse")
    yield pair
    a.cli("durability", "--level", "none", "--on-peer-loss", "none")


def test_what_a_cluster_wants_of_its_writes_is_set_on_one_node_and_holds_on_all(strict_pair: Cluster) -> None:
    a, b = strict_pair
    name, content = new_name(), image("what the cluster wants", layers=1)
    assert push(a.repository(name), content, "v1").header(LEVEL) == "full"
    assert a.status()["durability"] == "full"
    b.kill()
    # Whoever asks for less is given it.
    assert put_manifest(a.repository(name), content, "v2", level="metadata; on-peer-loss=degrade").header(LEVEL) == "local"
    put_manifest(a.repository(name), content, "v3").expect(503)
    b.start()
    eventually(lambda: put_manifest(a.repository(name), content, "v3").status == 201, what="b counts again")
