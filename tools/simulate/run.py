"""One seed from its beginning to its judgement."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tools.simulate.checks import agree, judge, lacking
from tools.simulate.clients import Client
from tools.simulate.loop import VirtualLoop
from tools.simulate.membership import calm
from tools.simulate.mutants import mutated
from tools.simulate.storm import Storm
from tools.simulate.world import World

_CONVERGE_S: Final = 60.0
# Every pair talks all the time: many nodes cost much, and show little that three don't.
_NODES: Final = (2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 5, 6, 7)
# Where files are no burden to a disk.
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the folder in it has a name of its own


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a seed."""

    seed: int
    nodes: int
    trace: str
    failures: list[str]
    counts: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)


def run_seed(seed: int, *, mutant: str = "", listen: Callable[[str], None] | None = None) -> Outcome:
    """Run the simulation of that seed, and have somebody listen to what happens."""
    chance = random.Random(seed)  # noqa: S311 - a seed shall always draw the same
    loop = VirtualLoop(chance)
    with mutated(mutant), tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        world = World(loop, chance, Path(folder))
        world.trace.listen = listen
        try:
            loop.run_until_complete(_story(world))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the seed's outcome
            world.fail(f"the simulation broke: {error!r}")
        trace, problems = world.trace.digest(), list(loop.problems)
        loop.end()
        world.discard()
    return Outcome(
        seed=seed,
        nodes=len(world.hosts),
        trace=trace,
        failures=world.failures + world.ledger.wrong + problems,
        counts=world.counts,
        faults=world.network.counts,
    )


async def _story(world: World) -> None:
    world.found(world.chance.choice(_NODES))
    clients = [Client(world) for _ in range(world.chance.randint(2, 4))]
    await asyncio.sleep(2)
    storm = Storm(world)
    until_s = world.loop.time() + world.chance.uniform(4, 16)
    await asyncio.gather(storm.rage(until_s), *(client.run(until_s) for client in clients))
    await calm(world)
    if await _agree(world):
        judge(world)


async def _agree(world: World) -> bool:
    until_s = world.loop.time() + _CONVERGE_S
    had_same = False
    while world.loop.time() < until_s:
        if all(host.is_serving and host.trust.is_ready() for host in world.hosts):
            if agree(world.hosts):
                return True
            has_same = all(host.vector() == world.hosts[0].vector() for host in world.hosts)
            if has_same and had_same and not lacking(world.hosts):
                # No log carries what a node was told in answer to a question, and its writer took with it for good.
                world.count("differences mended by comparison")
                if not world.lost_a_disk():
                    world.fail("the nodes have all of each other's logs, and are not equal")
                await _mend(world)
                # That takes as long as there are pairs of nodes.
                until_s = world.loop.time() + _CONVERGE_S
            had_same = has_same
        await asyncio.sleep(0.5)
    vectors = {host.name: (host.is_serving, host.trust.is_ready(), host.vector()) for host in world.hosts}
    world.fail(f"the nodes do not agree: {vectors} {lacking(world.hosts)[:3]}")
    return False


async def _mend(world: World) -> None:
    """Let each node compare itself with each other one, as they do by a schedule."""
    for host in world.hosts:
        for neighbour in host.engine.neighbours.all():
            if host.agent is not None:
                await host.agent.run(host.listening.mending.compare(neighbour, repair=True))
