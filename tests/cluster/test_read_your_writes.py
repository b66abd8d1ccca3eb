"""What was acknowledged by one node is what every other node answers, at once."""

from __future__ import annotations

import itertools
import json
import random
import secrets
from typing import Any

from tests.support.images import image, index
from tests.support.nodes import Cluster, ClusterNode, eventually, new_name
from tests.support.pushes import LEVEL, check_pull, digest_of_tag, push, put_manifest
from tests.support.registry_client import RegistryClient, Repository, basic

PUSHES = 12
OVERWRITES = 40
SPREAD_PUSHES = 6
PASSWORD = "Passw0rd1"
DEVELOPER = 2


def api(node: ClusterNode, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - whatever JSON is
    """Ask the management API as the administrator, and return its JSON after checking that it went well."""
    answer = node.manage(method, path, body).expect(200, 201)
    return answer.json() if answer.body else None


def new_user(node: ClusterNode) -> str:
    """Make a user and return its name; its password is PASSWORD."""
    user = f"u{secrets.token_hex(4)}"
    fields = {"username": user, "email": f"{user}@example.com", "realname": user, "password": PASSWORD}
    api(node, "POST", "/users", fields)
    return user


def test_image_is_pulled_from_every_node_right_after_the_push_on_any(trio: Cluster, rounds: int | None) -> None:
    for number, writer in zip(range(rounds or PUSHES), itertools.cycle(trio), strict=False):
        content, name = image(f"any {number}"), new_name()
        assert push(writer.repository(name), content, "v1").header(LEVEL) == "metadata"
        for reader in trio:
            check_pull(reader.repository(name), content, "v1")


def test_tag_never_goes_back_when_it_is_written_and_read_on_different_nodes(pair: Cluster, rounds: int | None) -> None:
    name = new_name()
    contents = [image(f"overwrite {number}", layers=0) for number in range(rounds or OVERWRITES)]
    for content, (writer, reader) in zip(contents, itertools.cycle([(pair[0], pair[1]), (pair[1], pair[0])]), strict=False):
        push(writer.repository(name), content, "latest")
        assert digest_of_tag(reader.repository(name), "latest") == content.digest


def test_push_whose_requests_land_on_any_node_goes_through(trio: Cluster, rounds: int | None) -> None:
    client = trio[0].client()
    anywhere = RegistryClient(
        addresses=[node.address for node in trio], user=client.user, password=client.password, draw=random.Random(7)
    )
    for number in range(rounds or SPREAD_PUSHES):
        content = image(f"spread {number}", layers=3)
        repository = Repository(client=anywhere, name=new_name())
        for blob in content.blobs:
            upload = repository.start_upload()
            half = len(blob.content) // 2
            first = repository.patch(upload, blob.content[:half]).expect(202)
            where = first.header("Location") or upload
            repository.patch(where, blob.content[half:]).expect(202)
            repository.finish(where, blob.digest).expect(201)
            repository.head(f"blobs/{blob.digest}").expect(200)
        put_manifest(repository, content, "v1").expect(201)
        for node in trio:
            check_pull(node.repository(repository.name), content, "v1")


def test_index_pushed_on_one_node_over_images_of_others_is_whole_everywhere(trio: Cluster) -> None:
    content, name = index("spread index"), new_name()
    for child, node in zip(content.children, trio, strict=False):
        push(node.repository(name), child, child.digest)
    put_manifest(trio[2].repository(name), content, "multi").expect(201)
    for node in trio:
        check_pull(node.repository(name), content, "multi")
        for child in content.children:
            check_pull(node.repository(name), child, child.digest)


def test_deleted_tag_and_manifest_are_gone_everywhere_at_once(trio: Cluster) -> None:
    name, kept = new_name(), image("deleted")
    push(trio[0].repository(name), kept, "v1")
    push(trio[0].repository(name), kept, "v2")
    trio[1].repository(name).delete("manifests/v1").expect(202)
    for node in trio:
        assert digest_of_tag(node.repository(name), "v1") is None
        assert node.repository(name).tags() == ["v2"]
    trio[2].repository(name).delete(f"manifests/{kept.digest}").expect(202)
    for node in trio:
        node.repository(name).get(f"manifests/{kept.digest}").refused(404, "MANIFEST_UNKNOWN")


def test_blob_mounted_elsewhere_is_there(pair: Cluster) -> None:
    source, target, content = new_name(), new_name(), image("mounted")
    push(pair[0].repository(source), content, "v1")
    blob = content.blobs[0]
    query = [("mount", blob.digest), ("from", source)]
    path = pair[1].repository(target).path("blobs/uploads/")
    authorization = basic(pair[1].client().user, pair[1].client().password)
    pair[1].client().request("POST", path, query=query, authorization=authorization).expect(201)
    assert pair[0].repository(target).get(f"blobs/{blob.digest}").expect(200).body == blob.content


def test_token_of_one_node_holds_on_another(pair: Cluster) -> None:
    path = pair[0].repository(new_name()).path("blobs/uploads/")
    authorization = pair[0].client().authorization_of("POST", path)
    assert authorization.startswith("Bearer ")
    pair[1].client().request("POST", path, authorization=authorization).expect(202)


def test_user_created_on_one_node_logs_in_on_another_at_once(pair: Cluster) -> None:
    user = new_user(pair[0])
    answer = pair[1].client().request("GET", "/api/v2.0/users/current", authorization=basic(user, PASSWORD))
    document = answer.expect(200).json()
    assert isinstance(document, dict)
    assert document["username"] == user


def test_member_removed_on_one_node_cannot_push_on_another_at_once(pair: Cluster) -> None:
    user, project = new_user(pair[0]), f"p{secrets.token_hex(4)}"
    api(pair[0], "POST", "/projects", {"project_name": project, "metadata": {"public": "false"}})
    number = api(pair[0], "GET", f"/projects?name={project}")[0]["project_id"]
    api(pair[0], "POST", f"/projects/{number}/members", {"role_id": DEVELOPER, "member_user": {"username": user}})
    theirs = Repository(client=pair[0].client(user, PASSWORD), name=f"{project}/app")
    push(theirs, image("member"), "v1")
    members = api(pair[1], "GET", f"/projects/{number}/members")
    theirs_id = next(row["id"] for row in members if row["entity_name"] == user)
    api(pair[1], "DELETE", f"/projects/{number}/members/{theirs_id}")
    # With the token from before, too: what may be done is looked up when it is used.
    put_manifest(theirs, image("member", layers=1), "v2").expect(401, 403)
    again = Repository(client=pair[0].client(user, PASSWORD), name=f"{project}/app")
    again.client.request("POST", again.path("blobs/uploads/")).expect(401, 403)


def test_upload_begun_on_one_node_goes_on_on_another(pair: Cluster) -> None:
    name, content = new_name(), random.Random(3).randbytes(3_000_000)
    blob = image("relayed").blobs[0]
    begun = pair[0].repository(name).start_upload()
    there = pair[1].repository(name)
    there.patch(begun, content).expect(202)
    status = there.client.request("GET", begun).expect(204)
    assert status.header("Range") == f"0-{len(content) - 1}"
    there.client.request("DELETE", begun).expect(204)
    there.client.request("GET", begun).refused(404, "BLOB_UPLOAD_UNKNOWN")
    begun = pair[0].repository(name).start_upload()
    there.patch(begun, blob.content).expect(202)
    there.finish(begun, blob.digest).expect(201)
    for node in pair:
        assert node.repository(name).get(f"blobs/{blob.digest}").expect(200).body == blob.content


def test_upload_whose_node_is_down_is_refused_in_clear_words(pair: Cluster) -> None:
    name = new_name()
    begun = pair[0].repository(name).start_upload()
    pair[0].kill()
    answer = pair[1].repository(name).patch(begun, b"more").expect(503)
    assert "began on does not answer" in answer.body.decode()
    assert pair[1].repository(name).patch("/v2/" + name + "/blobs/uploads/00000000.abc", b"more").status == 404


def test_nodes_that_cannot_hear_each_other_are_told_by_the_one_between(trio: Cluster) -> None:
    left, middle, right = trio
    trio.part(left, right)
    eventually(lambda: left.state_of(right) == "down" and right.state_of(left) == "down", what="parted")
    name = new_name()
    for number, (writer, reader) in zip(range(8), itertools.cycle([(left, right), (right, left)]), strict=False):
        content = image(f"chain {number}", layers=1)
        push(writer.repository(name), content, "latest")
        # Nobody but the one between has confirmed it, so the far one has to ask.
        assert digest_of_tag(reader.repository(name), "latest") == content.digest
        check_pull(middle.repository(name), content, "latest")
        check_pull(reader.repository(name), content, "latest")
    eventually(lambda: middle.ask("POST", "/verify")["equal"], what="equal over the one between")


def test_setting_is_in_force_on_every_node_when_the_answer_arrives(pair: Cluster) -> None:
    for number, (writer, reader) in enumerate([(pair[0], pair[1]), (pair[1], pair[0])]):
        api(writer, "PUT", "/configurations", {"banner_message": f"banner {number}", "read_only": True})
        try:
            assert api(reader, "GET", "/systeminfo")["banner_message"] == f"banner {number}"
            refusing = reader.repository(new_name())
            refusing.client.request("POST", refusing.path("blobs/uploads/")).refused(403, "DENIED")
        finally:
            api(reader, "PUT", "/configurations", {"banner_message": "", "read_only": False})
        writer.repository(new_name()).start_upload()


def test_session_holds_on_every_node_and_ends_on_all_of_them(pair: Cluster) -> None:
    first, second = (node.client() for node in pair)
    shown = first.request("GET", "/c/login", authorization="").expect(404)
    cookies = shown.header("Set-Cookie") or ""
    headers = {
        "Cookie": cookies.partition(";")[0],
        "X-Harbor-CSRF-Token": shown.header("X-Harbor-CSRF-Token") or "",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    form = f"principal={first.user}&password={first.password}".encode()
    begun = first.request("POST", "/c/login", headers=headers, body=form, authorization="").expect(200)
    session = {"Cookie": (begun.header("Set-Cookie") or "").partition(";")[0]}
    for client in (second, first):
        client.request("GET", "/api/v2.0/users/current", headers=session, authorization="").expect(200)
    second.request("GET", "/c/log_out", headers=session, authorization="").expect(200)
    for client in (first, second):
        client.request("GET", "/api/v2.0/users/current", headers=session, authorization="").expect(401)


def test_rights_and_limits_hold_on_every_node_when_the_answer_arrives(pair: Cluster) -> None:
    writer, reader = pair
    user, project = new_user(writer), f"p{secrets.token_hex(4)}"
    number = _created(writer, "/projects", {"project_name": project})
    group = f"g{secrets.token_hex(4)}"
    _created(writer, "/usergroups", {"group_name": group, "group_type": 3})
    member = _created(writer, f"/projects/{number}/members", {"role_id": DEVELOPER, "member_user": {"username": user}})
    _created(
        writer, f"/projects/{number}/members", {"role_id": DEVELOPER, "member_group": {"group_name": group, "group_type": 3}}
    )
    (quota,) = api(reader, "GET", f"/quotas?reference_id={number}")
    assert {one["entity_name"] for one in api(reader, "GET", f"/projects/{number}/members")} == {"admin", user, group}
    pushing = Repository(client=reader.client(user=user, password=PASSWORD), name=f"{project}/app")
    pushing.start_upload()
    api(writer, "PUT", f"/quotas/{quota['id']}", {"hard": {"storage": 1}})
    upload = pushing.start_upload()
    content = image("beyond the limit").blobs[0]
    where = pushing.patch(upload, content.content).expect(202).header("Location") or upload
    pushing.finish(where, content.digest).refused(403, "DENIED")
    api(reader, "PUT", f"/quotas/{quota['id']}", {"hard": {"storage": -1}})
    api(reader, "PUT", f"/projects/{number}/members/{member}", {"role_id": 3})
    pushing.client.request("POST", pushing.path("blobs/uploads/")).refused((401, 403), ("UNAUTHORIZED", "DENIED"))


def _created(node: ClusterNode, path: str, body: object) -> int:
    client = node.client()
    answer = client.request(
        "POST",
        f"/api/v2.0{path}",
        headers={"Content-Type": "application/json"},
        body=json.dumps(body).encode(),
        authorization=basic(client.user, client.password),
    ).expect(201)
    return int((answer.header("Location") or "").rpartition("/")[2])
