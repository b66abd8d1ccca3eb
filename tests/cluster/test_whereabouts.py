"""`GET /api/twinhull/v1/replication?digest=…`: on which nodes an image is, for pipelines that must know."""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any

from tests.support.images import image
from tests.support.nodes import Cluster, ClusterNode, eventually, new_name
from tests.support.pushes import push
from tests.support.single import ADMIN_PASSWORD


def asked(node: ClusterNode, digest: str, *, repository: str = "", user: str = "admin") -> tuple[int, Any]:
    """Return status and document of the answer."""
    connection = http.client.HTTPConnection(node.address, timeout=30)
    login = base64.b64encode(f"{user}:{ADMIN_PASSWORD}".encode()).decode()
    query = f"digest={digest}" + (f"&repository={repository}" if repository else "")
    try:
        headers = {"Authorization": f"Basic {login}"} if user else {}
        connection.request("GET", f"/api/twinhull/v1/replication?{query}", headers=headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def on_nodes(node: ClusterNode, digest: str) -> dict[str, tuple[bool | None, bool | None]]:
    """Return per node whether records and bytes are there."""
    status, document = asked(node, digest)
    assert status == 200, document
    return {one["name"]: (one["metadata"], one["bytes"]) for one in document["nodes"]}


def test_image_is_everywhere_once_every_node_has_records_and_bytes(pair: Cluster) -> None:
    a, b = pair
    name, content = new_name(), image("wanted everywhere", layers=2)
    push(a.repository(name), content, "v1")
    for node in pair:
        eventually(lambda node=node: asked(node, content.digest)[1]["everywhere"], what="everywhere")  # type: ignore[misc]
        assert on_nodes(node, content.digest) == {"a": (True, True), "b": (True, True)}
    layer = content.blobs[0].digest
    assert asked(a, layer)[1]["everywhere"]
    # What was lost on one node's disk shows at once, with how much it is.
    b.blob_path(layer).rename(b.directory / "lost")
    for node in pair:
        assert on_nodes(node, content.digest) == {"a": (True, True), "b": (True, False)}
        _, document = asked(node, content.digest, repository=name)
        lacking = next(one for one in document["nodes"] if one["name"] == "b")
        assert lacking["missing_blobs"] == 1
        assert lacking["missing_bytes"] == len(content.blobs[0].content)
        assert not document["everywhere"]
    (b.directory / "lost").rename(b.blob_path(layer))
    assert asked(a, content.digest)[1]["everywhere"]


def test_node_that_cannot_be_asked_is_said_to_be_unknown(pair: Cluster) -> None:
    a, b = pair
    a.pause()
    b.pause()
    name, content = new_name(), image("here alone")
    push(a.repository(name), content, "v1")
    _, document = asked(a, content.digest)
    assert not document["everywhere"]
    other = next(one for one in document["nodes"] if one["name"] == "b")
    assert (other["metadata"], other["bytes"]) == (None, None)
    assert other["error"]
    assert asked(b, content.digest)[0] == 404
    a.resume()
    b.resume()
    eventually(lambda: asked(b, content.digest)[1].get("everywhere"), what="everywhere")


def test_who_may_not_pull_it_does_not_learn_where_it_is(pair: Cluster) -> None:
    a, _ = pair
    name, content = new_name(), image("for everybody to pull")
    push(a.repository(name), content, "v1")
    assert asked(a, content.digest, user="")[0] == 200, "library is public"
    assert asked(a, content.digest, repository="library/other")[0] == 404
    assert asked(a, content.digest, repository="library/other", user="")[0] == 401
    assert asked(a, "sha256:" + "0" * 64)[0] == 404
    assert asked(a, "nonsense")[0] == 400
