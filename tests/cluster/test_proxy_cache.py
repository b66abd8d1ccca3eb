"""Proxy cache projects on two nodes: what is pulled through, what is kept, and what is served when upstream is not there."""

from __future__ import annotations

import concurrent.futures
import http.client
import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from tests.cluster.test_blob_transfers import MB, big_image
from tests.support.images import Content, image, index
from tests.support.nodes import Cluster, eventually, new_name
from tests.support.proxied import Upstream, make_proxy, running_upstream, wait_kept
from tests.support.pushes import check_pull, push, put_manifest, reading
from twinhull.kit.clock import SystemClock


@pytest.fixture(scope="module")
def shared_upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """A docker-registry for all tests of the module."""
    with running_upstream(tmp_path_factory.mktemp("upstream")) as upstream:
        yield upstream


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Iterator[Upstream]:
    """A docker-registry; whatever the test does to its line is mended afterwards."""
    yield shared_upstream
    shared_upstream.mend()


def new_image(size: int = 0) -> Content:
    """Return an image that nobody has pushed before."""
    seed = new_name()
    return big_image(seed, size) if size else image(seed)


def test_what_is_pulled_through_one_node_is_on_all_of_them(pair: Cluster, upstream: Upstream) -> None:
    a, b = pair
    content = new_image()
    push(upstream.registry.repository("team/app"), content, "kept")
    project = upstream.proxy(a)
    repository = a.repository(f"{project}/team/app")
    assert repository.head("manifests/kept").expect(200).header("Docker-Content-Digest") == content.digest
    check_pull(repository, content, "kept")
    for node in pair:
        wait_kept(node, f"{project}/team/app", "kept", content.digest)
        eventually(lambda node=node: all(node.has_blob(blob.digest) for blob in content.blobs))  # type: ignore[misc]
    upstream.line.cut()
    for node in pair:
        check_pull(node.repository(f"{project}/team/app"), content, "kept")
        check_pull(node.repository(f"{project}/team/app"), content, content.digest)
    shown = json.loads(a.manage("GET", f"/projects/{project}/repositories/team%252Fapp/artifacts").expect(200).body)
    assert [(one["digest"], one["tags"][0]["name"]) for one in shown] == [(content.digest, "kept")]
    pushed = a.repository(f"{project}/team/app").client.request("POST", f"/v2/{project}/team/app/blobs/uploads/")
    pushed.refused(403, "DENIED")
    shown_path = f"/projects/{project}/repositories/team%252Fapp"
    # Also the first pull, of what was not here yet.
    eventually(lambda: json.loads(a.manage("GET", shown_path).body)["pull_count"] == 1 + 2 * len(pair), what="pulls counted")
    assert a.manage("DELETE", f"{shown_path}/artifacts/{content.digest}").status == 200
    assert b.repository(f"{project}/team/app").get("manifests/kept").status == 404


def test_manifest_asked_of_one_node_and_blobs_of_the_other(pair: Cluster, upstream: Upstream) -> None:
    a, b = pair
    content = new_image()
    push(upstream.registry.repository("team/parted"), content, "v1")
    project = upstream.proxy(a)
    name = f"{project}/team/parted"
    a.repository(name).get("manifests/v1").expect(200)
    b.repository(name).get(f"manifests/{content.digest}").expect(200)
    for blob in content.blobs:
        assert b.repository(name).get(f"blobs/{blob.digest}").expect(200).body == blob.content
    wait_kept(b, name, "v1", content.digest)


def test_tag_that_was_looked_at_is_kept_when_its_digest_is_pulled_on_the_other_node(pair: Cluster, upstream: Upstream) -> None:
    a, b = pair
    content = new_image()
    push(upstream.registry.repository("team/looked"), content, "v1")
    name = f"{upstream.proxy(a)}/team/looked"
    a.repository(name).head("manifests/v1").expect(200)
    check_pull(b.repository(name), content, content.digest)
    for node in pair:
        wait_kept(node, name, "v1", content.digest)


