"""Garbage is collected while two nodes serve, and nothing that either of them names goes with it."""

from __future__ import annotations

import json

from tests.support.collections import run_gc
from tests.support.images import OCI_EMPTY, OCI_LAYER, OCI_MANIFEST, encode, image, random_bytes, sha256
from tests.support.nodes import Cluster, ClusterNode, eventually, new_name
from tests.support.pushes import check_pull, digest_of_tag, push, put_manifest


def orphan(node: ClusterNode, name: str, seed: str) -> str:
    """Push a blob and no manifest, and return its digest."""
    content = random_bytes(seed, 5_000)
    node.repository(name).push_blob(content, sha256(content)).expect(201)
    return sha256(content)


def has_arrived(node: ClusterNode, digest: str) -> None:
    """Return once the blob's bytes are on the node's disk."""
    eventually(lambda: node.has_blob(digest), what=f"{digest} on {node.name}")


def test_blob_without_a_manifest_goes_from_both_nodes_and_images_stay(pair: Cluster) -> None:
    a, b = pair
    name, held = new_name(), image("held", layers=2)
    push(a.repository(name), held, "v1")
    digest = orphan(a, name, "orphan of two nodes")
    has_arrived(b, digest)

    told = run_gc(a.data_dir, "--dry-run", "--grace", "0s")
    assert told["outcome"]["blobs"] >= 1
    assert a.has_blob(digest)
    done = run_gc(a.data_dir, "--grace", "0s")

    assert done["outcome"]["blobs"] == told["outcome"]["blobs"]
    assert done["outcome"]["freed_bytes"] == told["outcome"]["freed_bytes"]
    assert not a.has_blob(digest)
    # The link is gone everywhere; each node removes its own bytes.
    b.repository(name).head(f"blobs/{digest}").expect(404)
    eventually(lambda: run_gc(b.data_dir, "--grace", "0s")["outcome"]["blobs"] > 0 or not b.has_blob(digest))
    assert not b.has_blob(digest)
    for node in (a, b):
        check_pull(node.repository(name), held, "v1")
    assert a.ask("POST", "/verify")["equal"]


def test_collection_that_one_node_does_is_seen_and_stopped_on_the_other(pair: Cluster) -> None:
    a, b = pair
    body = {"schedule": {"type": "Manual"}, "parameters": {"dry_run": True, "delete_untagged": False}}
    path = a.manage("POST", "/system/gc/schedule", body).expect(201).header("Location")
    assert path is not None
    # At once, on whichever node the entrance would ask.
    shown = json.loads(b.manage("GET", path).expect(200).body)
    assert path.endswith(f"/{shown['id']}")
    eventually(lambda: json.loads(b.manage("GET", path).body)["job_status"] == "Success", what="done, and known here")
    assert b"would remove" in b.manage("GET", f"{path}/log").expect(200).body
    assert shown["id"] in {one["id"] for one in json.loads(b.manage("GET", "/system/gc?page_size=100").expect(200).body)}
    b.manage("PUT", path).expect(200)
    other = b.manage("POST", "/system/gc/schedule", body).expect(201).header("Location")
    assert other != path


def test_young_blob_stays(pair: Cluster) -> None:
    a, _ = pair
    name = new_name()
    digest = orphan(a, name, "young")
    outcome = run_gc(a.data_dir)["outcome"]
    assert (outcome["blobs"], outcome["links"]) == (0, 0)
    a.repository(name).head(f"blobs/{digest}").expect(200)


def test_bytes_stay_while_a_peer_is_away_which_may_name_them(pair: Cluster) -> None:
    a, b = pair
    name, late = new_name(), image("late", layers=1)
    for blob in late.blobs:
        a.repository(name).push_blob(blob.content, blob.digest).expect(201)
        has_arrived(b, blob.digest)
    a.pause()
    b.pause()
    # The other side takes the manifest that names them, and this one does not hear of it.
    put_manifest(b.repository(name), late, "v1").expect(201)

    done = run_gc(a.data_dir, "--grace", "0s")

    assert done["outcome"]["links"] >= 2
    assert done["outcome"]["blobs"] == 0
    assert "node b cannot be asked what it needs" in done["outcome"]["note"]
    assert all(a.has_blob(blob.digest) for blob in late.blobs)
    a.resume()
    b.resume()
    pair.wait_in_sync()
    assert run_gc(a.data_dir, "--grace", "0s")["outcome"]["note"] == ""
    for node in (a, b):
        check_pull(node.repository(name), late, "v1")
        assert all(node.has_blob(blob.digest) for blob in late.blobs)


