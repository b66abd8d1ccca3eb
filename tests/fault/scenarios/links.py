"""Links that are cut, cut one way, slow, thin, lossy and loose."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fault.scenarios.registry import scenario
from tests.support.pushes import send_slowly
from tests.support.real_node import eventually
from tests.support.site import PEER_PORT, Act

_MEBIBYTE = 1024 * 1024


@scenario("two-and-one")
def two_and_one(act: Act) -> None:
    """One office is cut off from the two others while clients work in all of them."""
    with act.clients():
        act.go_on(1)
        act.part("ab", "c")
        act.go_on(4)
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


@scenario("cut-one-way")
def cut_one_way(act: Act) -> None:
    """What one office sends does not reach another, which is heard itself."""
    with act.clients():
        act.cut_one_way("a", "b")
        act.go_on(8)
    act.heal()


@scenario("cut-one-way-in-a-ring")
def cut_one_way_in_a_ring(act: Act) -> None:
    """Each office hears only one of the others."""
    with act.clients():
        for source, target in ("ab", "bc", "ca"):
            act.cut_one_way(source, target)
        act.go_on(8)
    act.heal()


@scenario("moving-partition")
def moving_partition(act: Act) -> None:
    """Each office in turn is cut off from the others, with no time to recover between."""
    with act.clients():
        for groups in (("ab", "c"), ("ac", "b"), ("bc", "a"), ("ab", "c")):
            act.site.network.heal()
            act.part(*groups)
            act.go_on(3)
    act.heal()


@scenario("flapping-link")
def flapping_link(act: Act) -> None:
    """A link goes away and comes back ten times, faster than anybody's time-outs."""
    with act.clients():
        for _ in range(10):
            act.cut("a", "b")
            act.go_on(act.rng.uniform(0.1, 0.9))
            act.site.network.heal("a", "b")
            act.go_on(act.rng.uniform(0.1, 0.9))
    act.heal()


@scenario("long-line")
def long_line(act: Act) -> None:
    """Everything between two offices takes 150 ms each way, and no client sees anything old."""
    act.delay("a", "b", 0.15)
    with act.clients():
        act.go_on(8)
    act.heal()


@scenario("lossy-line")
def lossy_line(act: Act) -> None:
    """A tenth of all packets between two offices is lost, and no client sees anything old."""
    act.site.network.lose("a", "b", 0.1)
    act.did("lose a tenth of the packets between a and b")
    with act.clients():
        act.go_on(8)
    act.heal()


@scenario("thin-line")
def thin_line(act: Act) -> None:
    """One office has a line of 2 Mbit/s: changes do not wait behind the bytes of a large image."""
    act.site.network.thin("a", "2mbit")
    act.did("let a send 2 Mbit/s at most")
    large = act.office.new_image(layer_bytes=2 * _MEBIBYTE)
    for blob in large.blobs:
        act.node("a").repository(act.office.repository).push_blob(blob.content, blob.digest).expect(201)
    with act.clients():
        assert act.office.push(act.node("a"), "large", large)
        act.go_on(8)
    act.heal()


@scenario("cut-in-push")
def cut_in_push(act: Act) -> None:
    """A link is cut while a blob comes in: the push goes on, and what came before the cut is of use after it."""
    content = act.office.new_image(layer_bytes=8 * _MEBIBYTE)
    config, layer = content.blobs
    node = act.node("a")
    repository = node.repository(act.office.repository)
    repository.push_blob(config.content, config.digest).expect(201)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(layer.content), _MEBIBYTE):
            if start == 4 * _MEBIBYTE:
                act.part("a", "bc")
            yield layer.content[start : start + _MEBIBYTE]

    send_slowly(repository, pieces(), layer.digest).expect(201)
    assert act.office.push(node, "cut", content), "one dead office never stops the other"
    act.heal()
    for other in act.nodes:
        eventually(lambda other=other: other.has_blob(layer.digest), what=f"{other.name} has the layer")  # type: ignore[misc]


@scenario("cut-between-blobs-and-manifest")
def cut_between_blobs_and_manifest(act: Act) -> None:
    """A link is cut after an image's blobs and before its manifest, which is pushed to the node on the other side."""
    content = act.office.new_image()
    for blob in content.blobs:
        act.node("a").repository(act.office.repository).push_blob(blob.content, blob.digest).expect(201)
    act.part("a", "bc")
    assert act.office.push(act.node("b"), "over-there", content)
    act.heal()


@scenario("cut-blob-at-80-percent")
def cut_blob_at_80_percent(act: Act) -> None:
    """A blob on its way to a peer is cut off at 80 %, and only the rest is sent again."""
    size = 32 * _MEBIBYTE
    content = act.office.new_image(layer_bytes=size)
    line = act.delay("b", "a", 0.0)
    act.part("ab", "c")
    line.cut()
    for blob in content.blobs:
        act.node("a").repository(act.office.repository).push_blob(blob.content, blob.digest).expect(201)
    assert act.office.push(act.node("a"), "large", content)
    before = line.passed["back"]
    line.allow("back", size * 8 // 10)
    line.is_open = True
    eventually(lambda: not line.is_open, what="cut at 80 %")
    assert not act.node("b").has_blob(content.blobs[1].digest)
    act.did("cut the line to b after 80 % of the blob")
    line.mend()
    eventually(lambda: act.node("b").has_blob(content.blobs[1].digest), what="b has the blob")
    sent = line.passed["back"] - before
    act.did(f"{sent / size:.0%} of the blob's size was sent in all")
    assert sent < size * 1.15, f"{sent} bytes for a blob of {size}"
    act.heal()


@scenario("cut-stream-at-80-percent")
def cut_stream_at_80_percent(act: Act) -> None:
    """A blob that peers tail while it comes in is cut off at 80 %, ends meanwhile, and only the rest is sent afterwards."""
    size = 32 * _MEBIBYTE
    content = act.office.new_image(layer_bytes=size)
    config, layer = content.blobs
    line = act.delay("b", "a", 0.0)
    act.part("ab", "c")
    repository = act.node("a").repository(act.office.repository)
    repository.push_blob(config.content, config.digest).expect(201)
    before = line.passed["back"]
    line.allow("back", size * 8 // 10)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(layer.content), _MEBIBYTE):
            if start == 30 * _MEBIBYTE:
                eventually(lambda: not line.is_open, what="cut at 80 %")
            yield layer.content[start : start + _MEBIBYTE]

    send_slowly(repository, pieces(), layer.digest).expect(201)
    assert act.office.push(act.node("a"), "large", content)
    act.did("cut the line to b after 80 % of the blob, and end its upload")
    line.mend()
    eventually(lambda: act.node("b").has_blob(layer.digest), what="b has the blob")
    sent = line.passed["back"] - before
    act.did(f"{sent / size:.0%} of the blob's size was sent in all")
    assert sent < size * 1.15, f"{sent} bytes for a blob of {size}"
    act.heal()


@scenario("peer-port-refused")
def peer_port_refused(act: Act) -> None:
    """All connections between two offices are broken at once, as by a firewall that is started anew, five times."""
    with act.clients():
        for _ in range(5):
            act.cut("a", "b")
            act.site.network.heal("a", "b")
            act.site.network.reset("a", "b")
            act.go_on(1)
        act.did(f"reset all connections between a and b (port {PEER_PORT}) five times")
    act.heal()
