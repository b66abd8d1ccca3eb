"""Answers of `/api/twinhull/v1` have the shape that its own description says, also while a peer is away."""

from __future__ import annotations

import json
from typing import Final

from tests.support.described import DOCUMENT, require_described
from tests.support.images import image
from tests.support.nodes import Cluster, ClusterNode, new_name
from tests.support.pushes import push

ROOT: Final = "/api/twinhull/v1"
NOBODY: Final = "Basic bm9ib2R5Om5vYm9keQ=="


def hold(node: ClusterNode, path: str, query: str = "", *, status: int = 200, authorization: str = "") -> None:
    """Ask, and hold the answer against the description."""
    answer = node.manage("GET", f"{ROOT}{path}{query}", authorization=authorization).expect(status)
    require_described("GET", path, status, json.loads(answer.body))


def test_each_node_serves_the_description_of_what_it_answers(pair: Cluster) -> None:
    a, b = pair
    name, content = new_name(), image("described")
    push(a.repository(name), content, "v1")
    for node in pair:
        served = json.loads(node.manage("GET", f"{ROOT}/openapi.json", authorization=NOBODY).expect(200).body)
        assert {**served, "info": {}} == {**DOCUMENT, "info": {}}
        hold(node, "/cluster")
        hold(node, "/cluster", status=401, authorization=NOBODY)
        hold(node, "/replication", f"?digest={content.digest}")
        hold(node, "/replication", "?digest=nothing", status=400)
        hold(node, "/replication", f"?digest=sha256:{'0' * 64}", status=404)
        hold(node, "/conflicts")
        hold(node, "/conflicts", "?q=nothing", status=400)
        hold(node, "/conflicts", "?page_size=101", status=422)
    b.freeze()
    try:
        hold(a, "/cluster")
        hold(a, "/replication", f"?digest={content.digest}")
    finally:
        b.thaw()
    pair.wait_in_sync()
