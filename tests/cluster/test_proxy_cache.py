"""Proxy cache projects on two nodes: what is pulled through, and what is kept of it."""

from __future__ import annotations

import concurrent.futures
import json
from typing import Final

import pytest

from tests.support.images import OCI_INDEX, Content, artifact, encode, index
from tests.support.nodes import Cluster, ClusterNode, eventually, new_name
from tests.support.proxied import Upstream, make_proxy, new_image, running_upstream, wait_kept
from tests.support.pushes import check_pull, push, put_manifest
from twinhull.kit.clock import SystemClock

MB: Final = 1_000_000


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


def test_bytes_that_the_cluster_has_are_brought_once_whatever_project_they_are_pulled_through(
    pair: Cluster, upstream: Upstream
) -> None:
    a, b = pair
    content = new_image(MB)
    push(upstream.registry.repository("team/shared"), content, "v1")
    first, second = (f"{upstream.proxy(node)}/team/shared" for node in pair)
    check_pull(a.repository(first), content, "v1")
    wait_kept(b, first, "v1", content.digest)
    check_pull(b.repository(second), content, "v1")
    wait_kept(a, second, "v1", content.digest)
    for blob in content.blobs:
        assert upstream.registry.asked("GET", f"/team/shared/blobs/{blob.digest}") == 1


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


def test_part_of_a_cold_blob_does_not_wait_for_all_of_it(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    content = new_image(20 * MB)
    push(upstream.registry.repository("team/lazy"), content, "v1")
    name = f"{upstream.proxy(a)}/team/lazy"
    layer = content.blobs[1]
    upstream.line.rate = 2 * MB
    for start, end in ((19 * MB, 19 * MB + 99), (0, 99), (15 * MB, 15 * MB + 9)):
        headers = {"Range": f"bytes={start}-{end}"}
        part = a.repository(name).get(f"blobs/{layer.digest}", headers=headers).expect(206)
        assert part.body == layer.content[start : end + 1]
        assert part.header("Content-Range") == f"bytes {start}-{end}/{len(layer.content)}"
    assert not a.has_blob(layer.digest)
    upstream.mend()
    eventually(lambda: a.has_blob(layer.digest), what="all of it came")


def test_node_of_ours_is_upstream_too(pair: Cluster) -> None:
    a, b = pair
    content, name = new_image(), new_name()
    push(a.repository(name), content, "v1")
    project = make_proxy(b.manage, f"http://{a.address}", kind="harbor")
    check_pull(b.repository(f"{project}/{name}"), content, "v1")
    wait_kept(a, f"{project}/{name}", "v1", content.digest)


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


def referrers(node: ClusterNode, name: str, content: Content) -> list[tuple[str, str]]:
    """Return digest and type of what refers to an image, as the node lists it."""
    document = json.loads(node.repository(name).get(f"referrers/{content.digest}").expect(200).body)
    return [(one["digest"], one["artifactType"]) for one in document["manifests"]]


@pytest.mark.parametrize("lists", [True, False], ids=["by the API", "by a tag"])
def test_what_refers_to_an_image_is_found_there_and_kept_when_it_was_pulled(
    pair: Cluster, upstream: Upstream, lists: bool
) -> None:
    a, b = pair
    content = new_image()
    report = artifact(new_name(), subject=content.manifest)
    there = a.repository(new_name()) if lists else upstream.registry.repository("team/signed")
    push(there, content, "v1")
    push(there, report, report.digest)
    if not lists:
        # As clients do where a registry has no such list.
        row = report.manifest.descriptor(artifactType="application/vnd.example.report")
        listed = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [row]})
        there.put_manifest(content.digest.replace(":", "-"), listed, OCI_INDEX).expect(201)
    url = f"http://{a.address}" if lists else upstream.url
    name = f"{make_proxy(b.manage, url, kind='harbor' if lists else 'docker-registry')}/{there.name}"
    wanted = [(report.digest, "application/vnd.example.report")]
    assert referrers(b, name, content) == wanted
    check_pull(b.repository(name), content, "v1")
    check_pull(b.repository(name), report, report.digest)
    for node in pair:
        wait_kept(node, name, report.digest, report.digest)
    upstream.line.cut()
    assert referrers(b, name, content) == wanted
    assert referrers(a, name, content) == wanted


