"""Nodes that die at named places in the program, are started again without a repair command, and owe nothing to anybody."""

from __future__ import annotations

import subprocess
from typing import Final

from tests.fault.scenarios.registry import scenario
from tests.support.real_node import RealNode, eventually
from tests.support.single import twinhull
from tests.support.site import SPARE, Act
from twinhull.kit.fail_points import VARIABLE, FailPoint

_LIMIT_S: Final = 40.0
# Enough that a snapshot has more than one page.
_SNAPSHOT_IMAGES: Final = 150


def _dies_at_work(act: Act, point: FailPoint) -> None:
    """Let b meet the place while clients are at work, and lose its power there."""
    node = act.node("b")
    node.stop()
    act.restart("b", {VARIABLE: point})
    before = set(node.pids())
    with act.clients():
        eventually(lambda: before - set(node.pids()), limit_s=_LIMIT_S, what=f"b dies at {point}")
        node.kill()
        act.did(f"b dies at {point}")
        act.go_on(0.5)
        node.environment = {name: value for name, value in node.environment.items() if name != VARIABLE}
        node.start()
        act.go_on(1)
    act.heal()


@scenario("die-blob-verified")
def die_blob_verified(act: Act) -> None:
    """A node dies when a blob's bytes are whole and not yet under their digest."""
    _dies_at_work(act, "blob-verified")


@scenario("die-blob-in-place")
def die_blob_in_place(act: Act) -> None:
    """A node dies when a blob is under its digest and no record names it."""
    _dies_at_work(act, "blob-in-place")


@scenario("die-write-before-commit")
def die_write_before_commit(act: Act) -> None:
    """A node dies just before it commits a write."""
    _dies_at_work(act, "write-before-commit")


@scenario("die-write-committed")
def die_write_committed(act: Act) -> None:
    """A node dies when a write is committed and nobody was told."""
    _dies_at_work(act, "write-committed")


@scenario("die-changes-applied")
def die_changes_applied(act: Act) -> None:
    """A node dies when it has applied a peer's changes and not said so."""
    _dies_at_work(act, "changes-applied")


@scenario("die-blob-fetched")
def die_blob_fetched(act: Act) -> None:
    """A node dies when it has all bytes of a peer's blob and has not looked at them yet."""
    act.part("ac", "b")
    large = act.office.new_image(layer_bytes=2_000_000)
    for blob in large.blobs:
        act.node("a").repository(act.office.repository).push_blob(blob.content, blob.digest).expect(201)
    assert act.office.push(act.node("a"), "large", large)
    act.node("b").stop()
    act.restart("b", {VARIABLE: "blob-fetched"})
    before = set(act.node("b").pids())
    act.site.network.heal()
    eventually(lambda: before - set(act.node("b").pids()), limit_s=_LIMIT_S, what="b dies at blob-fetched")
    act.kill("b")
    act.did("b dies at blob-fetched")
    act.clean_up()
    act.heal()


def _dies_in_join(act: Act, point: FailPoint) -> None:
    for number in range(_SNAPSHOT_IMAGES):
        act.office.push(act.nodes[number % 2], f"v{number}")
    node: RealNode = act.site.add(SPARE, {VARIABLE: point})
    node.start(act.node("a").invite(), wait=False)
    act.did(f"{SPARE} joins, and dies at {point} each time")
    node.becomes_ready(6)
    node.kill()
    node.environment = {name: value for name, value in node.environment.items() if name != VARIABLE}
    is_member = (node.data_dir / "node" / "identity.json").exists()
    if not is_member:
        # The members have let it in, and it does not know: to them the name is taken.
        act.node("b").cli("remove", SPARE)
    with act.clients():
        node.start("" if is_member else act.node("b").invite(), wait=False)
        assert node.becomes_ready(_LIMIT_S), "the newcomer did not become ready"
    # All blobs of the cluster are to be fetched.
    act.heal(_LIMIT_S)


@scenario("die-join-answered", spoils=True)
def die_join_answered(act: Act) -> None:
    """A newcomer dies when it has its certificate and is nobody yet."""
    _dies_in_join(act, "join-answered")


@scenario("die-snapshot-page-applied", spoils=True)
def die_snapshot_page_applied(act: Act) -> None:
    """A newcomer dies after each page of the snapshot."""
    _dies_in_join(act, "snapshot-page-applied")


def _dies_in_collection(act: Act, point: FailPoint) -> None:
    images = {f"v{number}": act.office.push(act.node("a"), f"v{number}") for number in range(30)}
    for tag, content in list(images.items())[:20]:
        assert content is not None
        act.office.erase(act.node("a"), tag, content.digest)
    act.node("b").stop()
    act.restart("b", {VARIABLE: point})
    before = set(act.node("b").pids())
    command = [str(twinhull()), "gc", "--grace", "0s", "--data-dir", str(act.node("b").data_dir)]

    def died() -> bool:
        # The first one begins the grace of what nothing names, the next finds that it is over.
        subprocess.run(command, capture_output=True, check=False, timeout=_LIMIT_S)
        return bool(before - set(act.node("b").pids()))

    eventually(died, limit_s=_LIMIT_S, what=f"b dies at {point}")
    act.kill("b")
    act.did(f"b dies at {point}, in the middle of a collection")
    act.clean_up()
    done = subprocess.run(command, capture_output=True, check=False, timeout=_LIMIT_S)
    assert done.returncode == 0, done.stderr.decode()
    act.heal()


@scenario("die-garbage-discarded")
def die_garbage_discarded(act: Act) -> None:
    """A node dies when a collection has moved bytes to the trash and not committed that nobody needs them."""
    _dies_in_collection(act, "garbage-discarded")


@scenario("die-garbage-forgotten")
def die_garbage_forgotten(act: Act) -> None:
    """A node dies when a collection has committed that nobody needs the bytes, which are still in the trash."""
    _dies_in_collection(act, "garbage-forgotten")