def test_member_that_only_another_one_reaches_is_asked_through_it(trio: Cluster) -> None:
    a, b, c = trio
    name, late = new_name(), image("named beyond the cut", layers=1)
    digest = orphan(a, name, "orphan of a chain")
    for blob in late.blobs:
        a.repository(name).push_blob(blob.content, blob.digest).expect(201)
        has_arrived(c, blob.digest)
    trio.part(a, c)
    eventually(lambda: a.state_of(c) == "down" and c.state_of(a) == "down", what="a and c do not reach each other")
    put_manifest(c.repository(name), late, "v1").expect(201)
    eventually(lambda: digest_of_tag(a.repository(name), "v1") == late.digest, what="a has heard of it by way of b")

    outcome = run_gc(a.data_dir, "--grace", "0s")["outcome"]

    assert outcome["note"] == ""
    assert not a.has_blob(digest)
    assert all(a.has_blob(blob.digest) for blob in late.blobs)
    b.kill()
    orphan(a, name, "one more orphan")
    assert "cannot be asked" in run_gc(a.data_dir, "--grace", "0s")["outcome"]["note"]


def test_deleted_image_gives_its_space_back_and_what_it_shares_stays(pair: Cluster) -> None:
    a, b = pair
    name, other = new_name(), new_name()
    gone, kept = image("gone", layers=2), image("kept", layers=1)
    push(a.repository(name), gone, "v1")
    push(a.repository(name), kept, "v2")
    # Mounted elsewhere, so it is needed after the image is gone.
    shared = gone.blobs[1].digest
    mount = [("mount", shared), ("from", name)]
    b.client().request("POST", f"/v2/{other}/blobs/uploads/", query=mount).expect(201)
    for blob in gone.blobs:
        has_arrived(b, blob.digest)
    a.repository(name).delete(f"manifests/{gone.digest}").expect(202)
    artifact = image("with the shared layer", layers=0)
    run_gc(a.data_dir, "--grace", "1h")
    assert a.has_blob(shared)
    put_manifest_naming(b, other, shared, artifact.digest)

    run_gc(a.data_dir, "--grace", "0s")

    assert not a.has_blob(gone.blobs[2].digest)
    assert a.has_blob(shared)
    a.repository(other).get(f"blobs/{shared}").expect(200)
    check_pull(b.repository(name), kept, "v2")


def put_manifest_naming(node: ClusterNode, name: str, digest: str, seed: str) -> None:
    """Push a manifest whose only layer is the blob."""
    empty = b"{}"
    node.repository(name).push_blob(empty, sha256(empty)).expect(201)
    size = len(node.repository(name).get(f"blobs/{digest}").expect(200).body)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_EMPTY, "digest": sha256(empty), "size": len(empty)},
        "layers": [{"mediaType": OCI_LAYER, "digest": digest, "size": size}],
        "annotations": {"seed": seed},
    }
    node.repository(name).put_manifest("v1", encode(document), OCI_MANIFEST).expect(201)


def test_untagged_manifests_go_when_asked_for(pair: Cluster) -> None:
    a, b = pair
    name, first, second = new_name(), image("first", layers=1), image("second", layers=1)
    push(a.repository(name), first, "latest")
    push(a.repository(name), second, "latest")
    run_gc(a.data_dir, "--grace", "0s")
    b.repository(name).head(f"manifests/{first.digest}").expect(200)

    outcome = run_gc(a.data_dir, "--grace", "0s", "--delete-untagged")["outcome"]

    assert outcome["manifests"] >= 1
    b.repository(name).head(f"manifests/{first.digest}").expect(404)
    assert not a.has_blob(first.blobs[1].digest)
    check_pull(b.repository(name), second, "latest")


def test_collection_is_stopped_and_shown(pair: Cluster) -> None:
    a, _ = pair
    assert run_gc(a.data_dir, "--stop") == {"id": None}
    number = run_gc(a.data_dir, "--dry-run")["id"]
    latest = run_gc(a.data_dir, "--history")[0]
    assert (latest["id"], latest["status"], latest["order"]["dry_run"]) == (number, "done", True)
