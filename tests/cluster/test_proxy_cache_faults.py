"""Proxy cache projects when something is wrong: with upstream, with the line, with a node, with the room there is."""

from __future__ import annotations

import http.client
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.nodes import Cluster, ClusterNode, eventually, new_name
from tests.support.proxied import Upstream, new_image, wait_kept
from tests.support.pushes import check_pull, push, reading

MB: Final = 1_000_000


def test_upstream_that_is_gone_is_named_when_nothing_is_cached(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    project = upstream.proxy(a)
    repository = a.repository(f"{project}/team/never")
    for line in (upstream.mend, upstream.line.cut):
        line()
        refused = repository.get("manifests/v1").refused(404, "MANIFEST_UNKNOWN")
        assert upstream.url in str(refused.body)
        refused = repository.get(f"blobs/sha256:{'0' * 64}").refused(404, "BLOB_UNKNOWN")
        assert upstream.url in str(refused.body)
    assert a.repository(f"{project}/team/never").head("manifests/v1").status == 404


def test_what_upstream_has_deleted_is_served_only_where_that_is_wanted(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    content = new_image()
    there = upstream.registry.repository("team/deleted")
    push(there, content, "v1")
    strict, lenient = upstream.proxy(a), upstream.proxy(a, proxy_cache_local_on_not_found="true")
    for project in (strict, lenient):
        check_pull(a.repository(f"{project}/team/deleted"), content, "v1")
        wait_kept(a, f"{project}/team/deleted", "v1", content.digest)
    there.delete(f"manifests/{content.digest}").expect(202)
    eventually(lambda: a.repository(f"{strict}/team/deleted").get("manifests/v1").status == 404)
    check_pull(a.repository(f"{strict}/team/deleted"), content, content.digest)
    check_pull(a.repository(f"{lenient}/team/deleted"), content, "v1")


def test_blob_goes_on_where_it_was_when_upstream_broke_off(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    content = new_image(12 * MB)
    push(upstream.registry.repository("team/broken"), content, "v1")
    name = f"{upstream.proxy(a)}/team/broken"
    layer = content.blobs[1]
    a.repository(name).head("manifests/v1").expect(200)
    upstream.line.allow("back", 5 * MB)
    with reading(a.client(), f"/v2/{name}/blobs/{layer.digest}") as answer:
        assert answer.status == 200
        begun = answer.read(4 * MB)
        eventually(lambda: not upstream.line.is_open, what="upstream broke off")
        upstream.mend()
        assert begun + answer.read() == layer.content
    # All of it once, and the head of what was on its way when it broke.
    assert upstream.registry.asked("GET", f"/team/broken/blobs/{layer.digest}") == 2


def test_reader_is_cut_off_when_upstream_stays_away_and_can_go_on_later(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    content = new_image(12 * MB)
    push(upstream.registry.repository("team/away"), content, "v1")
    name = f"{upstream.proxy(a)}/team/away"
    layer = content.blobs[1]
    upstream.line.allow("back", 5 * MB)
    with reading(a.client(), f"/v2/{name}/blobs/{layer.digest}") as answer, pytest.raises(http.client.IncompleteRead):
        answer.read()
    upstream.mend()
    headers = {"Range": f"bytes={3 * MB}-"}
    rest = a.repository(name).get(f"blobs/{layer.digest}", headers=headers).expect(206)
    assert rest.body == layer.content[3 * MB :]


def uploads_of(node: ClusterNode) -> set[Path]:
    """Return what is being uploaded on a node; other tests may have left theirs."""
    return set((node.data_dir / "uploads").iterdir())


def test_node_killed_in_the_middle_has_nothing_half_done(pair: Cluster, upstream: Upstream) -> None:
    a, b = pair
    content = new_image(12 * MB)
    push(upstream.registry.repository("team/killed"), content, "v1")
    name = f"{upstream.proxy(a)}/team/killed"
    upstream.line.rate = 2 * MB
    uploads = uploads_of(a)
    a.repository(name).get("manifests/v1").expect(200)
    eventually(lambda: bool(uploads_of(a) - uploads), what="bytes are coming")
    a.kill()
    upstream.mend()
    a.start()
    assert b.manage("GET", f"/projects/{name.partition('/')[0]}/repositories/team%252Fkilled/artifacts/v1").status == 404
    check_pull(a.repository(name), content, "v1")
    wait_kept(b, name, "v1", content.digest)


def test_full_project_serves_without_keeping(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    content = new_image(2 * MB)
    push(upstream.registry.repository("team/full"), content, "v1")
    project = upstream.proxy(a)
    number = json.loads(a.manage("GET", f"/projects/{project}").expect(200).body)["project_id"]
    (quota,) = json.loads(a.manage("GET", f"/quotas?reference=project&reference_id={number}").expect(200).body)
    a.manage("PUT", f"/quotas/{quota['id']}", {"hard": {"storage": MB}}).expect(200)
    for _ in range(2):
        check_pull(a.repository(f"{project}/team/full"), content, "v1")
    assert not a.has_blob(content.blobs[1].digest)
    assert json.loads(a.manage("GET", f"/projects/{project}/repositories").expect(200).body) == []


def test_bytes_that_are_here_open_nothing_that_upstream_does_not_give(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    secret = new_image()
    push(a.repository(new_name()), secret, "v1")
    repository = a.repository(f"{upstream.proxy(a)}/team/other")
    for blob in secret.blobs:
        repository.get(f"blobs/{blob.digest}").refused(404, "BLOB_UNKNOWN")
        assert repository.head(f"blobs/{blob.digest}").status == 404


def test_wrong_bytes_are_handed_on_to_nobody_as_a_whole_and_not_kept(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    content = new_image(3 * MB)
    push(upstream.registry.repository("team/spoilt"), content, "v1")
    layer = content.blobs[1]
    upstream.spoil(layer.digest)
    name = f"{upstream.proxy(a)}/team/spoilt"
    uploads = uploads_of(a)
    upstream.line.rate = 3 * MB
    with reading(a.client(), f"/v2/{name}/blobs/{layer.digest}") as answer, pytest.raises(http.client.IncompleteRead):
        answer.read()
    assert not a.has_blob(layer.digest)
    assert not uploads_of(a) - uploads


class _Busy(http.server.BaseHTTPRequestHandler):
    """A registry that wants to be asked nothing more."""

    def do_HEAD(self) -> None:
        """Say so."""
        self.send_response(429)
        self.send_header("Retry-After", "30")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        """Say so."""
        self.do_HEAD()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def busy() -> Iterator[str]:
    """The address of such a registry."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Busy) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_busy_or_slow_upstream_is_no_reason_not_to_serve_what_is_here(pair: Cluster, upstream: Upstream, busy: str) -> None:
    a, b = pair
    content = new_image()
    push(upstream.registry.repository("team/busy"), content, "v1")
    name = f"{upstream.proxy(a)}/team/busy"
    check_pull(a.repository(name), content, "v1")
    wait_kept(b, name, "v1", content.digest)
    upstream.line.plugged = {"back"}
    check_pull(b.repository(name), content, "v1")
    upstream.line.plugged = set()
    upstream.line.drop()
    upstream.line.target = busy
    check_pull(a.repository(name), content, "v1")
    refused = a.repository(name).get("manifests/v2").refused(429, "TOOMANYREQUESTS")
    assert upstream.url in str(refused.body)
    assert refused.header("Retry-After") == "30"


def test_what_every_node_has_lost_comes_from_upstream_again(pair: Cluster, upstream: Upstream) -> None:
    a, b = pair
    content = new_image()
    push(upstream.registry.repository("team/lost"), content, "v1")
    name = f"{upstream.proxy(a)}/team/lost"
    check_pull(a.repository(name), content, "v1")
    wait_kept(b, name, "v1", content.digest)
    paths = [node.blob_path(blob.digest) for node in pair for blob in content.blobs]
    eventually(lambda: all(path.exists() for path in paths), what="all of it is everywhere")
    for path in paths:
        path.unlink()
    check_pull(b.repository(name), content, "v1")
    upstream.line.cut()
    check_pull(a.repository(name), content, "v1")
