"""Clients that push, pull and administer, each one thing after the other, on whichever node answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tools.simulate import operations
from tools.simulate.facts import OPERATION
from tools.simulate.host import Host
from tools.simulate.operations import Image, Write
from tools.simulate.promises import Memory, judge_level, judge_right
from tools.simulate.worker import Worker
from tools.simulate.world import ROBOTS, TEAM, USERS, Asked, World
from twinhull.kit.errors import TwinhullError
from twinhull.records.kinds import MEMBER, ROBOT, USER, member_key, tag_key

T = TypeVar("T")

REPOSITORIES: Final = ("library/app", "team/app")
TAGS: Final = ("v1", "v2", "latest")
# Harbor's numbers; a developer or more may push.
ROLES: Final = (1, 4, 2, 3, 5)


class Client:
    """One client."""

    def __init__(self, world: World) -> None:
        """Know the cluster's addresses."""
        self._world = world
        self._chance = world.chance
        self._pushed: list[tuple[str, Image]] = []
        self._memory = Memory(world)

    async def run(self, until_s: float) -> None:
        """Do one thing after the other."""
        actions: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._push, 25),
            (self._delete_tag, 6),
            (self._delete_manifest, 5),
            (self._pull, 20),
            (self._change_user, 12),
            (self._change_member, 20),
            (self._change_robot, 8),
            (self._look_at_rights, 10),
        ]
        choices, weights = [action for action, _ in actions], [weight for _, weight in actions]
        while self._world.loop.time() < until_s:
            await asyncio.sleep(self._chance.expovariate(1 / self._world.client_pause_s))
            await self._chance.choices(choices, weights)[0]()

    def _host(self) -> Host | None:
        serving = self._world.serving()
        return self._chance.choice(serving) if serving else None

    async def _write(self, name: str, write: Write, host: Host | None = None) -> Host | None:
        """Do something on some node; return which one if it said that it was done."""
        world, host = self._world, host or self._host()
        if host is None or host.worker is None:
            return None
        operation = world.next_operation()
        OPERATION.set(operation)
        world.trace.add(f"operation {operation}: {name} at {host.name}")
        began_s = world.loop.time()
        try:
            level = await host.worker.request(write)
        except TwinhullError as error:
            world.count(f"{name}: refused")
            world.trace.add(f"operation {operation} refused: {error}")
            return None
        except (ConnectionError, TimeoutError) as error:
            world.count(f"{name}: no answer")
            world.trace.add(f"operation {operation} broke: {error}")
            return None
        finally:
            OPERATION.set(0)
        world.count(f"{name}: {level}")
        world.trace.add(f"operation {operation} done: {level}")
        judge_level(world, level, host, began_s)
        world.ledger.acked(operation, level, world.loop.time())
        self._memory.wrote(world.ledger.by_operation.get(operation, ()), host)
        return host

    async def _read(self, read: Callable[[Worker], Awaitable[T]], host: Host) -> tuple[T, Asked] | None:
        """Return the answer and what goes with it, None if there is none."""
        if host.worker is None:
            return None
        began_s, sure_of = self._world.loop.time(), host.vouched_for()
        try:
            answer = await host.worker.request(read)
        except (TwinhullError, ConnectionError, TimeoutError):
            return None
        return answer, Asked(host, began_s, sure_of & host.vouched_for())

    # -- content ---------------------------------------------------------------------------------------------------

    async def _push(self) -> None:
        if self._pushed and self._chance.random() < 0.3:
            repository, one = self._chance.choice(self._pushed)
        else:
            repository = self._chance.choice(REPOSITORIES)
            one = operations.image(f"image {self._world.next_operation()}")
        tag = self._chance.choice(TAGS)
        host = await self._write("push blob", lambda worker: operations.push_blob(worker, repository, one))
        if host is None:
            return
        # The requests of one push may land on different nodes.
        other = host if self._chance.random() < 0.6 else None
        if await self._write("push", lambda worker: operations.push_manifest(worker, repository, one, tag), other):
            self._pushed.append((repository, one))
            await self._pull_tag(repository, tag)

    async def _delete_tag(self) -> None:
        repository, tag = self._chance.choice(REPOSITORIES), self._chance.choice(TAGS)
        if await self._write("delete tag", lambda worker: operations.delete_content(worker, repository, tag)):
            await self._pull_tag(repository, tag)

    async def _delete_manifest(self) -> None:
        if self._pushed:
            repository, one = self._chance.choice(self._pushed)
            await self._write("delete manifest", lambda worker: operations.delete_content(worker, repository, one.digest))

    async def _pull(self) -> None:
        await self._pull_tag(self._chance.choice(REPOSITORIES), self._chance.choice(TAGS))

    async def _pull_tag(self, repository: str, tag: str) -> None:
        host = self._host()
        if host is not None and (found := await self._read(lambda worker: operations.pull(worker, repository, tag), host)):
            self._world.trace.add(f"pull {repository}:{tag} at {host.name}: {found[0]}")
            self._world.count("pull")
            self._memory.read(tag_key(repository, tag), *found)

    # -- accounts --------------------------------------------------------------------------------------------------

    async def _change_user(self) -> None:
        name, draw = self._chance.choice(USERS), self._chance.random()
        if draw < 0.5:
            await self._write("create user", lambda worker: operations.create_user(worker, name))
        elif draw < 0.7:
            await self._write("delete user", lambda worker: operations.delete_user(worker, name))
        else:
            sysadmin = self._chance.random() < 0.5
            await self._write("set sysadmin", lambda worker: operations.set_sysadmin(worker, name, sysadmin=sysadmin))
        await self._look_at_user(name)

    async def _change_member(self) -> None:
        name, role, draw = self._chance.choice(USERS), self._chance.choice(ROLES), self._chance.random()
        if draw < 0.3:
            await self._write("add member", lambda worker: operations.add_member(worker, TEAM, name, role))
        elif draw < 0.9:
            await self._write("set role", lambda worker: operations.set_role(worker, TEAM, name, role))
        else:
            await self._write("remove member", lambda worker: operations.remove_member(worker, TEAM, name))
        await self._look_at_user(name)

    async def _change_robot(self) -> None:
        name, draw = self._chance.choice(ROBOTS), self._chance.random()
        key = f"{TEAM}+{name}"
        if draw < 0.4:
            await self._write("create robot", lambda worker: operations.create_robot(worker, name))
        elif draw < 0.8:
            disable = self._chance.random() < 0.5
            await self._write("disable robot", lambda worker: operations.set_disabled(worker, key, disable=disable))
        else:
            await self._write("delete robot", lambda worker: operations.delete_robot(worker, key))
        await self._look_at_robot(name)

    async def _look_at_rights(self) -> None:
        if self._chance.random() < 0.7:
            await self._look_at_user(self._chance.choice(USERS))
        else:
            await self._look_at_robot(self._chance.choice(ROBOTS))

    async def _look_at_user(self, name: str) -> None:
        host = self._host()
        if host is not None:
            self._world.count("look at rights")
            found = await self._read(lambda worker: operations.may_push(worker, name, TEAM), host)
            if found is not None and found[0]:
                judge_right(self._world, MEMBER.name, member_key(TEAM, "u", name), found[1])
                judge_right(self._world, USER.name, name, found[1])

    async def _look_at_robot(self, name: str) -> None:
        host = self._host()
        if host is not None:
            self._world.count("look at rights")
            key = f"{TEAM}+{name}"
            found = await self._read(lambda worker: operations.is_in_force(worker, f"robot${key}"), host)
            if found is not None and found[0]:
                judge_right(self._world, ROBOT.name, key, found[1])
