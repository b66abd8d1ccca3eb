"""What goes wrong, by the seed's draw: lines, machines, clocks, disks, and administrators."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tools.simulate.collecting import collect
from tools.simulate.compacting import compact
from tools.simulate.host import Host
from tools.simulate.membership import join, leave, remove
from tools.simulate.world import World
from twinhull.jobs.garbage_collections import Order

_HOUR_MS: Final = 3_600_000
_NODES_MAX: Final = 7
_SUPERVISOR_S: Final = 0.3
_PROMISED_S: Final = 0.8
_MONTH_S: Final = 30 * 24 * 3600.0
# So many storms are of nodes that come and go alone, and of agents that die unnoticed: other faults hide what they do wrong.
_OF_MEMBERS: Final = 0.12
_OF_DEAD_AGENTS: Final = 0.12
# And of nodes that forget deletions of which those on the other side of a cut have not heard.
_OF_COMPACTIONS: Final = 0.12

Fault = Callable[[], Awaitable[None]]
# What it does, its name, and how often it comes beside the others.
_Kind = tuple[Fault, str, int]


class Storm:
    """Brings one fault after the other, several at a time, until it is over."""

    def __init__(self, world: World) -> None:
        """Draw what this seed is about, so that each kind of fault also comes without the others."""
        self._world = world
        self._chance = world.chance
        self._raging: set[asyncio.Task[None]] = set()
        self._copies: list[tuple[Host, bytes]] = []
        kinds: list[_Kind] = [
            (self._partition, "partition", 20),
            (self._one_way, "one-way partition", 10),
            (self._slow_line, "slow line", 8),
            (self._flapping, "flapping line", 6),
            (self._twisted, "frames doubled and reordered", 6),
            (self._kill_agent, "agent killed", 10),
            (self._kill_agent_out_of_reach, "agent killed out of reach", 6),
            (self._kill_worker, "worker killed", 6),
            (self._kill_node, "node killed", 12),
            (self._power, "power lost", 8),
            (self._clock, "clock set wrong", 8),
            (self._slow_disk, "slow disk", 6),
            (self._full_disk, "full disk", 5),
            (self._restore, "old copy restored", 10),
            (self._pause, "exchange paused", 4),
            (self._collect, "garbage collected", 12),
            (self._compact, "nodes compacted", 12),
            (self._join, "node joins", 8),
            (self._leave, "node leaves", 4),
            (self._remove, "node removed", 4),
        ]
        self._kinds = _drawn(world, kinds)
        # An old copy put back knows things whose deletion was dropped, unless it is younger than deletions are kept.
        has_copies = any(name == "old copy restored" for _, name, _ in self._kinds)
        self._keep_deletions_s = _MONTH_S if has_copies else self._chance.choice((0.0, 0.0, 2.0))
        self._pause_s = self._chance.choice((0.7, 1.5, 3.0))

    async def rage(self, until_s: float) -> None:
        """Let things go wrong until then, and return when all that was begun has ended."""
        world = self._world
        while world.loop.time() < until_s:
            await asyncio.sleep(self._chance.expovariate(1 / self._pause_s))
            if self._chance.random() < 0.3:
                self._take_copy()
            fault, name, _ = self._chance.choices(self._kinds, [weight for _, _, weight in self._kinds])[0]
            world.trace.add(f"fault: {name}")
            world.network.count(name)
            task = world.loop.create_task(_bring(fault))
            self._raging.add(task)
            task.add_done_callback(self._raging.discard)
        while self._raging:
            await asyncio.wait(list(self._raging))

    async def _last(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self._chance.uniform(least_s, most_s))

    # -- lines -----------------------------------------------------------------------------------------------------

    async def _partition(self) -> None:
        hosts = list(self._world.hosts)
        self._chance.shuffle(hosts)
        cut = self._chance.randint(1, max(1, len(hosts) - 1))
        pairs = [(one.node, other.node) for one in hosts[:cut] for other in hosts[cut:]]
        await self._cut([*pairs, *((other, one) for one, other in pairs)], 0.2, 9)

    async def _one_way(self) -> None:
        if len(self._world.hosts) > 1:
            one, other = self._chance.sample(self._world.hosts, 2)
            await self._cut([(one.node, other.node)], 0.2, 9)

    async def _cut(self, pairs: list[tuple[str, str]], least_s: float, most_s: float) -> None:
        for pair in pairs:
            self._world.network.line(*pair).cut()
        await self._last(least_s, most_s)
        for pair in pairs:
            self._world.network.line(*pair).mend()

    async def _slow_line(self) -> None:
        if len(self._world.hosts) > 1:
            one, other = self._chance.sample(self._world.hosts, 2)
            line = self._world.network.line(one.node, other.node)
            line.slow_down()
            await self._last(0.5, 6)
            line.speed_up()

    async def _flapping(self) -> None:
        if len(self._world.hosts) > 1:
            one, other = self._chance.sample(self._world.hosts, 2)
            for _ in range(self._chance.randint(2, 6)):
                await self._cut([(one.node, other.node), (other.node, one.node)], 0.05, 1)
                await self._last(0.05, 1)

    async def _twisted(self) -> None:
        network = self._world.network
        network.twisted, network.twisted_s = 0.15, 1e9
        await self._last(1, 6)
        network.twisted, network.twisted_s = 0.0, self._world.loop.time()

    # -- machines --------------------------------------------------------------------------------------------------

    async def _kill_agent(self) -> None:
        host = self._world.pick(lambda host: host.is_serving)
        if host is not None:
            host.kill_agent()
            # For so long its workers answer alone, if a peer has promised that they may.
            await self._last(0.1, 1.4)
            if host.worker is not None:
                host.start_agent()

    async def _kill_agent_out_of_reach(self) -> None:
        """Kill an agent whose peers can't notice: they go by what it has promised them, and the next one has to keep it."""
        host = self._world.pick(lambda host: host.is_serving and _promised_s(host) > _PROMISED_S)
        if host is None:
            return
        lines = [self._world.network.line(*pair) for other in self._world.hosts for pair in _both_ways(host, other)]
        for line in lines:
            line.cut()
        host.kill_agent()
        await self._last(0.02, 0.2)
        if host.worker is not None:
            host.start_agent()
        await self._last(1, 1.5)
        for line in lines:
            line.mend()

    async def _kill_worker(self) -> None:
        host = self._world.pick(lambda host: host.is_serving)
        if host is not None and host.worker is not None:
            host.worker.process.kill()
            await asyncio.sleep(_SUPERVISOR_S)
            if host.agent is not None and host.agent.alive:
                host.start_worker()

    async def _kill_node(self) -> None:
        await self._down(power=False)

    async def _power(self) -> None:
        await self._down(power=True)

    async def _down(self, *, power: bool, before_start: Callable[[Host], None] = lambda _: None) -> None:
        host = self._world.pick(lambda host: host.is_serving and host.trust.is_ready())
        if host is None:
            return
        host.kill(power=power)
        # A machine takes a while to come up, longer than any promise that was made before lasts.
        await self._last(*((3, 9) if power else (0.1, 5)))
        before_start(host)
        if host in self._world.hosts:
            host.start()

    async def _clock(self) -> None:
        host = self._world.pick()
        if host is not None:
            self._world.clocks_were_wrong = True
            host.clock.off_ms = self._chance.randint(-_HOUR_MS, _HOUR_MS)
            host.note_bad()
            await self._last(0.5, 9)
            host.clock.off_ms = 0
            host.note_bad()

    async def _slow_disk(self) -> None:
        host = self._world.pick()
        if host is not None:
            host.has_slow_disk = True
            await self._last(0.5, 6)
            host.has_slow_disk = False
            host.note_bad()

    async def _full_disk(self) -> None:
        host = self._world.pick()
        if host is not None:
            host.database.is_full = True
            await self._last(0.5, 5)
            host.database.is_full = False
            host.note_bad()

    def _take_copy(self) -> None:
        host = self._world.pick(lambda host: host.trust.is_ready())
        if host is not None:
            self._copies.append((host, host.database.copy()))

    async def _restore(self) -> None:
        known = [(host, content) for host, content in self._copies if host in self._world.hosts and host.is_serving]
        if not known:
            return
        host, content = self._chance.choice(known)
        host.kill(power=False)
        await self._last(0.1, 3)
        # The log position that the processes share gives a copy away that lies where the database lay; the second time it is
        # the copy's own.
        host.database.put_back(content, in_place=host.restored_s < 0 and self._chance.random() < 0.5)
        host.restored_s = self._world.loop.time()
        self._world.lose()
        host.start()

    async def _pause(self) -> None:
        host = self._world.pick(lambda host: host.is_serving)
        if host is not None and host.agent is not None:
            agent, engine = host.agent, host.engine
            engine.pause(None)
            host.is_paused = True
            await self._last(0.5, 5)
            host.is_paused = False
            host.note_bad()
            if agent.alive:
                await agent.run(engine.neighbours.resume(None))

    async def _collect(self) -> None:
        host = self._world.pick(lambda host: host.is_serving and host.trust.is_ready())
        if host is not None and host.agent is not None:
            agent, grace_s = host.agent, self._chance.uniform(0.3, 2)
            order = Order(delete_untagged=self._chance.random() < 0.5, walk=self._chance.random() < 0.3)
            # What the first one finds is given its grace.
            for _ in range(3):
                await agent.run(collect(host, order, grace_s=grace_s))
                await self._last(grace_s, grace_s + 1)
                if not agent.alive:
                    return

    async def _compact(self) -> None:
        # What one has told the others go by, so it takes rounds.
        for _ in range(self._chance.randint(1, 4)):
            for host in [host for host in self._world.serving() if self._chance.random() < 0.8]:
                if host.agent is not None and host.agent.alive:
                    await host.agent.run(compact(host, keep_deletions_s=self._keep_deletions_s))
            await self._last(0.1, 1.5)

    # -- members ---------------------------------------------------------------------------------------------------

    async def _join(self) -> None:
        member = self._world.pick(lambda host: host.is_serving and host.trust.is_ready())
        if member is not None and len(self._world.hosts) < _NODES_MAX:
            await join(self._world, member)

    async def _leave(self) -> None:
        await self._go(leave)

    async def _remove(self) -> None:
        await self._go(remove)

    async def _go(self, how: Callable[[World, Host], Awaitable[None]]) -> None:
        host = self._world.pick(lambda host: host.is_serving and host.trust.is_ready())
        staying = sum(one.trust.is_ready() and not one.is_leaving for one in self._world.hosts)
        if host is not None and not host.is_leaving and staying > 2:
            await how(self._world, host)


