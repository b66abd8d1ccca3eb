"""Blobs on their way between nodes: early, shared, resumed, from whoever has them, and never wrong."""

from __future__ import annotations

import concurrent.futures
import http.client
import random
from collections.abc import Iterator

import pytest

from tests.support.images import Blob, Content, encode, image, sha256
from tests.support.line import Line
from tests.support.nodes import Cluster, ClusterNode, eventually, new_name
from tests.support.pushes import LEVEL, check_pull, push, put_manifest, reading, send_slowly

MB = 1_000_000
OCI_IMAGE = "application/vnd.oci.image.manifest.v1+json"


def big_image(seed: str, size: int) -> Content:
    """Return an image of one incompressible layer."""
    layer = Blob(media_type="application/octet-stream", content=random.Random(seed).randbytes(size))
    config = image(seed).config
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
    }
    return Content(manifest=Blob(media_type=OCI_IMAGE, content=encode(document)), blobs=(config, layer))


def push_while_paused(nodes: list[ClusterNode], reader: ClusterNode, content: Content) -> str:
    """Push to each of the nodes while the reader hears nothing, so that it has neither record nor bytes."""
    name = new_name()
    reader.pause()
    for node in nodes:
        push(node.repository(name), content, "v1")
    for node in nodes:
        node.line.wait_quiet()
    return name


def test_peer_has_an_upload_almost_whole_before_its_last_byte_arrives(pair: Cluster) -> None:
    a, b = pair
    content = random.Random("early").randbytes(24 * MB)
    before = a.line.passed["back"]

    def pieces() -> Iterator[bytes]:
        for start in range(0, 23 * MB, MB):
            yield content[start : start + MB]
        # Only now, with all but the last few batches with the peer, the client goes on.
        eventually(lambda: a.line.passed["back"] - before > 20 * MB, what="the peer follows")
        yield content[23 * MB :]

    digest = sha256(content)
    name = new_name()
    send_slowly(a.repository(name), pieces(), digest).expect(201)
    eventually(lambda: b.has_blob(digest), what="the peer has it")
    assert a.line.passed["back"] - before < 25 * MB, "no byte came twice"
    assert b.repository(name).get(f"blobs/{digest}").expect(200).body == content


def test_upload_that_is_given_up_leaves_nothing_with_the_peer(pair: Cluster) -> None:
    a, b = pair
    repository = a.repository(new_name())
    upload = repository.start_upload()
    before = a.line.passed["back"]
    repository.patch(upload, random.Random("given up").randbytes(6 * MB)).expect(202)
    eventually(lambda: a.line.passed["back"] - before > 3 * MB, what="the peer follows")
    assert list((b.data_dir / "uploads").glob("follow-*"))
    repository.client.request("DELETE", upload).expect(204)
    eventually(lambda: not list((b.data_dir / "uploads").glob("follow-*")), what="nothing left")
    assert b.status()["node"]["lag_bytes"] == 0


def test_blob_that_is_only_with_a_peer_is_passed_through_while_it_comes(pair: Cluster) -> None:
    a, b = pair
    content = big_image("through", 6 * MB)
    layer = content.blobs[1]
    name = push_while_paused([a], b, content)
    a.line.rate = 2 * MB
    b.resume()
    b.repository(name).get("manifests/v1").expect(200)
    with reading(b.client(), f"/v2/{name}/blobs/{layer.digest}") as answer:
        assert answer.status == 200
        assert answer.read(100_000) == layer.content[:100_000]
        assert not b.has_blob(layer.digest), "the first bytes are out before the last have come"
        assert answer.read() == layer.content[100_000:]
    eventually(lambda: b.has_blob(layer.digest), what="it is kept")


def test_part_of_a_blob_that_has_not_arrived_is_served(pair: Cluster) -> None:
    a, b = pair
    content = big_image("part", 6 * MB)
    layer = content.blobs[1]
    name = push_while_paused([a], b, content)
    a.line.rate = 2 * MB
    b.resume()
    repository = b.repository(name)
    first = repository.get(f"blobs/{layer.digest}", headers={"Range": "bytes=0-999"}).expect(206)
    assert first.body == layer.content[:1000]
    assert not b.has_blob(layer.digest)
    last = repository.get(f"blobs/{layer.digest}", headers={"Range": f"bytes={6 * MB - 10}-"}).expect(206)
    assert last.body == layer.content[-10:]
    assert last.header("Content-Range") == f"bytes {6 * MB - 10}-{6 * MB - 1}/{6 * MB}"


def test_many_readers_of_a_blob_that_is_coming_share_one_transfer(pair: Cluster) -> None:
    a, b = pair
    content = big_image("shared", 8 * MB)
    layer = content.blobs[1]
    name = push_while_paused([a], b, content)
    a.line.rate = 8 * MB
    before = a.line.passed["back"]
    b.resume()
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: b.repository(name).get(f"blobs/{layer.digest}"), range(6)))
    for answer in answers:
        assert answer.expect(200).body == layer.content
    assert a.line.passed["back"] - before < 9 * MB


def passed(*lines: Line) -> int:
    """Return how many bytes came back over the lines."""
    return sum(line.passed["back"] for line in lines)


