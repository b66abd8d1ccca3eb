"""What one worker process writes about accounts holds in the others at once, whatever else is written meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from twinhull.auth.passwords import GuessBrake, PasswordChecker, VerifiedPasswords
from twinhull.auth.service import Guard
from twinhull.catalog.accounts import create_admin
from twinhull.catalog.projects import NewProject, Projects
from twinhull.kit.clock import SystemClock
from twinhull.metadata.freshness import Freshness
from twinhull.metadata.schema import metadata
from twinhull.metadata.sqlite import SqliteDatabase
from twinhull.metadata.store import Store
from twinhull.records.kinds import MEMBER, TAG, USER, member_key, tag_key

ROUNDS: Final = 60


class Worker:
    """What each worker process has of its own: database connections, the shared page mapped, and caches."""

    def __init__(self, root: Path, executor: ThreadPoolExecutor) -> None:
        clock = SystemClock()
        self.store = Store(SqliteDatabase(root / "metadata.db", run_dir=root / "run"), node="n1", slot=0, clock=clock)
        passwords = PasswordChecker(verified=VerifiedPasswords(clock=clock), brake=GuessBrake(clock=clock), executor=executor)
        freshness = Freshness(self.store, executor)
        self.guard = Guard(store=self.store, executor=executor, log=freshness, clock=clock, passwords=passwords)

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


async def test_revocation_by_one_worker_holds_in_the_other_at_once(workers: tuple[Worker, Worker]) -> None:
    a, b = workers
    with ThreadPoolExecutor(8) as executor:
        await Projects(store=a.store, executor=executor).create(NewProject(name="team", metadata={}, owner="admin"))
        stop = asyncio.Event()

        def push(worker: Worker, number: int) -> None:
            with worker.store.write() as transaction:
                transaction.create(TAG, tag_key("team/app", f"t{number}"), {"target": {"digest": "d"}})

        async def keep_pushing(worker: Worker, start: int) -> int:
            number = start
            while not stop.is_set():
                await asyncio.get_running_loop().run_in_executor(executor, push, worker, number)
                number += 1
            return number - start

        async def keep_asking(worker: Worker) -> None:
            while not stop.is_set():
                await worker.can_push("alice", "team")
                await asyncio.sleep(0)

        def set_membership(worker: Worker, *, role: int | None) -> None:
            key = member_key("team", "u", "alice")
            with worker.store.write() as transaction:
                if role is None:
                    transaction.delete(MEMBER, key)
                elif transaction.values(MEMBER, key) is None:
                    transaction.create(MEMBER, key, {"role": role}, number=transaction.next_id(MEMBER))
                else:
                    transaction.put(MEMBER, key, {"role": role})

        busy = [
            asyncio.create_task(keep_pushing(a, 0)),
            asyncio.create_task(keep_pushing(b, 1_000_000)),
            asyncio.create_task(keep_asking(a)),
            asyncio.create_task(keep_asking(b)),
        ]
        for number in range(ROUNDS):
            writer, reader = (a, b) if number % 2 else (b, a)
            for role in (2, 3, 4, None):
                await asyncio.get_running_loop().run_in_executor(
                    executor, lambda worker=writer, role=role: set_membership(worker, role=role)
                )
                expected = role in (2, 4)
                assert await reader.can_push("alice", "team") is expected
                assert await writer.can_push("alice", "team") is expected
        stop.set()
        await asyncio.gather(*busy)


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
