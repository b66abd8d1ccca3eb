"""Users, members and robots made or taken away on one master, as docker meets them on the other."""

from __future__ import annotations

import http.client
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest

from tests.compat import wire
from tests.compat.contract import Target, new_target
from tests.compat.docker import Docker
from tests.support.clients import ClientFailed
from tests.support.twins import Registry, Twins

DEVELOPER: Final = 2
GUEST: Final = 3
PASSWORD: Final = "Right-password-1"
REFUSED: Final = r"(?i)unauthorized|denied|no basic auth|authentication required"


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """One private project and a user who is nobody in it yet, both made on master a."""

    twins: Twins
    project: str
    user: str

    def seen_from(self, node: Registry) -> Registry:
        """Return a master as the user meets it, with the project as the place to push to."""
        return Registry(address=node.address, user=self.user, password=PASSWORD, project=self.project)

    def project_path(self, node: Registry) -> str:
        """Return the project's path in the management API, by the number that the master itself gives it."""
        found = wire.call(node, "GET", f"/api/v2.0/projects/{self.project}", expect=200).json()
        assert isinstance(found, dict)
        return f"/api/v2.0/projects/{found['project_id']}"

    def add_member(self, node: Registry, role: int) -> None:
        """Make the user a member of the project."""
        body = {"role_id": role, "member_user": {"username": self.user}}
        wire.call(node, "POST", f"{self.project_path(node)}/members", body=body, expect=201)

    def member_path(self, node: Registry) -> str:
        """Return the path of the user's membership."""
        project = self.project_path(node)
        members = wire.call(node, "GET", f"{project}/members", expect=200).json()
        assert isinstance(members, list)
        (member,) = [row for row in members if row["entity_name"] == self.user]
        return f"{project}/members/{member['id']}"

    def user_path(self, node: Registry) -> str:
        """Return the user's path."""
        users = wire.call(node, "GET", f"/api/v2.0/users?username={self.user}", expect=200).json()
        assert isinstance(users, list)
        (user,) = [row for row in users if row["username"] == self.user]
        return f"/api/v2.0/users/{user['user_id']}"


@pytest.fixture
def office(twins: Twins) -> Office:
    """Make a private project and a user on master a."""
    token = secrets.token_hex(4)
    user, project = f"user-{token}", f"project-{token}"
    profile = {
        "username": user,
        "password": PASSWORD,
        "email": f"{user}@example.com",
        "realname": "Some One",
        "comment": "a test's",
    }
    wire.call(twins.a, "POST", "/api/v2.0/users", body=profile, expect=201)
    body = {"project_name": project, "metadata": {"public": "false"}}
    wire.call(twins.a, "POST", "/api/v2.0/projects", body=body, expect=201)
    return Office(twins=twins, project=project, user=user)


def push_is_refused(docker: Docker, target: Target) -> bool:
    """Say whether docker is told that it may not push, and the registry has nothing of it."""
    with pytest.raises(ClientFailed, match=REFUSED):
        docker.push(target, "refused")
    seen_by_admin = Registry(address=target.registry.address)
    return wire.digest_of(seen_by_admin, target.repository, target.tag) is None


class TestUsers:
    def test_user_made_on_a_logs_in_on_b(self, docker: Docker, office: Office) -> None:
        docker.login(office.seen_from(office.twins.b))

    def test_user_deleted_on_b_is_refused_on_a(self, docker: Docker, office: Office) -> None:
        docker.login(office.seen_from(office.twins.a))
        wire.call(office.twins.b, "DELETE", office.user_path(office.twins.b), expect=200)
        with pytest.raises(ClientFailed, match=REFUSED):
            docker.login(office.seen_from(office.twins.a))

    def test_password_changed_on_a_holds_on_b(self, docker: Docker, office: Office) -> None:
        there = office.seen_from(office.twins.b)
        docker.login(there)
        body = {"old_password": PASSWORD, "new_password": "Another-password-2"}
        here = office.seen_from(office.twins.a)
        wire.call(here, "PUT", f"{office.user_path(office.twins.a)}/password", body=body, expect=200)
        docker.login(there.seen_by(office.user, "Another-password-2"))
        with pytest.raises(ClientFailed, match=REFUSED):
            docker.login(there)