def test_transfer_that_is_cut_off_goes_on_where_it_was(pair: Cluster) -> None:
    a, b = pair
    content = big_image("cut", 20 * MB)
    layer = content.blobs[1]
    name = push_while_paused([a], b, content)
    before = passed(a.line)
    a.line.allow("back", 16 * MB)
    b.resume()
    eventually(lambda: not a.line.is_open, what="cut in the middle")
    assert not b.has_blob(layer.digest)
    a.line.mend()
    eventually(lambda: b.has_blob(layer.digest), what="the rest")
    assert passed(a.line) - before < 21.5 * MB, "what had come was not sent again"
    check_pull(b.repository(name), content, "v1")


def test_transfer_whose_source_dies_goes_on_from_another_peer(trio: Cluster) -> None:
    a, b, c = trio
    content = big_image("other", 20 * MB)
    layer = content.blobs[1]
    name = push_while_paused([a, b], c, content)
    before = passed(a.line, b.line)
    for node in (a, b):
        node.line.allow("back", 8 * MB)
        node.line.rate = 8 * MB
    c.resume()
    eventually(lambda: not a.line.is_open or not b.line.is_open, what="the first source is gone")
    survivor = b if not a.line.is_open else a
    survivor.line.allow("back", None)
    eventually(lambda: c.has_blob(layer.digest), what="the rest, from the other")
    assert passed(a.line, b.line) - before < 22 * MB
    check_pull(c.repository(name), content, "v1")


def test_wrong_bytes_of_a_peer_never_become_visible(pair: Cluster) -> None:
    a, b = pair
    content = big_image("rotten", 3 * MB)
    layer = content.blobs[1]
    name = push_while_paused([a], b, content)
    path = a.blob_path(layer.digest)
    path.chmod(0o600)
    path.write_bytes(bytes([layer.content[0] ^ 1]) + layer.content[1:])
    b.resume()
    b.repository(name).get("manifests/v1").expect(200)
    for _ in range(3):
        with reading(b.client(), f"/v2/{name}/blobs/{layer.digest}") as answer:
            if answer.status == 200:
                with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                    answer.read()
            else:
                # 500 where the first piece failed when the answer had been begun already.
                assert answer.status in (500, 503)
        assert not b.has_blob(layer.digest)
    path.write_bytes(layer.content)
    eventually(
        lambda: b.repository(name).get(f"blobs/{layer.digest}").body == layer.content, what="the right bytes, once a has them"
    )


def test_blob_that_no_reachable_node_has_is_unavailable_rather_than_unknown(pair: Cluster) -> None:
    a, b = pair
    content = big_image("away", 2 * MB)
    layer = content.blobs[1]
    name = push_while_paused([a], b, content)
    hidden = a.blob_path(layer.digest).rename(a.directory / "hidden")
    b.resume()
    b.repository(name).get("manifests/v1").expect(200)
    b.repository(name).get(f"blobs/{layer.digest}").expect(503)
    a.blob_path(layer.digest).parent.mkdir(exist_ok=True)
    hidden.rename(a.blob_path(layer.digest))
    eventually(lambda: b.repository(name).get(f"blobs/{layer.digest}").status == 200, what="served again")


def test_image_at_level_full_is_on_the_peers_disk_when_the_push_is_answered(pair: Cluster) -> None:
    a, b = pair
    for number, size in enumerate((20_000, 700_000, 5 * MB)):
        content = big_image(f"full {number}", size)
        answer = push(a.repository(new_name()), content, "v1", level="full")
        assert answer.header(LEVEL) == "full"
        for blob in content.blobs:
            assert b.has_blob(blob.digest)


def test_image_at_level_full_is_no_more_than_metadata_when_its_bytes_cannot_come(pair: Cluster) -> None:
    a, b = pair
    name, content = new_name(), big_image("not full", 3 * MB)
    push(a.repository(name), content, "v1", level="full")
    b.kill()
    assert put_manifest(a.repository(name), content, "v2", level="full").expect(201).header(LEVEL) == "local"


def test_image_at_level_local_waits_for_nobody_and_is_found_elsewhere_all_the_same(pair: Cluster) -> None:
    a, b = pair
    for number in range(5):
        name, content = new_name(), image(f"local {number}", layers=1)
        assert push(a.repository(name), content, "v1", level="local").header(LEVEL) == "local"
        check_pull(b.repository(name), content, "v1")
    put_manifest(a.repository(name), content, "v2", level="best").expect(400)


def test_many_uploads_at_once_keep_nothing_else_waiting(pair: Cluster) -> None:
    a, b = pair
    name, small = new_name(), image("among many", layers=1)
    going_on = [True]

    def endless(seed: int) -> bytes:
        content = random.Random(seed).randbytes(3 * MB)

        def pieces() -> Iterator[bytes]:
            yield content[: -MB // 10]
            eventually(lambda: not going_on[0], limit_s=60)
            yield content[-MB // 10 :]

        send_slowly(a.repository(name), pieces(), sha256(content)).expect(201)
        return content

    with concurrent.futures.ThreadPoolExecutor(30) as threads:
        uploads = [threads.submit(endless, seed) for seed in range(30)]
        try:
            eventually(lambda: len(list((b.data_dir / "uploads").glob("follow-*"))) >= 16, what="b follows many")
            for _ in range(3):
                assert push(a.repository(name), small, "v1").header(LEVEL) == "metadata"
                check_pull(b.repository(name), small, "v1")
        finally:
            going_on[0] = False
        for upload in uploads:
            digest = sha256(upload.result(60))
            eventually(lambda digest=digest: b.has_blob(digest), what="all arrive")  # type: ignore[misc]
