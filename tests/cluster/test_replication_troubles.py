"""What becomes of replications when the other side goes away, the node's agent dies, or somebody stops them."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.images import image
from tests.support.line import Line
from tests.support.nodes import Cluster, ClusterNode, running_cluster
from tests.support.plain_registry import PlainRegistry, plain_registry
from tests.support.pushes import check_pull, digest_of_tag, push
from tests.support.replications import Desk, wait_for

ONE: Final = image("one")
TWO: Final = image("two")
LARGE: Final = image("large", layers=1, layer_bytes=4_000_000)
# Not in the cluster yet, else no bytes would have to come.
PULLED: Final = image("pulled", layers=1, layer_bytes=4_000_000)
KILLED: Final = image("killed", layers=1, layer_bytes=4_000_000)
COMING: Final = image("coming", layers=1, layer_bytes=1_500_000)
# So that a large blob takes seconds.
_SLOW: Final = 1_000_000
_names = itertools.count(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes: policies are made on the first, content is pushed to the second."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainRegistry]:
    """A docker-registry."""
    with plain_registry(tmp_path_factory.mktemp("plain")) as registry:
        yield registry


@pytest.fixture
def line(plain: PlainRegistry) -> Iterator[Line]:
    """The way there."""
    made = Line()
    made.target = plain.address
    yield made
    made.close()


@pytest.fixture
def first(cluster: Cluster) -> Desk:
    """The administrator at the first node."""
    return Desk(cluster[0].address)


@pytest.fixture
def second(cluster: Cluster) -> Desk:
    """The administrator at the second node."""
    return Desk(cluster[1].address)


@pytest.fixture
def team(first: Desk) -> str:
    """A project of the test's own."""
    name = f"team{next(_names)}"
    first.make_project(name)
    return name


def policy_of(desk: Desk, line: Line, team: str, **more: object) -> int:
    """Make a policy that pushes a project through the line."""
    registry = desk.add_registry("docker-registry", f"http://{line.address}")
    return desk.add_policy(dest_registry=registry, filters={"name": f"{team}/**"}, **more)


def is_under_way(line: Line) -> bool:
    """Tell whether part of a large blob has passed."""
    return 400_000 < line.passed["out"] < len(LARGE.blobs[-1].content)


def begun(first: Desk, second: Desk, line: Line, team: str) -> tuple[int, int]:
    """Push a large image to the one, begin to replicate it from the other; return policy and execution in mid-blob."""
    push(second.repository(f"{team}/app"), LARGE, "v1")
    policy = policy_of(first, line, team)
    line.rate = _SLOW
    execution = first.start(policy)
    wait_for(lambda: is_under_way(line), "part of the blob")
    return policy, execution


def test_what_happens_while_the_other_side_is_down_is_made_up_for_in_order(
    first: Desk, second: Desk, plain: PlainRegistry, line: Line, team: str
) -> None:
    policy = policy_of(first, line, team, trigger={"type": "event_based"}, deletion=True)
    source, copy = second.repository(f"{team}/app"), plain.repository(f"{team}/app")
    push(source, ONE, "v1")
    wait_for(lambda: digest_of_tag(copy, "v1") == ONE.digest, "the first image")
    wait_for(lambda: first.executions(policy)[0]["status"] == "Succeed", "its end")
    line.cut()
    push(source, TWO, "v2")
    second.ask("DELETE", f"/projects/{team}/repositories/app/artifacts/v1").expect(200)
    wait_for(lambda: len(first.executions(policy)) == 3, "three executions")
    deletion, copying, _ = (one["id"] for one in first.executions(policy))
    wait_for(lambda: "does not answer" in first.told(copying), "a try")
    assert {first.execution(one)["status"] for one in (copying, deletion)} == {"InProgress"}
    assert first.ask("DELETE", f"/replication/policies/{policy}").status == 412
    line.mend()
    wait_for(lambda: all(one["status"] == "Succeed" for one in first.executions(policy)), "the end of all")
    assert digest_of_tag(copy, "v2") == TWO.digest
    assert digest_of_tag(copy, "v1") is None
    # Done by the node at which it happened, and by it alone.
    assert all(one["total"] == 1 for one in first.executions(policy))
    assert first.ask("DELETE", f"/replication/policies/{policy}").status == 200


def test_a_line_that_breaks_in_a_blob_costs_no_more_than_another_try(
    first: Desk, second: Desk, plain: PlainRegistry, line: Line, team: str
) -> None:
    _, execution = begun(first, second, line, team)
    line.drop()
    line.rate = 0
    assert first.ended(execution)["status"] == "Succeed", first.told(execution)
    check_pull(plain.repository(f"{team}/app"), LARGE, "v1")


