"""What is written on both sides of a partition comes out by the rules: one partition, and many things that happen in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tests.support.images import image
from tests.support.nodes import Cluster, ClusterNode, eventually, new_name
from tests.support.pushes import digest_of_tag, push
from tests.support.registry_client import Answer, basic

ADMIN: Final = basic("admin", "Harbor12345")
PASSWORD: Final = "Passw0rd1"
MAINTAINER, GUEST, PROJECT_ADMIN, DEVELOPER = 4, 3, 1, 2

Act = Callable[["Side"], None]
# Told what is wrong, if anything is.
Check = Callable[["Side"], object]


@dataclass(slots=True)
class Side:
    """One node's management API, as its administrator."""

    node: ClusterNode

    def call(self, method: str, path: str, body: object = None, *, authorization: str = ADMIN) -> Answer:
        return self.node.manage(method, path, body, authorization=authorization)

    def get(self, path: str) -> Any:  # noqa: ANN401 - whatever JSON is
        return self.call("GET", path).expect(200).json()

    def make_project(self, name: str) -> None:
        self.call("POST", "/projects", {"project_name": name, "metadata": {"public": "false"}}).expect(201)

    def project(self, name: str) -> dict[str, Any] | None:
        found: list[dict[str, Any]] = self.get(f"/projects?name={name}") or []
        return next((one for one in found if one["name"] == name), None)

    def path(self, project: str) -> str:
        found = self.project(project)
        assert found is not None, project
        return f"/projects/{found['project_id']}"

    def make_user(self, name: str) -> None:
        user = {"username": name, "email": f"{name}@x.io", "realname": name, "password": PASSWORD, "comment": ""}
        self.call("POST", "/users", user).expect(201)

    def user_id(self, name: str) -> int | None:
        found: list[dict[str, Any]] = self.get(f"/users?username={name}") or []
        return next((one["user_id"] for one in found if one["username"] == name), None)

    def add_member(self, project: str, user: str, role: int) -> None:
        body = {"role_id": role, "member_user": {"username": user}}
        self.call("POST", f"{self.path(project)}/members", body).expect(201)

    def members(self, project: str) -> dict[str, dict[str, Any]]:
        return {one["entity_name"]: one for one in self.get(f"{self.path(project)}/members") or []}

    def member_path(self, project: str, user: str) -> str:
        return f"{self.path(project)}/members/{self.members(project)[user]['id']}"

    def role(self, project: str, user: str) -> int | None:
        found = self.members(project).get(user)
        return found["role_id"] if found else None

    def make_robot(self, project: str, name: str) -> None:
        access = [{"resource": "repository", "action": "pull"}]
        permissions = [{"kind": "project", "namespace": project, "access": access}]
        body = {"name": name, "level": "project", "duration": -1, "description": "", "permissions": permissions}
        self.call("POST", "/robots", body).expect(201)

    def robots(self, project: str) -> list[dict[str, Any]]:
        number = self.path(project).rpartition("/")[2]
        found: list[dict[str, Any]] = self.get(f"/robots?q=Level%3Dproject%2CProjectID%3D{number}")
        return found

    def change_robot(self, project: str, **changed: object) -> None:
        (robot,) = self.robots(project)
        self.call("PUT", f"/robots/{robot['id']}", {**robot, **changed}).expect(200)

    def make_label(self, name: str, color: str = "#FFFFFF") -> None:
        self.call("POST", "/labels", {"name": name, "scope": "g", "color": color, "description": ""}).expect(201)

    def labels(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.get(f"/labels?scope=g&name={name}") or [] if one["name"] == name]

    def conflicts_of(self, key: str) -> set[str]:
        return {one["field"] for one in self.get(f"/api/twinhull/v1/conflicts?q=key={key}&page_size=100")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happens before, on each side of the partition, and what must be so on both nodes afterwards."""

    name: str
    before: Act = field(default=lambda _side: None)
    here: Act = field(default=lambda _side: None)
    there: Act = field(default=lambda _side: None)
    expected: dict[str, tuple[Check, object]]


def stories(mark: str) -> Iterator[Story]:
    """Return stories about things whose names nobody else uses."""
    yield from _people(mark)
    yield from _projects(mark)
    yield from _content(mark)


def _people(mark: str) -> Iterator[Story]:
    p, u = f"people-{mark}", f"user-{mark}"
    made: list[int | None] = []

    def make_twice(side: Side) -> None:
        side.make_user(f"{u}-both")
        made.append(side.user_id(f"{u}-both"))

    def begin(side: Side) -> None:
        side.make_project(p)
        for user in (f"{u}-removed", f"{u}-promoted", f"{u}-anew"):
            side.make_user(user)
        for user in (f"{u}-removed", f"{u}-promoted"):
            side.add_member(p, user, DEVELOPER)

    def here(side: Side) -> None:
        side.call("DELETE", side.member_path(p, f"{u}-removed")).expect(200)
        side.call("PUT", side.member_path(p, f"{u}-promoted"), {"role_id": MAINTAINER}).expect(200)
        side.call("DELETE", f"/users/{side.user_id(f'{u}-anew')}").expect(200)
        side.make_user(f"{u}-anew")
        make_twice(side)

    def there(side: Side) -> None:
        side.call("PUT", side.member_path(p, f"{u}-removed"), {"role_id": PROJECT_ADMIN}).expect(200)
        side.call("PUT", side.member_path(p, f"{u}-promoted"), {"role_id": GUEST}).expect(200)
        side.add_member(p, f"{u}-anew", PROJECT_ADMIN)
        make_twice(side)

    yield Story(
        name="people",
        before=begin,
        here=here,
        there=there,
        expected={
            "who is removed is not promoted": (lambda side: side.role(p, f"{u}-removed"), None),
            "of two roles the weaker holds": (lambda side: side.role(p, f"{u}-promoted"), GUEST),
            "a new user has no rights of the old one": (lambda side: side.role(p, f"{u}-anew"), None),
            "the new user is there": (lambda side: side.user_id(f"{u}-anew") is not None, True),
            "both ids are the same user": (lambda side: {side.get(f"/users/{one}")["username"] for one in made}, {f"{u}-both"}),
            "of which one is shown": (lambda side: side.user_id(f"{u}-both") in made, True),
        },
    )


def _projects(mark: str) -> Iterator[Story]:
    anew, twice, robots, u = f"anew-{mark}", f"twice-{mark}", f"robots-{mark}", f"owner-{mark}"

    def begin(side: Side) -> None:
        side.make_user(u)
        side.make_project(anew)
        side.make_project(robots)
        side.make_robot(robots, "ci")

    def here(side: Side) -> None:
        side.call("DELETE", side.path(anew)).expect(200)
        side.make_project(anew)
        side.make_project(twice)
        side.change_robot(robots, disable=True)

    def there(side: Side) -> None:
        side.add_member(anew, u, PROJECT_ADMIN)
        side.make_robot(anew, "late")
        side.make_project(twice)
        side.add_member(twice, u, DEVELOPER)
        (robot,) = side.robots(robots)
        side.call("PATCH", f"/robots/{robot['id']}", {"secret": ""}).expect(200)
        side.change_robot(robots, description="changed")

    yield Story(
        name="projects",
        before=begin,
        here=here,
        there=there,
        expected={
            "a member of the old project is none of the new one": (lambda side: side.role(anew, u), None),
            "nor is a robot": (lambda side: side.robots(anew), []),
            "a project made on both sides is one, with all its members": (lambda side: side.role(twice, u), DEVELOPER),
            "a robot that is disabled while it is renewed is off": (
                lambda side: [(one["disable"], one["description"]) for one in side.robots(robots)],
                [(True, "changed")],
            ),
        },
    )


def _content(mark: str) -> Iterator[Story]:
    label, app, setting = f"label-{mark}", f"library/c-{mark}", "token_expiration"
    kept, mine, theirs = image(f"kept {mark}"), image(f"mine {mark}"), image(f"theirs {mark}")

    def begin(side: Side) -> None:
        side.make_label(f"{label}-gone")
        side.make_label(f"{label}-edited")
        push(side.node.repository(app), kept, "kept")

    def here(side: Side) -> None:
        for name in (f"{label}-gone", f"{label}-edited"):
            (found,) = side.labels(name)
            side.call("DELETE", f"/labels/{found['id']}").expect(200)
        side.make_label(f"{label}-both", "#111111")
        push(side.node.repository(app), mine, "v1")
        side.node.repository(app).delete("manifests/kept").expect(202)
        side.call("PUT", "/configurations", {setting: 31}).expect(200)

    def there(side: Side) -> None:
        (found,) = side.labels(f"{label}-edited")
        side.call("PUT", f"/labels/{found['id']}", {**found, "color": "#222222"}).expect(200)
        side.make_label(f"{label}-both", "#222222")
        push(side.node.repository(app), theirs, "v1")
        push(side.node.repository(app), kept, "kept")
        side.call("PUT", "/configurations", {setting: 32}).expect(200)

    yield Story(
        name="content",
        before=begin,
        here=here,
        there=there,
        expected={
            "a label deleted by one is gone": (lambda side: side.labels(f"{label}-gone"), []),
            "a label that another edited is not": (
                lambda side: [one["color"] for one in side.labels(f"{label}-edited")],
                ["#222222"],
            ),
            "a label made on both sides is one": (
                lambda side: [one["color"] for one in side.labels(f"{label}-both")],
                ["#222222"],
            ),
            "the later of two pushes has the tag": (lambda side: digest_of_tag(side.node.repository(app), "v1"), theirs.digest),
            "the other is an artifact still": (
                lambda side: side.node.repository(app).get(f"manifests/{mine.digest}").status,
                200,
            ),
            "a tag that is pushed again outlives its delete": (
                lambda side: digest_of_tag(side.node.repository(app), "kept"),
                kept.digest,
            ),
            "the later of two settings holds": (lambda side: side.get("/configurations")[setting]["value"], 32),
            "both conflicts are shown": (lambda side: side.conflicts_of(f"{app}:v1"), {"target"}),
        },
    )


@pytest.fixture
def sides(pair: Cluster) -> Iterator[tuple[Side, Side]]:
    """Both nodes; settings that a story changes are put back."""
    a, b = (Side(node) for node in pair)
    yield a, b
    eventually(lambda: a.call("PUT", "/configurations", {"token_expiration": 30}).status == 200, what="put back")


def test_what_both_sides_wrote_comes_out_by_the_rules(pair: Cluster, sides: tuple[Side, Side]) -> None:
    a, b = sides
    told = list(stories(new_name().rpartition("/")[2]))
    for story in told:
        story.before(a)
    pair.wait_in_sync()
    pair.part(a.node, b.node)
    for story in told:
        story.here(a)
    for story in told:
        story.there(b)
    pair.mend()
    pair.wait_in_sync()
    wrong = [
        f"{story.name}, {side.node.name}: {name}: {found!r} is not {wanted!r}"
        for story in told
        for side in sides
        for name, (look, wanted) in story.expected.items()
        if (found := look(side)) != wanted
    ]
    assert not wrong, "\n".join(wrong)
    assert "equal" in a.node.cli("verify").splitlines()[-1]
    # What was seen to on one node is so on all.
    before = {side.node.name: side.node.status()["conflicts"] for side in sides}
    (conflict,) = a.get(f"/api/twinhull/v1/conflicts?q=kind=member,field=role,key=~{told[0].name}&page_size=100")
    assert conflict["id"] in b.node.cli("conflicts")
    a.call("PUT", f"/api/twinhull/v1/conflicts/{conflict['id']}/acknowledgement").expect(200)
    assert {side.node.name: side.node.status()["conflicts"] + 1 for side in sides} == before
    assert conflict["id"] not in b.node.cli("conflicts")
