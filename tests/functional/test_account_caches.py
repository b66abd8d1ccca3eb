"""What one worker process writes about accounts holds in the others at once, whatever else is written meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from twinhull.auth.passwords import GuessBrake, PasswordChecker, VerifiedPasswords
from twinhull.auth.service import Guard
from twinhull.catalog.accounts import create_admin
from twinhull.kit.clock import ManualClock, SystemClock
from twinhull.metadata.freshness import Freshness
from twinhull.metadata.schema import metadata
from twinhull.metadata.sqlite import SqliteDatabase
from twinhull.metadata.store import Store
from twinhull.records.kinds import MEMBER, PROJECT, TAG, USER, member_key, tag_key

ROUNDS: Final = 25


class Elsewhere:
    """The other nodes: what they did to these records this node lacks until it asks."""

    def __init__(self) -> None:
        self.did: dict[tuple[str, str], Callable[[], None]] = {}
        self.asked: list[tuple[str, str]] = []

    def is_behind(self) -> bool:
        return bool(self.did)

    async def find(self, kind: str, key: str) -> bool:
        self.asked.append((kind, key))
        done = self.did.get((kind, key))
        if done is not None:
            await asyncio.to_thread(done)
        return done is not None

    async def settle(self) -> None:
        for done in self.did.values():
            await asyncio.to_thread(done)


class Worker:
    """What each worker process has of its own: database connections, the shared page mapped, and caches."""

    def __init__(self, root: Path, executor: ThreadPoolExecutor) -> None:
        self.elsewhere = Elsewhere()
        clock = SystemClock()
        self.store = Store(SqliteDatabase(root / "metadata.db", run_dir=root / "run"), node="n1", slot=0, clock=clock)
        passwords = PasswordChecker(verified=VerifiedPasswords(clock=clock), brake=GuessBrake(clock=clock), executor=executor)
        freshness = Freshness(self.store, executor)
        self.guard = Guard(
            store=self.store, executor=executor, log=freshness, clock=clock, passwords=passwords, peers=self.elsewhere
        )

    async def can_push(self, user: str, project: str) -> bool:
        return "push" in (await self.guard.allowance(await self.guard.subject(user), project)).actions


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[tuple[Worker, Worker]]:
    database = SqliteDatabase(tmp_path / "metadata.db", run_dir=tmp_path / "run")
    with database.write() as connection:
        metadata.create_all(connection)
    database.close()
    with ThreadPoolExecutor(8) as executor:
        made = Worker(tmp_path, executor), Worker(tmp_path, executor)
        with made[0].store.write() as transaction:
            create_admin(transaction, "stored")
            transaction.create(USER, "alice", {"password_hash": "stored"}, number=transaction.next_id(USER))
        yield made
    for worker in made:
        worker.store.close()


def set_membership(worker: Worker, role: int | None) -> None:
    key = member_key("team", "u", "alice")
    with worker.store.write() as transaction:
        if role is None:
            transaction.delete(MEMBER, key)
        elif transaction.values(MEMBER, key) is None:
            transaction.create(MEMBER, key, {"role": role}, number=transaction.next_id(MEMBER))
        else:
            transaction.put(MEMBER, key, {"role": role})


def push(worker: Worker, number: int) -> None:
    with worker.store.write() as transaction:
        transaction.create(TAG, tag_key("team/app", f"t{number}"), {"target": {"digest": "d"}})


async def keep_pushing(worker: Worker, start: int, stop: asyncio.Event) -> None:
    for number in count(start):
        if stop.is_set():
            return
        await asyncio.to_thread(push, worker, number)


async def keep_asking(worker: Worker, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await worker.can_push("alice", "team")
        await asyncio.sleep(0)


async def test_revocation_by_one_worker_holds_in_the_other_at_once(workers: tuple[Worker, Worker]) -> None:
    a, b = workers
    with a.store.write() as transaction:
        transaction.create(PROJECT, "team", {"metadata.public": "false"}, number=transaction.next_id(PROJECT))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as busy:
        for start, worker in enumerate(workers):
            busy.create_task(keep_pushing(worker, start * 1_000_000, stop))
            busy.create_task(keep_asking(worker, stop))
        for number in range(ROUNDS):
            writer, reader = (a, b) if number % 2 else (b, a)
            for role in (2, 3, 4, None):
                await asyncio.to_thread(set_membership, writer, role)
                expected = role in (2, 4)
                assert await reader.can_push("alice", "team") is expected
                assert await writer.can_push("alice", "team") is expected
        stop.set()


async def test_user_deleted_by_one_worker_is_unknown_to_the_other_at_once(workers: tuple[Worker, Worker]) -> None:
    a, b = workers
    assert await b.guard.subject("alice") is not None
    with a.store.write() as transaction:
        transaction.delete(USER, "alice")
    assert await b.guard.subject("alice") is None
    with a.store.write() as transaction:
        transaction.create(USER, "alice", {"password_hash": "another"}, number=transaction.next_id(USER))
    found = await b.guard.subject("alice")
    assert found is not None
    assert found.stored == "another"


async def test_rights_that_were_taken_away_elsewhere_are_gone_before_the_node_has_caught_up(
    workers: tuple[Worker, Worker],
) -> None:
    a, b = workers
    with a.store.write() as transaction:
        transaction.create(PROJECT, "team", {"metadata.public": "false"}, number=transaction.next_id(PROJECT))
    set_membership(a, 2)
    assert await b.can_push("alice", "team")
    alice = b.guard.known_subject("alice")
    assert alice is not None
    assert b.guard.known_allowance(alice, "team") is not None

    b.elsewhere.did["member", member_key("team", "u", "alice")] = lambda: set_membership(a, None)
    assert b.guard.known_allowance(alice, "team") is None
    assert not await b.can_push("alice", "team")

    def delete_alice() -> None:
        with a.store.write() as transaction:
            transaction.delete(USER, "alice")

    b.elsewhere.did["user", "alice"] = delete_alice
    assert b.guard.known_subject("alice") is None
    assert await b.guard.subject("alice") is None


async def test_project_that_was_closed_elsewhere_is_not_listed_before_the_node_has_caught_up(
    workers: tuple[Worker, Worker],
) -> None:
    a, b = workers
    with a.store.write() as transaction:
        transaction.create(PROJECT, "team", {"metadata.public": "false"}, number=transaction.next_id(PROJECT))
    set_membership(a, 2)
    alice = await b.guard.subject("alice")
    assert await b.guard.visible_projects(alice) == frozenset({"team"})
    b.elsewhere.did["member", member_key("team", "u", "alice")] = lambda: set_membership(a, None)
    assert await b.guard.visible_projects(alice) == frozenset()


async def test_peers_are_asked_once_about_what_is_not_there(workers: tuple[Worker, Worker]) -> None:
    _, b = workers
    b.elsewhere.did["user", "somebody"] = lambda: None
    assert await b.guard.subject("nobody") is None
    assert not (await b.guard.allowance(None, "nothing")).actions
    assert b.elsewhere.asked == [("user", "nobody"), ("project", "nothing")]


class Directory:
    """Knows one password, until it is changed."""

    def __init__(self, password: str) -> None:
        self.password = password

    async def is_by_directory(self) -> bool:
        return True

    async def by_directory(self, name: str, password: str) -> str | None:
        return name if password == self.password else None


async def test_password_that_the_directory_knows_no_more_is_refused_however_often_it_is_used(
    workers: tuple[Worker, Worker],
) -> None:
    a, _ = workers
    clock = ManualClock()
    with ThreadPoolExecutor(1) as executor:
        passwords = PasswordChecker(
            verified=VerifiedPasswords(clock=clock, ttl_s=120), brake=GuessBrake(clock=clock), executor=executor
        )
        guard = Guard(store=a.store, executor=executor, log=Freshness(a.store, executor), clock=clock, passwords=passwords)
        directory = Directory("right")
        guard.vouched_by(directory)
        assert await guard.by_password("alice", "right", address="192.0.2.1") is not None
        directory.password = "another"
        clock.advance(100_000)
        assert await guard.by_password("alice", "right", address="192.0.2.1") is not None
        clock.advance(100_000)
        assert await guard.by_password("alice", "right", address="192.0.2.1") is None
