"""Nodes that come and go while everything else goes on: what the peer port and the command line's orders do."""

from __future__ import annotations

import asyncio
from typing import Final

from tools.simulate.host import Host
from tools.simulate.world import World
from twinhull.kit.errors import TwinhullError
from twinhull.metadata import members
from twinhull.records.kinds import NODE
from twinhull.replication.joining import Admitted, Doorkeeper
from twinhull.replication.threads import in_thread
from twinhull.replication.trust import INVITE_LIFETIME_MS, JoinRequest, secret_hash

_JOIN_S: Final = 15.0
_STILL_SERVING_S: Final = 2.0
_LOOKS: Final = 6
_HEARD_S: Final = 1.5
# More than clocks are ever set wrong.
_LATER_MS: Final = 2 * 3_600_000


async def join(world: World, member: Host) -> None:
    """Invite a new node at this member, and start it; it comes to nothing when the line breaks."""
    if member.agent is None:
        return
    newcomer = world.new_host(joins=True)
    newcomer.is_newcomer = True
    doorkeeper = Doorkeeper(member.trust, member.store(), member.clock)
    engine = member.engine

    async def admit() -> Admitted:
        secret = member.trust.new_invite("").secret
        await in_thread(engine.executor, _remember_invite, member, secret)
        wish = JoinRequest(
            secret=secret,
            node=newcomer.node,
            name=newcomer.name,
            address=f"{newcomer.name}:1",
            url="",
            signing_request_pem="",
            token_key={},
        )
        # As peer/routes.py does.
        admitted = await in_thread(engine.executor, doorkeeper.admit, wish)
        engine.wrote(admitted.seq)
        await engine.neighbours.refresh()
        await engine.acknowledgements.wait(admitted.seq)
        return admitted

    try:
        admitted = await world.network.ask(newcomer.node, member, admit, timeout_s=_JOIN_S)
    except TwinhullError as error:
        world.trace.add(f"join failed: {error}")
        world.drop(newcomer)
        return
    newcomer.trust.adopt(admitted.answer, newcomer.node, newcomer.name)
    world.hosts.append(newcomer)
    world.trace.add(f"{newcomer.name} joined at {member.name}")
    newcomer.start()


def _remember_invite(member: Host, secret: str) -> None:
    with member.store().write() as transaction:
        members.add_invite(transaction.connection, secret_hash(secret), member.clock.unix_ms() + INVITE_LIFETIME_MS)


async def leave(world: World, host: Host) -> None:
    """Let a node tell the others that it leaves, and switch it off."""
    host.is_leaving = True
    await _delete(host, host.node)
    world.drop(host)


async def remove(world: World, host: Host) -> None:
    """Take a node out at another one; it serves on for a while before somebody switches it off."""
    other = world.pick(lambda one: one is not host and one.is_serving and one.trust.is_ready())
    if other is None:
        return
    host.is_leaving = True
    await _delete(other, host.node)
    await asyncio.sleep(world.chance.random() * _STILL_SERVING_S)
    world.drop(host)


async def _delete(at: Host, gone: str) -> None:
    """Delete a member's record at a node, as its agent does when it is told to."""
    agent, engine = at.agent, at.engine
    if agent is None or not agent.alive:
        return

    def delete() -> int:
        with engine.store.write() as transaction:
            transaction.delete(NODE, gone)
        return transaction.seq

    async def run() -> None:
        try:
            seq = await in_thread(engine.executor, delete)
        except TwinhullError:
            # Its disk is full: nothing comes of it.
            return
        engine.wrote(seq)
        await engine.acknowledgements.wait(seq)
        await engine.neighbours.refresh()

    await agent.run(run())


async def calm(world: World) -> None:
    """Put everything right: machines on, clocks right and late enough for all stamps, members that have no machine removed."""
    for host in world.hosts:
        host.clock.off_ms = _LATER_MS
    for host in list(world.hosts):
        if not host.is_serving:
            host.kill(power=False)
            host.start()
    for _ in range(_LOOKS):
        await asyncio.sleep(_HEARD_S)
        if all(host.is_serving for host in world.hosts):
            break
    _drop_strangers(world)
    known = {host.node for host in world.hosts}
    for host in world.hosts:
        for node in host.others():
            if node.id not in known:
                await _delete(host, node.id)


def _drop_strangers(world: World) -> None:
    """Take away the machines that do not know the others, or that the others do not know.

    Who let a node in was gone for good, or had forgotten it when an old copy was put back, before the others heard of it: then
    nobody can tell it from an impostor, and it has to be invited anew.
    """
    known = {host.node: {node.id for node in host.others()} for host in world.hosts}
    circles: list[set[str]] = []
    for host in world.hosts:
        circle, due = {host.node}, [host.node]
        while due:
            one = due.pop()
            friends = {other for other in known[one] if other in known and one in known[other]} - circle
            circle |= friends
            due.extend(sorted(friends))
        circles.append(circle)
    largest = max(circles, key=len, default=set())
    for host in list(world.hosts):
        if host.node not in largest:
            world.trace.add(f"{host.name} is a stranger")
            world.count("nodes that nobody knew any more")
            world.drop(host)
