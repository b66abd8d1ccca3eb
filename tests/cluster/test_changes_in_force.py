"""What is changed on one node is in force on the other when the answer arrives: not only shown there, but obeyed.

Each right or limit is used on the other node before it is changed, so that whatever that node remembers of it must go.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.images import image
from tests.support.nodes import Cluster, ClusterNode
from tests.support.pushes import digest_of_tag, push, put_manifest
from tests.support.registry_client import Answer, Repository, basic

PASSWORD = "Passw0rd1"
MAINTAINER, DEVELOPER, GUEST = 4, 2, 3
REFUSED = (401, 403)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A private project with an image in it, a user who is nobody there, and two nodes: one for changes, one for their use."""

    writes: ClusterNode
    uses: ClusterNode
    project: str
    number: int
    user: str
    user_id: int

    def change(self, method: str, path: str, body: object = None) -> Answer:
        """Change something on the one node, as the administrator."""
        return self.writes.manage(method, path, body).expect(200, 201)

    def create(self, path: str, body: object) -> int:
        """Make something on the one node and return its number."""
        return int((self.change("POST", path, body).header("Location") or "").rpartition("/")[2])

    def show(self, path: str) -> Any:  # noqa: ANN401 - whatever JSON is
        """Return what the other node shows the administrator."""
        return self.uses.manage("GET", path).expect(200).json()

    def repository(self, user: str = "", password: str = PASSWORD) -> Repository:
        """Return the project's repository on the other node, as a user finds it; as the administrator does, without one."""
        client = self.uses.client(user, password) if user else self.uses.client()
        return Repository(client=client, name=f"{self.project}/app")

    def starts_push(self, user: str, password: str = PASSWORD) -> int:
        """Return what the other node answers to somebody who begins a push, by name and password."""
        repository = self.repository(user, password)
        path = repository.path("blobs/uploads/")
        return repository.client.request("POST", path, authorization=basic(user, password)).status


@pytest.fixture(params=["a to b", "b to a"])
def place(request: pytest.FixtureRequest, pair: Cluster) -> Place:
    """A place that is changed on one node and used on the other."""
    writes, uses = (pair[0], pair[1]) if request.param == "a to b" else (pair[1], pair[0])
    token = secrets.token_hex(4)
    user = {"username": f"u{token}", "email": f"u{token}@example.com", "realname": token, "password": PASSWORD}
    numbers = []
    for path, body in (("/users", user), ("/projects", {"project_name": f"p{token}", "metadata": {"public": "false"}})):
        location = writes.manage("POST", path, body).expect(201).header("Location") or ""
        numbers.append(int(location.rpartition("/")[2]))
    made = Place(writes=writes, uses=uses, project=f"p{token}", number=numbers[1], user=f"u{token}", user_id=numbers[0])
    push(made.repository(), image("in force", layers=1), "v1")
    return made


def test_user_s_password_rights_and_end_are_in_force(place: Place) -> None:
    def asks(password: str) -> int:
        return place.uses.manage("GET", "/configurations", authorization=basic(place.user, password)).status

    assert asks(PASSWORD) == 403
    place.change("PUT", f"/users/{place.user_id}/sysadmin", {"sysadmin_flag": True})
    assert asks(PASSWORD) == 200
    place.change("PUT", f"/users/{place.user_id}/password", {"new_password": "Passw0rd2"})
    assert (asks(PASSWORD), asks("Passw0rd2")) == (401, 200)
    place.change("PUT", f"/users/{place.user_id}/sysadmin", {"sysadmin_flag": False})
    assert asks("Passw0rd2") == 403
    place.change("DELETE", f"/users/{place.user_id}")
    assert asks("Passw0rd2") == 401


def test_member_s_role_is_in_force(place: Place) -> None:
    assert place.starts_push(place.user) in REFUSED
    members = f"/projects/{place.number}/members"
    member = place.create(members, {"role_id": DEVELOPER, "member_user": {"username": place.user}})
    assert place.starts_push(place.user) == 202
    theirs = place.repository(place.user)
    put_manifest(theirs, image("in force", layers=1), "v2").expect(201)
    place.change("PUT", f"{members}/{member}", {"role_id": GUEST})
    # With the token from before, too: what may be done is looked up when it is used.
    put_manifest(theirs, image("in force", layers=1), "v3").expect(*REFUSED)
    assert place.starts_push(place.user) in REFUSED
    theirs.get("manifests/v1").expect(200)
    place.change("PUT", f"{members}/{member}", {"role_id": MAINTAINER})
    assert place.starts_push(place.user) == 202
    place.change("DELETE", f"{members}/{member}")
    assert place.starts_push(place.user) in REFUSED
    theirs.get("manifests/v1").expect(*REFUSED)


def test_robot_s_permissions_secret_and_end_are_in_force(place: Place) -> None:
    access = [{"resource": "repository", "action": action} for action in ("pull", "push")]
    body: dict[str, Any] = {"name": "ci", "level": "project", "duration": -1, "disable": False}
    permissions = [{"kind": "project", "namespace": place.project, "access": access}]
    made: Any = place.change("POST", "/robots", {**body, "permissions": permissions}).json()
    path, name = f"/robots/{made['id']}", made["name"]
    assert place.starts_push(name, made["secret"]) == 202
    theirs = place.repository(name, made["secret"])
    put_manifest(theirs, image("in force", layers=1), "v2").expect(201)
    whole = {**body, "id": made["id"], "name": name}
    place.change("PUT", path, {**whole, "permissions": [{**permissions[0], "access": access[:1]}]})
    put_manifest(theirs, image("in force", layers=1), "v3").expect(*REFUSED)
    theirs.get("manifests/v1").expect(200)
    place.change("PUT", path, {**whole, "permissions": permissions, "disable": True})
    assert place.starts_push(name, made["secret"]) in REFUSED
    theirs.get("manifests/v1").expect(*REFUSED)
    place.change("PUT", path, {**whole, "permissions": permissions})
    assert place.starts_push(name, made["secret"]) == 202
    place.change("PATCH", path, {"secret": "Another-Secret-1"})
    assert (place.starts_push(name, made["secret"]), place.starts_push(name, "Another-Secret-1")) == (401, 202)
    place.change("DELETE", path)
    assert place.starts_push(name, "Another-Secret-1") == 401