def test_a_pull_through_a_line_that_breaks_goes_on_with_the_rest(
    first: Desk, second: Desk, plain: PlainRegistry, line: Line, team: str
) -> None:
    push(plain.repository(f"{team}-source/app"), PULLED, "v1")
    registry = first.add_registry("docker-registry", f"http://{line.address}")
    policy = first.add_policy(src_registry=registry, filters={"name": f"{team}-source/app"}, dest_namespace=team)
    line.rate = _SLOW
    execution = first.start(policy)
    wait_for(lambda: 1_000_000 < line.passed["back"] < 3_000_000, "part of the blob")
    line.drop()
    line.rate = 0
    assert first.ended(execution)["status"] == "Succeed", first.told(execution)
    # What came before the line broke came once.
    assert line.passed["back"] < 1.3 * sum(len(blob.content) for blob in PULLED.blobs)
    for desk in (first, second):
        check_pull(desk.repository(f"{team}/app"), PULLED, "v1")


def test_a_blob_that_is_still_on_its_way_from_a_peer_goes_on_to_the_other_side(
    cluster: Cluster, plain: PlainRegistry, line: Line, team: str
) -> None:
    first, second = (Desk(node.address) for node in cluster)
    policy = policy_of(second, line, team)
    cluster[0].line.rate = _SLOW
    try:
        push(first.repository(f"{team}/app"), COMING, "v1")
        assert not cluster[1].has_blob(COMING.blobs[-1].digest)
        second.carried_out(policy)
    finally:
        cluster[0].line.mend()
    check_pull(plain.repository(f"{team}/app"), COMING, "v1")


def test_an_execution_is_stopped_in_the_middle_from_any_node_and_goes_on_with_the_next(
    first: Desk, second: Desk, plain: PlainRegistry, line: Line, team: str
) -> None:
    policy, execution = begun(first, second, line, team)
    second.ask("PUT", f"/replication/executions/{execution}").expect(200)
    ended = first.ended(execution)
    assert (ended["status"], ended["stopped"]) == ("Stopped", 1)
    assert digest_of_tag(plain.repository(f"{team}/app"), "v1") is None
    line.mend()
    first.carried_out(policy)
    check_pull(plain.repository(f"{team}/app"), LARGE, "v1")


def test_a_schedule_begins_it_on_one_node(first: Desk, second: Desk, plain: PlainRegistry, line: Line, team: str) -> None:
    push(second.repository(f"{team}/app"), ONE, "v1")
    trigger = {"type": "scheduled", "trigger_settings": {"cron": "*/2 * * * * *"}}
    policy = policy_of(second, line, team, trigger=trigger)
    wait_for(lambda: any(one["status"] == "Succeed" for one in first.executions(policy)), "a scheduled execution")
    check_pull(plain.repository(f"{team}/app"), ONE, "v1")
    assert {one["trigger"] for one in first.executions(policy)} == {"scheduled"}
    second.change_policy(policy, **{**_shown(second, policy), "enabled": False})
    starts = [one["start_time"][:19] for one in first.executions(policy)]
    assert len(starts) == len(set(starts))


def test_an_agent_that_is_killed_in_the_middle_does_it_again(
    cluster: Cluster, second: Desk, plain: PlainRegistry, line: Line, team: str
) -> None:
    push(second.repository(f"{team}/app"), LARGE, "v1")
    push(plain.repository(f"{team}-source/app"), KILLED, "v1")
    out = policy_of(second, line, team)
    registry = second.add_registry("docker-registry", f"http://{line.address}")
    home = second.add_policy(src_registry=registry, filters={"name": f"{team}-source/app"}, dest_namespace=f"{team}-back")
    line.rate = _SLOW
    executions = [second.start(out), second.start(home)]
    wait_for(lambda: is_under_way(line) and line.passed["back"] > 400_000, "part of both blobs")
    _kill_agent(cluster[1])
    assert second.repository(f"{team}-back/app").head("manifests/v1").status in (401, 404)
    line.mend()
    for execution in executions:
        ended = second.ended(execution)
        assert (ended["status"], ended["succeed"]) == ("Succeed", 1), second.told(execution)
    check_pull(plain.repository(f"{team}/app"), LARGE, "v1")
    cluster.wait_in_sync()
    for node in cluster:
        check_pull(Desk(node.address).repository(f"{team}-back/app"), KILLED, "v1")


def test_a_policy_that_wants_to_be_alone_begins_no_second_execution(first: Desk, second: Desk, line: Line, team: str) -> None:
    push(second.repository(f"{team}/app"), LARGE, "v1")
    policy = policy_of(first, line, team, single_active_replication=True)
    line.rate = _SLOW
    running = first.start(policy)
    wait_for(lambda: is_under_way(line), "part of the blob")
    refused = first.ended(first.start(policy))
    assert refused["status"] == "Failed"
    assert f"execution {running} of this policy is still in progress" in refused["status_text"]
    line.mend()
    assert first.ended(running)["status"] == "Succeed"


def _shown(desk: Desk, policy: int) -> dict[str, object]:
    shown: dict[str, object] = desk.get(f"/replication/policies/{policy}")
    return shown


def _kill_agent(node: ClusterNode) -> None:
    agent = node.agent()
    assert agent is not None
    os.kill(agent, signal.SIGKILL)
