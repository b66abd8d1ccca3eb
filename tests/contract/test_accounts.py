"""Accounts are written and read alike on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.postgres import postgres
from twinhull.auth.passwords import GuessBrake, PasswordChecker, VerifiedPasswords
from twinhull.auth.permissions import Role
from twinhull.auth.service import Guard
from twinhull.catalog.accounts import NewUser, Users, create_admin, reset_admin_password
from twinhull.catalog.projects import NewProject, Projects, create_library
from twinhull.catalog.robots import NewRobot, Robots
from twinhull.kit.clock import ManualClock
from twinhull.kit.errors import Conflict, Denied, Invalid, NotFound, ProjectUnknown, UserUnknown
from twinhull.metadata import accounts as queries
from twinhull.metadata.accounts import ProjectFilter
from twinhull.metadata.database import Database
from twinhull.metadata.filtering import Exact, Fuzzy, Slice, Wanted
from twinhull.metadata.freshness import Freshness
from twinhull.metadata.postgres import PostgresDatabase
from twinhull.metadata.schema import metadata
from twinhull.metadata.sqlite import SqliteDatabase
from twinhull.metadata.store import Store
from twinhull.records.kinds import MANIFEST, PROJECT, REPOSITORY, USER, content_key

__all__ = ["postgres"]

PASSWORD: Final = "Passw0rd1"
DIGEST: Final = "sha256:" + "0" * 64
_names: Final = count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One node's accounts: what writes them, and what answers from them."""

    store: Store
    clock: ManualClock
    users: Users
    projects: Projects
    robots: Robots
    guard: Guard

    async def make_user(self, name: str) -> int:
        new = NewUser(name=name, email=f"{name}@x.io", realname=name, password=PASSWORD)
        return (await self.users.create(new)).id

    async def make_project(self, name: str, owner: str = "admin", **metadata: str) -> int:
        return (await self.projects.create(NewProject(name=name, metadata=metadata, owner=owner))).id

    async def make_robot(self, name: str, project: str) -> int:
        access = [{"resource": "repository", "action": "pull"}]
        new = NewRobot(
            name=name,
            level="project" if project else "system",
            description="",
            duration_days=-1,
            default_duration_days=30,
            permissions=[{"kind": "project", "namespace": project or "*", "access": access}],
        )
        return (await self.robots.create(new)).id

    def read(self, query: Callable[..., Any], *given: object, **named: object) -> Any:  # noqa: ANN401 - what the query says
        with self.store.read() as connection:
            return query(connection, *given, **named)

    async def actions(self, user: str, project: str) -> frozenset[str]:
        return (await self.guard.allowance(await self.guard.subject(user), project)).actions