def test_label_s_name_and_end_are_in_force(place: Place) -> None:
    label = place.create("/labels", {"name": "gold", "scope": "p", "project_id": place.number, "color": "#FF0000"})
    artifacts = f"/projects/{place.project}/repositories/app/artifacts"
    place.uses.manage("POST", f"{artifacts}/v1/labels", {"id": label}).expect(200)

    def labels() -> list[str]:
        found = place.show(f"{artifacts}?with_label=true&q=labels%3D({label})")
        return [one["name"] for artifact in found for one in artifact["labels"] or []]

    assert labels() == ["gold"]
    place.change("PUT", f"/labels/{label}", {"name": "silver", "scope": "p", "project_id": place.number})
    assert labels() == ["silver"]
    # The name that it had is free, and the one that it has is taken.
    for name, status in (("silver", 409), ("gold", 201)):
        again = {"name": name, "scope": "p", "project_id": place.number}
        place.uses.manage("POST", "/labels", again).expect(status)
    place.change("DELETE", f"/labels/{label}")
    assert labels() == []
    assert not place.show(f"{artifacts}/v1?with_label=true")["labels"]
    place.uses.manage("POST", f"{artifacts}/v1/labels", {"id": label}).expect(404)


def test_quota_is_in_force(place: Place) -> None:
    (quota,) = place.show(f"/quotas?reference_id={place.number}")
    blob = image("beyond the limit").blobs[0]

    def pushes_blob() -> Answer:
        repository = place.repository()
        upload = repository.start_upload()
        where = repository.patch(upload, blob.content).expect(202).header("Location") or upload
        return repository.finish(where, blob.digest)

    place.change("PUT", f"/quotas/{quota['id']}", {"hard": {"storage": 1}})
    pushes_blob().refused(403, "DENIED")
    place.change("PUT", f"/quotas/{quota['id']}", {"hard": {"storage": -1}})
    pushes_blob().expect(201)


def test_immutability_rule_is_in_force(place: Place) -> None:
    rules, repository = f"/projects/{place.number}/immutabletagrules", place.repository()
    contents = [image(name, layers=0) for name in ("this", "that")]
    for content in contents:
        push(repository, content, "kept")

    def moves_tag() -> int:
        # To what it does not name: what it does name it may be given again.
        this, that = contents
        return put_manifest(repository, that if digest_of_tag(repository, "v1") == this.digest else this, "v1").status

    def rule(pattern: str, **changed: object) -> dict[str, object]:
        everywhere = {"repository": [{"kind": "doublestar", "decoration": "repoMatches", "pattern": "**"}]}
        tags = [{"kind": "doublestar", "decoration": "matches", "pattern": pattern}]
        made = {"action": "immutable", "template": "immutable_template", "tag_selectors": tags}
        return {**made, "scope_selectors": everywhere, **changed}

    assert moves_tag() == 201
    number = place.create(rules, rule("v*"))
    assert moves_tag() == 412
    place.change("PUT", f"{rules}/{number}", rule("w*", id=number))
    assert moves_tag() == 201
    place.change("PUT", f"{rules}/{number}", rule("v*", id=number))
    assert moves_tag() == 412
    place.change("PUT", f"{rules}/{number}", rule("v*", id=number, disabled=True))
    assert moves_tag() == 201
    place.change("PUT", f"{rules}/{number}", rule("v*", id=number, disabled=False))
    assert moves_tag() == 412
    place.change("DELETE", f"{rules}/{number}")
    assert moves_tag() == 201


def test_configuration_item_is_in_force(place: Place) -> None:
    def makes_project() -> int:
        body = {"project_name": f"x{secrets.token_hex(4)}"}
        return place.uses.manage("POST", "/projects", body, authorization=basic(place.user, PASSWORD)).status

    assert makes_project() == 201
    try:
        place.change("PUT", "/configurations", {"project_creation_restriction": "adminonly"})
        assert makes_project() == 403
        place.change("PUT", "/configurations", {"project_creation_restriction": "everyone", "read_only": True})
        put_manifest(place.repository(), image("in force", layers=1), "v2").refused(403, "DENIED")
    finally:
        place.change("PUT", "/configurations", {"project_creation_restriction": "everyone", "read_only": False})
    assert makes_project() == 201
    put_manifest(place.repository(), image("in force", layers=1), "v2").expect(201)
    try:
        place.change("PUT", "/configurations", {"storage_per_project": 4096})
        body = {"project_name": f"q{secrets.token_hex(4)}"}
        place.uses.manage("POST", "/projects", body).expect(201)
        (quota,) = place.show(f"/quotas?reference_id={place.show('/projects/' + body['project_name'])['project_id']}")
        assert quota["hard"] == {"storage": 4096}
    finally:
        place.change("PUT", "/configurations", {"storage_per_project": -1})