def _both_ways(one: Host, other: Host) -> list[tuple[str, str]]:
    return [(one.node, other.node), (other.node, one.node)] if one is not other else []


async def _bring(fault: Fault) -> None:
    await fault()


def _drawn(world: World, kinds: list[_Kind]) -> list[_Kind]:
    """Draw the kinds of faults of a storm."""
    drawn = world.chance.sample(kinds, world.chance.randint(1, len(kinds)))
    draw = world.chance.random()
    if draw < _OF_MEMBERS:
        return kinds[-4:]
    if draw < _OF_MEMBERS + _OF_DEAD_AGENTS:
        # Something must be written and read within the second for which a promise holds.
        world.client_pause_s = 0.15
        return [kind for kind in kinds if kind[1] == "agent killed out of reach"]
    if draw < _OF_MEMBERS + _OF_DEAD_AGENTS + _OF_COMPACTIONS:
        return [kind for kind in kinds if kind[1] in ("partition", "nodes compacted")]
    return drawn


def _promised_s(host: Host) -> float:
    """Return for how long from now on a peer may answer alone, since this node's agent has promised to wait for it."""
    until_s = (peer.promised_until_s for peer in host.engine.acknowledgements.peers())
    return max(until_s, default=0.0) - host.clock.monotonic_s()
