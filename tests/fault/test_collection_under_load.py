"""Ten thousand garbage blobs go while clients push, mount and reuse blobs that are garbage this moment; no live one goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.collections import age_candidates, opened_store, plant_blobs, plant_links, run_gc
from tests.support.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Blob, Content, encode, image
from tests.support.nodes import Cluster, ClusterNode, eventually, new_name, running_cluster
from tests.support.pushes import check_pull, push
from twinhull.kit.clock import SystemClock
from twinhull.kit.digest import Digest

GARBAGE: Final = 10_000
LIMIT_S: Final = 30.0
DAY_S: Final = 86_400.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes of the test's own."""
    with running_cluster(tmp_path, ("a", "b")) as running:
        yield running


def garbage_of(number: int) -> bytes:
    """Return the content of one garbage blob."""
    return f"garbage number {number}".encode() * 20


class Pusher(threading.Thread):
    """Pushes to one node until it is told to stop: new images, and images of blobs that are garbage until they are named."""

    def __init__(self, node: ClusterNode, name: str, garbage: list[bytes]) -> None:
        """Take where to, and which blobs to make use of again."""
        super().__init__(name=f"pusher to {node.name}")
        self._node = node
        self._repository = node.repository(name)
        self._garbage = garbage
        self._ended = threading.Event()
        self.pushed: dict[str, Content] = {}
        self.reused = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        """Push."""
        number = 0
        try:
            while not self._ended.is_set():
                number += 1
                self._push_new(f"{self._node.name}-new-{number}")
                if self._garbage:
                    self._push_of_garbage(f"{self._node.name}-reused-{number}", self._garbage.pop())
        except Exception as error:  # noqa: BLE001 - for the test's own thread to raise
            self.failure = error

    def stop(self) -> None:
        """Push no more, and raise what went wrong."""
        self._ended.set()
        self.join()
        if self.failure is not None:
            raise self.failure

    def _push_new(self, tag: str) -> None:
        content = image(f"{self.name} {tag}", layers=1, layer_bytes=2_000)
        push(self._repository, content, tag)
        self.pushed[tag] = content

    def _push_of_garbage(self, tag: str, content: bytes) -> None:
        """Do what docker does: ask for the blob, send it if it is not there, and push a manifest that names it."""
        layer, config = Blob(media_type=OCI_LAYER, content=content), Blob(media_type=OCI_CONFIG, content=b"{}")
        for blob in (config, layer):
            if self._repository.head(f"blobs/{blob.digest}").expect(200, 404).status == 404:
                self._repository.push_blob(blob.content, blob.digest).expect(201)
            else:
                self.reused += blob is layer
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        }
        manifest = Blob(media_type=OCI_MANIFEST, content=encode(document))
        self._repository.put_manifest(tag, manifest.content, OCI_MANIFEST).expect(201)
        self.pushed[tag] = Content(manifest=manifest, blobs=(config, layer))


def plant(cluster: Cluster, name: str) -> list[Digest]:
    """Let both nodes have garbage, a day old: bytes and links, without a push for each."""
    a, b = cluster
    contents = [garbage_of(number) for number in range(GARBAGE)]
    digests = plant_blobs([a.data_dir, b.data_dir], contents, age_s=DAY_S)
    with opened_store(a.data_dir) as store, opened_store(b.data_dir) as other:
        plant_links(store, name, digests, size=len(contents[0]), age_s=DAY_S)
        eventually(lambda: other.vector() == store.vector(), what="b has the links")
        age_candidates(store, age_s=DAY_S)
        age_candidates(other, age_s=DAY_S)
    return digests


@pytest.mark.timeout(300)
def test_ten_thousand_garbage_blobs_go_in_half_a_minute_while_pushes_go_on(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = cluster
    name, held = new_name(), {f"held-{number}": image(f"held {number}", layers=2) for number in range(10)}
    for tag, before in held.items():
        push(a.repository(name), before, tag)
    digests = plant(cluster, name)
    # Two clients make use of blobs from the end of the list, where the collector comes last.
    last = sorted(range(GARBAGE), key=lambda number: digests[number])[-2_000:]
    pushers = [Pusher(node, name, [garbage_of(number) for number in last[offset::2]]) for offset, node in enumerate((a, b))]
    for pusher in pushers:
        pusher.start()
    clock = SystemClock()

    began_s = clock.monotonic_s()
    outcome = run_gc(a.data_dir, "--grace", "1h")["outcome"]
    took_s = clock.monotonic_s() - began_s

    for pusher in pushers:
        pusher.stop()
    pushed = {tag: content for pusher in pushers for tag, content in pusher.pushed.items()}
    with capsys.disabled():
        print(  # noqa: T201 - the figures are what one runs it for
            f"\n{outcome['blobs']} blobs collected in {took_s:.1f} s, {len(pushed)} images pushed meanwhile,"
            f" {sum(pusher.reused for pusher in pushers)} of blobs that were garbage, {outcome['kept']} kept"
        )
    assert took_s < LIMIT_S
    assert outcome["note"] == ""
    assert outcome["blobs"] + outcome["kept"] + len(pushed) > GARBAGE * 0.99
    assert all(len(pusher.pushed) > 10 for pusher in pushers)
    for node in (a, b):
        for tag, named in {**pushed, **held}.items():
            check_pull(node.repository(name), named, tag)
    cluster.wait_in_sync()
    eventually(lambda: a.ask("POST", "/verify")["equal"], what="equal")
    in_use = {blob.digest for content in pushed.values() for blob in content.blobs}
    left = [digest for digest in digests if a.has_blob(digest) and digest not in in_use]
    assert len(left) <= outcome["kept"]
