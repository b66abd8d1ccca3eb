"""What was hung on a project or user that is deleted, on the other side, has no place in a new one of that name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.support.metadata import exchange, manifest_fields
from twinhull.auth.passwords import GuessBrake, PasswordChecker, VerifiedPasswords
from twinhull.catalog.accounts import NewUser, Users
from twinhull.catalog.projects import NewProject, Projects
from twinhull.catalog.robots import NewRobot, Robots
from twinhull.kit.clock import ManualClock
from twinhull.kit.errors import Conflict
from twinhull.metadata import accounts as queries
from twinhull.metadata.accounts import ProjectFilter
from twinhull.metadata.store import Store
from twinhull.records.kinds import MANIFEST, MEMBER, REPOSITORY, USER_GROUP, content_key, document_key, member_key

GUEST, DEVELOPER, PROJECT_ADMIN = 3, 2, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of two nodes, and what is done there."""

    store: Store
    users: Users
    projects: Projects
    robots: Robots

    async def make_user(self, name: str) -> int:
        return (await self.users.create(NewUser(name=name, email=f"{name}@x.io", realname=name, password="Passw0rd1"))).id

    async def make_project(self, name: str = "app") -> int:
        return (await self.projects.create(NewProject(name=name, metadata={}, owner="admin"))).id

    async def make_robot(self, name: str = "ci", project: str = "app") -> int:
        access = [{"resource": "repository", "action": "pull"}]
        new = NewRobot(
            name=name,
            level="project",
            description="",
            duration_days=-1,
            default_duration_days=30,
            permissions=[{"kind": "project", "namespace": project, "access": access}],
        )
        return (await self.robots.create(new)).id

    def role(self, user: str, project: str = "app") -> int | None:
        """Return the role of a user, by which all the ways to ask for it agree."""
        with self.store.read() as connection:
            role = queries.find_role(connection, project, user)
            listed = {member.entity: member.role for member in queries.list_members(connection, project)[0]}
            assert listed.get(user) == role
            assert queries.roles_of(connection, user, [project]).get(project) == role
            seen, _ = queries.list_projects(connection, ProjectFilter(visible_only=True, member=user))
            assert (project in {one.name for one in seen}) == (role is not None)
            assert sum(queries.count_roles(connection, project).values()) == len(listed)
        return role

    def robot_names(self) -> list[str]:
        with self.store.read() as connection:
            return [robot.name for robot in queries.list_robots(connection, project="app")[0]]


@pytest.fixture
async def sides(store: Store, peer: Store, clock: ManualClock) -> AsyncIterator[tuple[Side, Side]]:
    """Two nodes with a user bob and a project app, in which nobody is."""
    with ThreadPoolExecutor(2) as executor:
        passwords = PasswordChecker(verified=VerifiedPasswords(clock=clock), brake=GuessBrake(clock=clock), executor=executor)
        one, two = (
            Side(
                store=of,
                users=Users(store=of, executor=executor, passwords=passwords),
                projects=Projects(store=of, executor=executor),
                robots=Robots(store=of, executor=executor, passwords=passwords),
            )
            for of in (store, peer)
        )
        await one.make_user("bob")
        await one.make_project()
        exchange(store, peer)
        yield one, two


async def test_member_added_elsewhere_to_the_old_project_is_not_in_the_new_one(sides: tuple[Side, Side]) -> None:
    here, there = sides
    await there.projects.add_member("app", role=PROJECT_ADMIN, user="bob")
    await there.make_robot()
    await here.projects.delete("app")
    await here.make_project()
    assert there.role("bob") == PROJECT_ADMIN
    exchange(here.store, there.store)
    for side in sides:
        assert side.role("bob") is None
        assert side.robot_names() == []
    # Both names are free, and what is made now is of the new project.
    await there.projects.add_member("app", role=GUEST, user="bob")
    await there.make_robot()
    exchange(here.store, there.store)
    for side in sides:
        assert side.role("bob") == GUEST
        assert side.robot_names() == ["app+ci"]
        with pytest.raises(Conflict):
            await side.projects.add_member("app", role=GUEST, user="bob")
        with pytest.raises(Conflict):
            await side.make_robot()


async def test_rights_given_elsewhere_to_a_deleted_user_are_not_those_of_a_new_one(sides: tuple[Side, Side]) -> None:
    here, there = sides
    with there.store.read() as connection:
        old = queries.find_user(connection, "bob")
    assert old is not None
    await there.projects.add_member("app", role=PROJECT_ADMIN, user="bob")
    await here.users.delete(old.id, by=0)
    exchange(here.store, there.store)
    assert [side.role("bob") for side in sides] == [None, None]
    await here.make_user("bob")
    exchange(here.store, there.store)
    assert [side.role("bob") for side in sides] == [None, None]
    await here.projects.add_member("app", role=DEVELOPER, user="bob")
    exchange(here.store, there.store)
    assert [side.role("bob") for side in sides] == [DEVELOPER, DEVELOPER]


async def test_rights_of_a_deleted_group_go_with_it_and_are_not_those_of_a_new_one(sides: tuple[Side, Side]) -> None:
    here, there = sides
    with here.store.write() as transaction:
        transaction.create(USER_GROUP, document_key("", "ops"), {}, number=transaction.next_id(USER_GROUP))
    exchange(here.store, there.store)

    def members(side: Side) -> list[str]:
        with side.store.read() as connection:
            return [member.entity for member in queries.list_members(connection, "app")[0] if member.entity_type == "g"]

    with there.store.write() as transaction:
        ids = (transaction.values(USER_GROUP, "/ops") or {})["ids"]
        assert isinstance(ids, list)
        transaction.create(MEMBER, member_key("app", "g", "ops"), {"role": 1, "entity_life": ids[0]}, number=7)
    assert members(there) == ["ops"]
    with here.store.write() as transaction:
        transaction.delete(USER_GROUP, "/ops")
    exchange(here.store, there.store)
    assert [members(side) for side in sides] == [[], []]
    with here.store.write() as transaction:
        transaction.create(USER_GROUP, "/ops", {}, number=transaction.next_id(USER_GROUP))
    assert members(here) == []


async def test_members_of_a_project_made_on_both_sides_are_in_it_on_both(sides: tuple[Side, Side]) -> None:
    here, there = sides
    await here.make_user("eve")
    exchange(here.store, there.store)
    for side, user in ((here, "bob"), (there, "eve")):
        await side.make_project("twice")
        await side.projects.add_member("twice", role=DEVELOPER, user=user)
        await side.make_robot(user, "twice")
    exchange(here.store, there.store)
    for side in sides:
        assert side.role("bob", "twice") == side.role("eve", "twice") == DEVELOPER
        with side.store.read() as connection:
            robots = queries.list_robots(connection, project="twice")[0]
        assert {robot.name for robot in robots} == {"twice+bob", "twice+eve"}


async def test_project_that_an_artifact_brings_back_has_the_members_it_had(sides: tuple[Side, Side]) -> None:
    here, there = sides
    await here.projects.add_member("app", role=GUEST, user="bob")
    await here.make_robot()
    exchange(here.store, there.store)
    await here.projects.delete("app")
    assert here.role("bob") is None
    with there.store.write() as transaction:
        transaction.create(REPOSITORY, "app/web", {}, number=transaction.next_id(REPOSITORY))
        transaction.create(MANIFEST, content_key("app/web", "sha256:0"), manifest_fields())
    exchange(here.store, there.store)
    for side in sides:
        assert side.role("bob") == GUEST
        assert side.robot_names() == ["app+ci"]
