"""`GET /api/twinhull/v1/cluster`: for administrators alone, as one document, or live."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from tests.support.nodes import Cluster, ClusterNode
from tests.support.single import ADMIN_PASSWORD
from twinhull.kit.clock import SystemClock
from twinhull.kit.digest import digest_of

PATH = "/api/twinhull/v1/cluster"


def connected(node: ClusterNode, accept: str, user: str = "admin", password: str = ADMIN_PASSWORD) -> Any:  # noqa: ANN401
    """Return a connection and its answer's beginning."""
    connection = http.client.HTTPConnection(node.address, timeout=30)
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    headers = {"Accept": accept} | ({"Authorization": f"Basic {credentials}"} if user else {})
    connection.request("GET", PATH, headers=headers)
    return connection, connection.getresponse()


def events(answer: http.client.HTTPResponse) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events as they come."""
    kind = ""
    while line := answer.readline():
        text = line.decode().rstrip("\n")
        if text.startswith("event: "):
            kind = text.removeprefix("event: ")
        elif text.startswith("data: "):
            yield kind, json.loads(text.removeprefix("data: "))


def test_cluster_is_described_to_administrators_only(pair: Cluster) -> None:
    a, b = pair
    connection, answer = connected(a, "application/json")
    with closing(connection):
        assert answer.status == http.client.OK
        assert answer.getheader("Content-Type") == "application/json"
        document = json.loads(answer.read())
    assert [member["name"] for member in document["members"]] == ["a", "b"]
    peer = document["members"][1]
    assert (peer["state"], peer["address"]) == ("in sync", f"http://{b.address}")
    assert {"lag_changes", "lag_bytes", "lag_s", "last_error", "sent_bytes_per_s", "received_bytes_per_s"} <= peer.keys()
    # Tests before this one may have written while a node was away, a moment ago.
    assert {alarm["name"] for alarm in document["alarms"]} <= {"writes-degraded"}
    for user, status in (("", 401), ("nobody", 401)):
        connection, answer = connected(a, "application/json", user, "Wrong12345")
        with closing(connection):
            assert answer.status == status
            assert json.loads(answer.read())["errors"]


def test_user_who_is_no_administrator_may_not_look(pair: Cluster) -> None:
    a, _ = pair
    body = json.dumps({"username": "looker", "email": "l@x.io", "realname": "L", "password": "Looker12345"}).encode()
    admin = "Basic " + base64.b64encode(f"admin:{ADMIN_PASSWORD}".encode()).decode()
    headers = {"Content-Type": "application/json"}
    created = a.client().request("POST", "/api/v2.0/users", body=body, headers=headers, authorization=admin)
    assert created.status in (201, 409)
    connection, answer = connected(a, "text/event-stream", "looker", "Looker12345")
    with closing(connection):
        assert answer.status == http.client.FORBIDDEN


def test_live_view_is_told_what_changes(pair: Cluster) -> None:
    a, b = pair
    connection, answer = connected(a, "text/event-stream")
    with closing(connection):
        assert answer.getheader("Content-Type") == "text/event-stream"
        coming = events(answer)
        kind, first = next(coming)
        assert kind == "cluster"
        assert first["members"][1]["state"] == "in sync"
        a.pause()
        assert any(document["members"][1]["state"] == "paused" for _, document in coming)
        a.resume()
        assert any(document["members"][1]["state"] == "in sync" for _, document in coming)
        position = first["log_position"]
        b.repository("library/live").push_blob(b"live", digest_of(b"live")).expect(201)
        assert any(document.get("log_position", 0) > position for _, document in coming)


def test_stop_of_a_node_does_not_wait_for_those_who_look(pair: Cluster) -> None:
    a, _ = pair
    connection, answer = connected(a, "text/event-stream")
    with closing(connection):
        coming = events(answer)
        next(coming)
        began_s = SystemClock().monotonic_s()
        a.stop()
        # The limit for requests that are under way is 30 s.
        assert SystemClock().monotonic_s() - began_s < 20
        assert list(coming) == []