def test_burst_of_pulls_costs_upstream_one_fetch(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    content = new_image(4 * MB)
    there = upstream.registry.repository("team/burst")
    push(there, content, "v1")
    name = f"{upstream.proxy(a)}/team/burst"
    layer = content.blobs[1]
    upstream.line.rate = 8 * MB

    def pull(_: int) -> None:
        check_pull(a.repository(name), content, "v1")

    with concurrent.futures.ThreadPoolExecutor(20) as threads:
        list(threads.map(pull, range(20)))
    asked = upstream.registry.asked
    assert asked("GET", f"/team/burst/blobs/{layer.digest}") == 1
    assert asked("GET", "/team/burst/manifests/v1") == 1
    assert asked("HEAD", "/team/burst/manifests/v1") == 0


def test_tag_that_moved_upstream_is_followed(pair: Cluster, upstream: Upstream) -> None:
    a, b = pair
    first, second = new_image(), new_image()
    there = upstream.registry.repository("team/moving")
    push(there, first, "v1")
    name = f"{upstream.proxy(a)}/team/moving"
    check_pull(a.repository(name), first, "v1")
    wait_kept(b, name, "v1", first.digest)
    push(there, second, "v1")
    eventually(lambda: b.repository(name).get("manifests/v1").body == second.manifest.content)
    for node in pair:
        wait_kept(node, name, "v1", second.digest)
    # And back to what is here: nothing but the tag has to be written.
    put_manifest(there, first, "v1").expect(201)
    eventually(lambda: a.repository(name).get("manifests/v1").body == first.manifest.content)
    wait_kept(b, name, "v1", first.digest)


def test_index_is_kept_with_those_of_its_images_that_were_pulled(pair: Cluster, upstream: Upstream) -> None:
    a, b = pair
    content = index(new_name())
    there = upstream.registry.repository("team/index")
    for child in content.children:
        push(there, child, child.digest)
    put_manifest(there, content, "v1").expect(201)
    project = upstream.proxy(a)
    name = f"{project}/team/index"
    assert a.repository(name).get("manifests/v1").expect(200).body == content.manifest.content
    chosen, other = content.children
    check_pull(b.repository(name), chosen, chosen.digest)
    for node in pair:
        wait_kept(node, name, "v1", content.digest)
    upstream.line.cut()
    for node in pair:
        assert node.repository(name).get("manifests/v1").expect(200).body == content.manifest.content
        check_pull(node.repository(name), chosen, chosen.digest)
        missing = node.repository(name).get(f"manifests/{other.digest}").refused(404, "MANIFEST_UNKNOWN")
        assert upstream.url in str(missing.body)
    shown = json.loads(a.manage("GET", f"/projects/{project}/repositories/team%252Findex/artifacts/v1").expect(200).body)
    assert [one["child_digest"] for one in shown["references"]] == [chosen.digest]
    told = a.ask("POST", "/verify", {"deep": True})
    assert (told["equal"], told["faults"]) == (True, [])
    places = json.loads(a.manage("GET", f"/api/twinhull/v1/replication?digest={content.digest}").expect(200).body)
    assert places["everywhere"], places
    target = new_name()
    copying = f"/projects/library/repositories/{target.partition('/')[2]}/artifacts?from={name}:v1"
    refused = a.manage("POST", copying).expect(400)
    assert other.digest in str(refused.body)
    upstream.mend()
    check_pull(a.repository(name), other, other.digest)
    wait_kept(b, name, other.digest, other.digest)
    b.manage("POST", copying).expect(201)
    check_pull(b.repository(target), other, other.digest)


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


def test_part_of_a_cold_blob_does_not_wait_for_all_of_it(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    content = new_image(40 * MB)
    push(upstream.registry.repository("team/lazy"), content, "v1")
    name = f"{upstream.proxy(a)}/team/lazy"
    layer = content.blobs[1]
    upstream.line.rate = 2 * MB
    for start, end in ((39 * MB, 39 * MB + 99), (0, 99), (30 * MB, 30 * MB + 9)):
        headers = {"Range": f"bytes={start}-{end}"}
        part = a.repository(name).get(f"blobs/{layer.digest}", headers=headers).expect(206)
        assert part.body == layer.content[start : end + 1]
        assert part.header("Content-Range") == f"bytes {start}-{end}/{len(layer.content)}"
    assert not a.has_blob(layer.digest)
    upstream.mend()
    eventually(lambda: a.has_blob(layer.digest), what="all of it came")


def test_node_killed_in_the_middle_has_nothing_half_done(pair: Cluster, upstream: Upstream) -> None:
    a, b = pair
    content = new_image(12 * MB)
    push(upstream.registry.repository("team/killed"), content, "v1")
    name = f"{upstream.proxy(a)}/team/killed"
    upstream.line.rate = 2 * MB
    a.repository(name).get("manifests/v1").expect(200)
    eventually(lambda: any((a.data_dir / "uploads").iterdir()), what="bytes are coming")
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


def test_node_of_ours_is_upstream_too(pair: Cluster) -> None:
    a, b = pair
    content, name = new_image(), new_name()
    push(a.repository(name), content, "v1")
    project = make_proxy(b.manage, f"http://{a.address}", kind="harbor")
    check_pull(b.repository(f"{project}/{name}"), content, "v1")
    wait_kept(a, f"{project}/{name}", "v1", content.digest)


def test_bytes_that_are_here_open_nothing_that_upstream_does_not_give(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    secret = new_image()
    push(a.repository(new_name()), secret, "v1")
    repository = a.repository(f"{upstream.proxy(a)}/team/other")
    for blob in secret.blobs:
        repository.get(f"blobs/{blob.digest}").refused(404, "BLOB_UNKNOWN")
        assert repository.head(f"blobs/{blob.digest}").status == 404


def test_private_upstream_is_asked_with_its_credentials(pair: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    a, b = pair
    content = new_image()
    with running_upstream(tmp_path_factory.mktemp("private"), private=True) as upstream:
        push(upstream.registry.repository("team/private"), content, "v1")
        name = f"{upstream.proxy(a)}/team/private"
        # Where the secret comes by the log, sealed.
        check_pull(b.repository(name), content, "v1")
        wait_kept(a, name, "v1", content.digest)
        open_name = f"{make_proxy(a.manage, upstream.url)}/team/private"
        refused = a.repository(open_name).get("manifests/v1").refused(404, "MANIFEST_UNKNOWN")
        assert "refuses" in str(refused.body) or "credentials" in str(refused.body)


def test_tags_are_those_that_are_here_and_those_that_are_there(pair: Cluster, upstream: Upstream) -> None:
    a, b = pair
    content = new_image()
    there = upstream.registry.repository("team/tags")
    for tag in ("v1", "v2", "v3"):
        push(there, content, tag)
    name = f"{upstream.proxy(a)}/team/tags"
    assert b.repository(name).tags() == ["v1", "v2", "v3"]
    assert b.repository(name).tags(query=[("n", "1"), ("last", "v1")]) == ["v2"]
    check_pull(a.repository(name), content, "v2")
    wait_kept(b, name, "v2", content.digest)
    upstream.line.cut()
    assert b.repository(name).tags() == ["v2"]


def test_wrong_bytes_are_handed_on_to_nobody_as_a_whole_and_not_kept(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    content = new_image(3 * MB)
    push(upstream.registry.repository("team/spoilt"), content, "v1")
    layer = content.blobs[1]
    upstream.spoil(layer.digest)
    name = f"{upstream.proxy(a)}/team/spoilt"
    upstream.line.rate = 3 * MB
    with reading(a.client(), f"/v2/{name}/blobs/{layer.digest}") as answer, pytest.raises(http.client.IncompleteRead):
        answer.read()
    assert not a.has_blob(layer.digest)
    assert not list((a.data_dir / "uploads").iterdir())


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


def test_speed_of_a_project_holds_for_what_it_brings(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    content = new_image(MB)
    push(upstream.registry.repository("team/slowly"), content, "v1")
    name = f"{upstream.proxy(a, proxy_speed_kb='500')}/team/slowly"
    began_s = SystemClock().monotonic_s()
    assert a.repository(name).get(f"blobs/{content.blobs[1].digest}").expect(200).body == content.blobs[1].content
    assert SystemClock().monotonic_s() - began_s > 1.0