def test_speed_of_a_project_holds_for_what_it_brings(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    content = new_image(400_000)
    push(upstream.registry.repository("team/slowly"), content, "v1")
    name = f"{upstream.proxy(a, proxy_speed_kb='400')}/team/slowly"
    began_s = SystemClock().monotonic_s()
    assert a.repository(name).get(f"blobs/{content.blobs[1].digest}").expect(200).body == content.blobs[1].content
    # The last piece is not waited for.
    assert SystemClock().monotonic_s() - began_s > 0.5


def test_tag_that_must_not_move_here_stays_and_what_is_new_is_kept_by_its_digest(pair: Cluster, upstream: Upstream) -> None:
    a, b = pair
    first, second = new_image(), new_image()
    there = upstream.registry.repository("team/fixed")
    push(there, first, "v1")
    project = upstream.proxy(a)
    name = f"{project}/team/fixed"
    check_pull(a.repository(name), first, "v1")
    wait_kept(a, name, "v1", first.digest)
    selector = {"kind": "doublestar", "decoration": "matches", "pattern": "v*"}
    scope = {"repository": [{"kind": "doublestar", "decoration": "repoMatches", "pattern": "**"}]}
    rule = {"action": "immutable", "template": "immutable_template", "tag_selectors": [selector], "scope_selectors": scope}
    a.manage("POST", f"/projects/{project}/immutabletagrules", rule).expect(201)
    push(there, second, "v1")
    eventually(lambda: a.repository(name).get("manifests/v1").body == second.manifest.content)
    wait_kept(b, name, second.digest, second.digest)
    wait_kept(b, name, "v1", first.digest)
    logged = json.loads(a.manage("GET", f"/projects/{project}/logs?page_size=100").expect(200).body)
    made = [
        (one["username"], one["resource"])
        for one in logged
        if one["operation"] == "create" and "artifact" in one["resource_type"]
    ]
    assert made == [("harbor#proxy-cache-service", f"{name}:{second.digest}"), ("harbor#proxy-cache-service", f"{name}:v1")]


def test_index_is_replicated_whole_whatever_was_pulled_of_it(pair: Cluster, upstream: Upstream) -> None:
    a, _ = pair
    content = index(new_name())
    there = upstream.registry.repository("team/whole")
    for child in content.children:
        push(there, child, child.digest)
    put_manifest(there, content, "v1").expect(201)
    project = upstream.proxy(a)
    name = f"{project}/team/whole"
    a.repository(name).get("manifests/v1").expect(200)
    check_pull(a.repository(name), content.children[0], content.children[0].digest)
    wait_kept(a, name, "v1", content.digest)
    (registry,) = json.loads(a.manage("GET", f"/registries?q=name%3D{project}").expect(200).body)
    policy = {
        "name": project,
        "dest_registry": {"id": registry["id"]},
        "dest_namespace": "copied",
        "filters": [{"type": "name", "value": f"{project}/**"}],
        "trigger": {"type": "manual"},
        "enabled": True,
    }
    made = a.manage("POST", "/replication/policies", policy).expect(201)
    number = int((made.header("Location") or "").rpartition("/")[2])
    a.manage("POST", "/replication/executions", {"policy_id": number}).expect(201)

    def status() -> str:
        (execution,) = json.loads(a.manage("GET", f"/replication/executions?policy_id={number}").expect(200).body)
        return str(execution["status"])

    eventually(lambda: status() != "InProgress", what="the replication ended")
    assert status() == "Succeed"
    for child in content.children:
        check_pull(upstream.registry.repository("copied/whole"), child, child.digest)