class TestMembers:
    def test_who_is_no_member_can_neither_push_nor_pull(self, docker: Docker, office: Office) -> None:
        there = office.seen_from(office.twins.b)
        admins = Registry(address=there.address, project=office.project)
        docker.login(admins)
        target = new_target(admins)
        docker.push(target, "secret")
        docker.login(there)
        assert push_is_refused(docker, new_target(there))
        with pytest.raises(ClientFailed, match=REFUSED):
            docker.pull(target.at(there))

    def test_member_added_on_a_pushes_on_b_at_once(self, docker: Docker, office: Office) -> None:
        there = office.seen_from(office.twins.b)
        docker.login(there)
        office.add_member(office.twins.a, DEVELOPER)
        target = new_target(there)
        pushed = docker.push(target, "first")
        assert docker.pull(target) == pushed

    def test_member_removed_on_b_can_not_push_on_a(self, docker: Docker, office: Office) -> None:
        here = office.seen_from(office.twins.a)
        office.add_member(office.twins.a, DEVELOPER)
        docker.login(here)
        target = new_target(here)
        docker.push(target, "allowed")
        wire.call(office.twins.b, "DELETE", office.member_path(office.twins.b), expect=200)
        assert push_is_refused(docker, target.with_tag("2.0.0"))

    def test_role_lowered_on_b_pulls_but_can_not_push_on_a(self, docker: Docker, office: Office) -> None:
        here = office.seen_from(office.twins.a)
        office.add_member(office.twins.a, DEVELOPER)
        docker.login(here)
        target = new_target(here)
        pushed = docker.push(target, "allowed")
        wire.call(office.twins.b, "PUT", office.member_path(office.twins.b), body={"role_id": GUEST}, expect=200)
        assert push_is_refused(docker, target.with_tag("2.0.0"))
        assert docker.pull(target) == pushed

    def test_token_got_before_the_removal_is_refused_after_it(self, office: Office) -> None:
        here = office.seen_from(office.twins.a)
        office.add_member(office.twins.a, DEVELOPER)
        repository = f"{office.project}/app"
        start_upload = bearer_request(
            here, "POST", f"/v2/{repository}/blobs/uploads/", scope=f"repository:{repository}:pull,push"
        )
        assert start_upload() == http.client.ACCEPTED
        wire.call(office.twins.b, "DELETE", office.member_path(office.twins.b), expect=200)
        assert start_upload() == http.client.UNAUTHORIZED


def bearer_request(registry: Registry, method: str, path: str, *, scope: str) -> Callable[[], int]:
    """Get a token for the scope once, and return a function that sends the request with it and returns the status."""
    answer = wire.call(registry, "GET", f"/service/token?service=harbor-registry&scope={scope}", expect=200).json()
    assert isinstance(answer, dict)

    def send() -> int:
        connection = http.client.HTTPConnection(registry.address, timeout=wire.LIMIT_S)
        try:
            connection.request(method, path, headers={"Authorization": f"Bearer {answer['token']}", "Content-Length": "0"})
            return connection.getresponse().status
        finally:
            connection.close()

    return send


class TestRobots:
    def test_robot_made_on_a_pushes_on_b_until_it_is_deleted_on_a(self, docker: Docker, office: Office) -> None:
        access = [{"resource": "repository", "action": action} for action in ("push", "pull")]
        body = {
            "name": "builder",
            "level": "project",
            "duration": -1,
            "disable": False,
            "permissions": [{"kind": "project", "namespace": office.project, "access": access}],
        }
        robot = wire.call(office.twins.a, "POST", "/api/v2.0/robots", body=body, expect=201).json()
        assert isinstance(robot, dict)
        assert re.fullmatch(r"robot\$.+builder", robot["name"])
        there = Registry(address=office.twins.b.address, user=robot["name"], password=robot["secret"], project=office.project)
        docker.login(there)
        target = new_target(there)
        pushed = docker.push(target, "built")
        assert docker.pull(target) == pushed
        wire.call(office.twins.a, "DELETE", f"/api/v2.0/robots/{robot['id']}", expect=200)
        assert push_is_refused(docker, target.with_tag("2.0.0"))


class TestPublicProjects:
    def test_project_opened_on_a_is_pulled_without_login_on_b(self, docker: Docker, office: Office) -> None:
        admins = Registry(address=office.twins.a.address, project=office.project)
        docker.login(admins)
        target = new_target(admins)
        pushed = docker.push(target, "open")
        there = target.at(office.twins.b)
        with pytest.raises(ClientFailed, match=REFUSED):
            docker.pull(there)
        path = office.project_path(office.twins.a)
        wire.call(office.twins.a, "PUT", path, body={"metadata": {"public": "true"}}, expect=200)
        assert docker.pull(there) == pushed