@pytest.fixture(params=["sqlite", "postgres"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    database: Database
    if request.param == "sqlite":
        database = SqliteDatabase(tmp_path / "metadata.db", run_dir=tmp_path / "run")
    else:
        url = request.getfixturevalue("postgres").create_database(f"accounts_{next(_names)}")
        database = PostgresDatabase(url)
    with database.write() as connection:
        metadata.create_all(connection)
    clock = ManualClock()
    store = Store(database, node="n1", slot=0, clock=clock)
    with ThreadPoolExecutor(4) as executor:
        passwords = PasswordChecker(verified=VerifiedPasswords(clock=clock), brake=GuessBrake(clock=clock), executor=executor)
        with store.write() as transaction:
            create_admin(transaction, "stored")
            create_library(transaction)
        yield Site(
            store=store,
            clock=clock,
            users=Users(store=store, executor=executor, passwords=passwords),
            projects=Projects(store=store, executor=executor),
            robots=Robots(store=store, executor=executor, passwords=passwords),
            guard=Guard(store=store, executor=executor, log=Freshness(store, executor), clock=clock, passwords=passwords),
        )
    store.close()


async def test_first_user_and_project_have_the_first_ids(site: Site) -> None:
    admin = site.read(queries.find_user_by_id, 1)
    assert (admin.name, admin.sysadmin, admin.password_hash) == ("admin", True, "stored")
    library = site.read(queries.find_project_by_id, 1)
    assert (library.name, library.public, library.owner) == ("library", True, "admin")
    assert site.read(queries.find_role, "library", "admin") == Role.PROJECT_ADMIN


async def test_users_are_found_by_name_id_address_and_part(site: Site) -> None:
    number = await site.make_user("a_b")
    await site.make_user("axb")
    assert site.read(queries.find_user, "a_b").id == number
    assert site.read(queries.find_user_by_id, number).name == "a_b"
    assert site.read(queries.find_user_by_email, "a_b@x.io").name == "a_b"
    assert site.read(queries.find_user, "nosuch") is None
    found, total = site.read(queries.list_users, name_part="a_", without="admin")
    assert ([user.name for user in found], total) == (["a_b"], 1)
    found, total = site.read(queries.list_users, part=Slice(offset=1, limit=1))
    assert ([user.name for user in found], total) == (["admin"], 3)
    found, total = site.read(queries.list_users, part=Slice(offset=2))
    assert ([user.name for user in found], total) == (["axb"], 3)
    assert site.read(queries.ids_of_users, {"admin", "a_b", "nosuch"}) == {"admin": 1, "a_b": number}


async def test_user_writes_are_checked_in_their_transaction(site: Site) -> None:
    number = await site.make_user("alice")
    with pytest.raises(Conflict):
        await site.make_user("alice")
    with pytest.raises(UserUnknown):
        await site.users.set_sysadmin(99, sysadmin=True)
    with pytest.raises(Denied):
        await site.users.delete(1, by=number)
    with pytest.raises(Denied):
        await site.users.set_sysadmin(1, sysadmin=False)
    with pytest.raises(Invalid, match="same with the old one"):
        await site.users.set_password(number, PASSWORD)


async def test_unchanged_profile_is_not_written_but_a_flag_is(site: Site) -> None:
    number = await site.make_user("alice")
    unchanged = await site.users.change_profile(number, email="alice@x.io", realname="alice", comment="")
    assert unchanged.seq == 0
    again = await site.users.set_sysadmin(number, sysadmin=False)
    assert again.seq > 0


async def test_other_id_of_the_same_user_resolves_to_it(site: Site) -> None:
    number = await site.make_user("alice")
    with site.store.write() as transaction:
        ids = (transaction.values(USER, "alice") or {})["ids"]
        assert isinstance(ids, list)
        transaction.put(USER, "alice", {"ids": sorted([*ids, [ids[0][0] + 1, 0, "n2", 1001]])})
    assert site.read(queries.find_user_by_id, 1001).id == number
    await site.users.set_sysadmin(1001, sysadmin=True)
    assert site.read(queries.find_user, "alice").sysadmin


async def test_projects_are_listed_to_those_who_may_see_them(site: Site) -> None:
    await site.make_user("alice")
    await site.make_project("own", owner="alice")
    await site.make_project("secret")
    await site.make_project("open", public="true")

    def names(wanted: ProjectFilter) -> list[str]:
        return [project.name for project in site.read(queries.list_projects, wanted)[0]]

    assert names(ProjectFilter()) == ["library", "open", "own", "secret"]
    assert names(ProjectFilter(visible_only=True)) == ["library", "open"]
    assert names(ProjectFilter(visible_only=True, member="alice")) == ["library", "open", "own"]
    assert names(ProjectFilter(visible_only=True, named=("secret", "nosuch"))) == ["library", "open", "secret"]
    assert names(ProjectFilter(public=False)) == ["own", "secret"]
    assert names(ProjectFilter(owner="alice")) == ["own"]
    assert names(ProjectFilter(name_part="e")) == ["open", "secret"]
    assert site.read(queries.roles_of, "alice", ["own", "open"]) == {"own": 1}


async def test_members_of_deleted_users_and_projects_are_out_of_sight(site: Site) -> None:
    project = await site.make_project("team")
    number = await site.make_user("alice")
    member = await site.projects.add_member("team", role=2, user_id=number)
    assert site.read(queries.find_member, "team", member.id).entity_id == number
    assert site.read(queries.count_roles, "team") == {1: 1, 2: 1}
    with site.store.write() as transaction:
        # As a peer's delete does it, which knew nothing of the membership.
        transaction.delete(USER, "alice")
    assert site.read(queries.find_member, "team", member.id) is None
    assert [entry.entity for entry in site.read(queries.list_members, "team")[0]] == ["admin"]
    with pytest.raises(NotFound):
        await site.projects.set_role("team", member.id, 1)
    await site.make_user("alice")
    assert await site.actions("alice", "team") == frozenset()
    await site.projects.delete("team")
    assert site.read(queries.list_members, "team") == ([], 0)
    with pytest.raises(ProjectUnknown):
        await site.projects.add_member("team", role=2, user="alice")
    assert project


async def test_robots_go_with_their_project_and_are_found_by_their_own_name(site: Site) -> None:
    await site.make_project("team")
    first = await site.make_robot("ci-team", "team")
    site.clock.advance(1000)
    await site.make_robot("deploy", "team")
    await site.make_robot("sys", "")
    found, total = site.read(queries.list_robots, project="team")
    assert ([robot.name for robot in found], total) == (["team+deploy", "team+ci-team"], 2)
    for condition, name in ((Fuzzy("team"), "team+ci-team"), (Exact("deploy"), "team+deploy")):
        found, _ = site.read(queries.list_robots, project="team", wanted=Wanted(conditions={"name": condition}))
        assert [robot.name for robot in found] == [name]
    assert [robot.name for robot in site.read(queries.list_robots, project="")[0]] == ["sys"]
    assert site.read(queries.find_robot_by_id, first).name == "team+ci-team"
    await site.projects.delete("team")
    assert site.read(queries.find_robot_by_id, first) is None
    assert site.read(queries.list_robots, project="team") == ([], 0)
    with pytest.raises(NotFound):
        await site.robots.delete(first)


async def test_project_that_a_push_brings_back_has_its_members_and_robots_again(site: Site) -> None:
    await site.make_project("team")
    await site.make_user("alice")
    await site.projects.add_member("team", role=2, user="alice")
    await site.make_robot("ci", "team")
    await site.projects.delete("team")
    assert await site.actions("alice", "team") == frozenset()
    assert await site.guard.subject("robot$team+ci") is None
    with site.store.write() as transaction:
        # As a peer's push does it, which knew nothing of the delete.
        transaction.create(REPOSITORY, "team/app", {"created_ms": 1}, number=transaction.next_id(REPOSITORY))
        transaction.create(MANIFEST, content_key("team/app", DIGEST), {"pushed_ms": 1}, number=transaction.next_id(MANIFEST))
    assert site.read(queries.find_project, "team").name == "team"
    assert await site.actions("alice", "team") == {"pull", "push"}
    assert await site.actions("robot$team+ci", "team") == {"pull"}
    with pytest.raises(Conflict):
        await site.make_project("team")
    with site.store.write() as transaction:
        transaction.delete(MANIFEST, content_key("team/app", DIGEST))
        transaction.delete(REPOSITORY, "team/app")
    assert await site.actions("alice", "team") == frozenset()
    assert not (await site.guard.facts_of("team")).exists


async def test_project_that_was_brought_back_is_made_a_living_one_by_a_change(site: Site) -> None:
    number = await site.make_project("team", auto_scan="true")
    with site.store.write() as transaction:
        transaction.create(REPOSITORY, "team/app", {"created_ms": 1}, number=transaction.next_id(REPOSITORY))
        transaction.create(MANIFEST, content_key("team/app", DIGEST), {"pushed_ms": 1}, number=transaction.next_id(MANIFEST))
        transaction.delete(PROJECT, "team")
    await site.projects.change_metadata("team", {"public": "true"})
    with site.store.write() as transaction:
        assert transaction.values(PROJECT, "team") is not None
        transaction.delete(MANIFEST, content_key("team/app", DIGEST))
    project = site.read(queries.find_project, "team")
    assert (project.id, dict(project.metadata)) == (number, {"auto_scan": "true", "public": "true"})


async def test_text_that_no_database_keeps_is_nobodys_name_and_not_taken(site: Site) -> None:
    assert site.read(queries.find_user, "a\x00") is None
    assert site.read(queries.find_user_by_email, "a\x00") is None
    assert site.read(queries.find_project, "a\x00") is None
    assert site.read(queries.find_robot, "a\x00") is None
    assert site.read(queries.list_users, name_part="\x00") == ([], 0)
    assert site.read(queries.list_users, wanted=Wanted(conditions={"email": Fuzzy("\x00")})) == ([], 0)
    assert site.read(queries.list_projects, ProjectFilter(name_part="\x00", owner="\x00")) == ([], 0)
    assert site.read(queries.list_robots, project="", wanted=Wanted(conditions={"name": Exact("\x00")})) == ([], 0)
    with pytest.raises(Invalid):
        await site.users.change_profile(1, email="a@x.io", realname="a", comment="\x00")
    with pytest.raises(Invalid):
        await site.make_project("team", severity="\x00")


async def test_password_of_the_administrator_is_reset(site: Site) -> None:
    with site.store.write() as transaction:
        reset_admin_password(transaction, "another")
    admin = site.read(queries.find_user, "admin")
    assert (admin.password_hash, admin.sysadmin, admin.id) == ("another", True, 1)
