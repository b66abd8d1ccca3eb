"""`twinhull scrub` on a running node: rot comes back from the peer, and a cut blob is fetched through when it is asked for."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.cluster.test_mending import pushed
from tests.support.nodes import Cluster, ClusterNode
from tests.support.pushes import check_pull
from tests.support.single import twinhull


def run_scrub(node: ClusterNode, *arguments: str, code: int = 0) -> Any:  # noqa: ANN401 - whatever JSON is
    """Return what `twinhull scrub --json` prints for the node, after checking its exit code."""
    command = [str(twinhull()), "scrub", *arguments, "--json", "--data-dir", str(node.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == code, done
    return json.loads(done.stdout)


def rot(node: ClusterNode, digest: str) -> bytes:
    """Flip a bit behind the node's back, and return the right bytes."""
    right = node.blob_path(digest).read_bytes()
    node.blob_path(digest).write_bytes(bytes([right[0] ^ 1]) + right[1:])
    return right


def test_rot_is_found_and_mended_from_the_peer(pair: Cluster) -> None:
    _, b = pair
    name, image = pushed(pair)
    digest = image.blobs[1].digest
    right = rot(b, digest)
    done = run_scrub(b, "--pace", "0")
    assert (done["status"], done["left"], done["ended"]) == ("done", 0, True)
    assert {"digest": digest, "what": "rotten", "size_bytes": len(right), "is_mended": True, "is_named": True} in done["found"]
    assert b.blob_path(digest).read_bytes() == right
    assert run_scrub(b, "--show") == done
    assert run_scrub(b, "--stop") == {"number": None}
    check_pull(b.repository(name), image, "v1")


def test_rot_that_nobody_can_mend_is_never_served_until_a_peer_is_back(pair: Cluster) -> None:
    a, b = pair
    name, image = pushed(pair)
    digest = image.blobs[1].digest
    right = rot(b, digest)
    a.pause()
    b.pause()
    done = run_scrub(b, "--pace", "0", code=1)
    assert done["left"] == 1
    assert b.repository(name).get(f"blobs/{digest}").status in (404, 503)
    b.resume()
    a.resume()
    pair.wait_in_sync()
    assert b.repository(name).get(f"blobs/{digest}").expect(200).body == right


def test_cut_blob_is_not_served_but_fetched_from_the_peer(pair: Cluster) -> None:
    _, b = pair
    name, image = pushed(pair)
    digest = image.blobs[1].digest
    right = b.blob_path(digest).read_bytes()
    b.blob_path(digest).write_bytes(right[: len(right) // 2])
    assert b.repository(name).get(f"blobs/{digest}").expect(200).body == right
    assert b.blob_path(digest).read_bytes() == right
