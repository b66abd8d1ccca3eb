"""One seed from its beginning to its judgement."""

from __future__ import annotations

import asyncio
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tools.simulate.checks import agree, judge, lacking
from tools.simulate.clients import Client
from tools.simulate.loop import VirtualLoop
from tools.simulate.membership import calm
from tools.simulate.storm import Storm
from tools.simulate.world import World

_CONVERGE_S: Final = 60.0
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


def run_seed(seed: int, *, loud: bool = False) -> Outcome:
    """Run the simulation of that seed."""
    chance = random.Random(seed)  # noqa: S311 - a seed shall always draw the same
    loop = VirtualLoop(chance)
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        world = World(loop, chance, Path(folder))
        if loud:
            world.trace.listen = print
        try:
            loop.run_until_complete(_story(world))
            trace = world.trace.digest()
            world.failures += world.ledger.wrong
            nodes = len(world.hosts)
        finally:
            loop.end()
            world.discard()
    return Outcome(
        seed=seed,
        nodes=nodes,
        trace=trace,
        failures=world.failures + loop.problems,
        counts=world.counts,
        faults=world.network.counts,
    )


async def _story(world: World) -> None:
    world.found(world.chance.choice((2, 2, 2, 3, 3, 3, 4, 5, 6, 7)))
    clients = [Client(world) for _ in range(world.chance.randint(2, 4))]
    await asyncio.sleep(2)
    storm = Storm(world)
    until_s = world.loop.time() + world.chance.uniform(5, 25)
    await asyncio.gather(storm.rage(until_s), *(client.run(until_s) for client in clients))
    await calm(world)
    if await _agree(world):
        judge(world)


async def _agree(world: World) -> bool:
    until_s = world.loop.time() + _CONVERGE_S
    while world.loop.time() < until_s:
        if all(host.is_serving and host.has_state() for host in world.hosts) and agree(world.hosts):
            return True
        await asyncio.sleep(0.5)
    vectors = {host.name: (host.is_serving, host.has_state(), host.vector()) for host in world.hosts}
    world.fail(f"the nodes do not agree: {vectors} {lacking(world.hosts)[:3]}")
    return False
