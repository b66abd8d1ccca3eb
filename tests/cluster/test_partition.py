"""Nodes that cannot hear each other go on, and agree by themselves when they can again."""

from __future__ import annotations

from tests.support.images import Image, image
from tests.support.nodes import Cluster, eventually, new_name
from tests.support.pushes import LEVEL, check_pull, digest_of_tag, push
from tests.support.registry_client import Repository


def part(pair: Cluster) -> None:
    """Break both lines, and wait until both nodes have seen that."""
    a, b = pair
    a.line.cut()
    b.line.cut()
    eventually(lambda: a.state_of(b) == b.state_of(a) == "down", what="parted")


def soon_pulled(repository: Repository, content: Image) -> None:
    """Pull at once, or as soon as the node can have noticed that it is not alone any more."""

    def pulled() -> bool:
        check_pull(repository, content, "v1")
        return True

    eventually(pulled, limit_s=3, what="pulled")


def test_both_sides_of_a_partition_take_pushes_and_agree_afterwards(pair: Cluster) -> None:
    a, b = pair
    shared = new_name()
    push(a.repository(shared), image("before"), "v1")
    part(pair)
    pushed = []
    for number, node in enumerate((a, b, a, b)):
        name, content = new_name(), image(f"apart {number}")
        assert push(node.repository(name), content, "v1").header(LEVEL) == "local"
        pushed.append((name, content))
    first, second = image("this side"), image("other side")
    push(a.repository(shared), first, "v1")
    push(b.repository(shared), second, "v1")
    assert digest_of_tag(a.repository(shared), "v1") == first.digest
    assert digest_of_tag(b.repository(shared), "v1") == second.digest
    a.line.mend()
    b.line.mend()
    for name, content in pushed:
        for node in pair:
            # Who does not know asks before it says no, also one that it took for gone a moment ago.
            soon_pulled(node.repository(name), content)
    eventually(
        lambda: [digest_of_tag(node.repository(shared), "v1") for node in pair] == [second.digest] * 2, what="the later write"
    )
    for node in pair:
        check_pull(node.repository(shared), first, first.digest)
    pair.wait_in_sync()
    assert "in sync" in a.cli("wait", "--timeout", "30")
    for node in pair:
        assert "equal" in node.cli("verify").splitlines()[-1]
        assert node.status()["conflicts"] >= 1


def test_one_way_partition_stops_nobody(pair: Cluster) -> None:
    a, b = pair
    # b hears nothing of a, a hears b.
    a.line.cut()
    eventually(lambda: b.state_of(a) == "one-way" and a.state_of(b) == "behind", what="noticed")
    name, content, other = new_name(), image("one way"), image("other way")
    push(a.repository(name), content, "v1")
    assert push(b.repository(name), other, "v2").header(LEVEL) == "metadata"
    check_pull(a.repository(name), other, "v2")
    a.line.mend()
    soon_pulled(b.repository(name), content)


def test_wait_after_a_partition_waits_until_the_peer_has_everything(pair: Cluster) -> None:
    a, b = pair
    part(pair)
    contents = [(new_name(), image(f"to wait for {number}", layers=1, layer_bytes=400_000)) for number in range(8)]
    for name, content in contents:
        push(a.repository(name), content, "v1")
    a.line.mend()
    b.line.mend()
    a.cli("wait", "--timeout", "60")
    for _, content in contents:
        for blob in content.blobs:
            assert b.has_blob(blob.digest)


def test_paused_nodes_exchange_nothing_until_they_resume(pair: Cluster) -> None:
    a, b = pair
    assert "paused: b" in a.cli("pause")
    name, content = new_name(), image("paused")
    assert push(a.repository(name), content, "v1").header(LEVEL) == "local"
    assert b.repository(name).get("manifests/v1").status == 404
    other_name, other = new_name(), image("paused too")
    assert push(b.repository(other_name), other, "v1").header(LEVEL) == "local"
    assert a.repository(other_name).get("manifests/v1").status == 404
    assert a.state_of(b) == "paused"
    assert "resumed: b" in a.cli("resume", "b")
    check_pull(b.repository(name), content, "v1")
    check_pull(a.repository(other_name), other, "v1")
    pair.wait_in_sync()


def test_pause_and_resume_one_after_the_other_many_times_leave_the_nodes_talking(pair: Cluster) -> None:
    a, b = pair
    for number in range(6):
        a.pause(b if number % 2 else None)
        b.pause()
        a.resume(b if number % 3 else None)
        b.resume(a)
    pair.wait_in_sync()
    name, content = new_name(), image("still talking")
    assert push(a.repository(name), content, "v1").header(LEVEL) == "metadata"
    check_pull(b.repository(name), content, "v1")
