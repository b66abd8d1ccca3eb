"""A cluster of real nodes on hosts of their own, and what a fault scenario does to it: cut, kill, freeze, heal, judge."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.inspection import read_all
from tests.support.line import Line
from tests.support.network import HUB_ADDRESS, Network, running_network
from tests.support.office import Office
from tests.support.processes import last_lines
from tests.support.promises import Disturbance, History, Verdict, pairs_of
from tests.support.real_node import RealNode, eventually
from tests.support.traffic import running_clients
from twinhull.kit.clock import SystemClock

NAMES: Final = ("a", "b", "c")
# A host without a node, for one that joins.
SPARE: Final = "d"
CLIENT_PORT: Final = 8080
PEER_PORT: Final = 8280
# Promised: so long after the last repair all nodes are equal.
HEALING_MAX_S: Final = 10.0
_SYNC_LIMIT_S: Final = 60.0
# What a node says of itself in a failure report shall not be hidden by what clients asked.
_ENVIRONMENT: Final = {
    "TWINHULL_LOG_ACCESS": "false",
    # Clients say for themselves where they come from: one who tries a revoked password does not slow the others down.
    "TWINHULL_TRUSTED_PROXIES": f"127.0.0.0/8,{HUB_ADDRESS}/32",
}
_LOOK_S: Final = 0.05


class Site:
    """The hosts, and the nodes on them: a, b and c in one cluster."""

    def __init__(self, directory: Path, network: Network) -> None:
        """Take a folder for the nodes' data, and the hosts."""
        self.directory = directory
        self.network = network
        self.nodes: dict[str, RealNode] = {}

    def add(self, name: str, environment: Mapping[str, str] | None = None) -> RealNode:
        """Return a new node, not started yet, on the host of that name."""
        host = self.network.hosts[name]
        node = RealNode(
            name=name,
            directory=self.directory / name,
            environment=_ENVIRONMENT | dict(environment or {}),
            address=f"{host.address}:{CLIENT_PORT}",
            cluster_address=f"{host.address}:{PEER_PORT}",
            prefix=host.prefix,
        )
        self.nodes[name] = node
        return node

    def start(self) -> None:
        """Found the cluster and let the others join."""
        first, *others = [self.add(name) for name in NAMES]
        first.start()
        for node in others:
            node.start(first.invite())
        eventually(self.is_equal, limit_s=_SYNC_LIMIT_S, what="the nodes are equal at the start")

    def stop(self) -> None:
        """End all nodes."""
        for node in self.nodes.values():
            with contextlib.suppress(ProcessLookupError, AssertionError):
                node.kill()

    def is_equal(self) -> bool:
        """Tell whether every node finds itself equal to every other, bytes of blobs included."""
        return all(bool(node.ask("POST", "/verify")["equal"]) for node in self.nodes.values())

    def differences(self) -> str:
        """Return what each node finds, and the ends of their logs."""
        told = []
        for node in self.nodes.values():
            try:
                found = str(node.ask("POST", "/verify"))
            except (OSError, AssertionError) as error:
                found = repr(error)
            told.append(f"== {node.name}: {found}\n{last_lines(node.log, 25)}")
        return "\n".join(told)


@contextlib.contextmanager
def running_site(directory: Path) -> Iterator[Site]:
    """Run three nodes on hosts of their own for as long as the block lasts."""
    with running_network((*NAMES, SPARE)) as network:
        site = Site(directory, network)
        try:
            site.start()
            yield site
        finally:
            site.stop()
            shutil.rmtree(directory, ignore_errors=True)


@dataclass(slots=True, kw_only=True)
class Act:
    """One scenario while it is played: the means to disturb the site, what was done, and what came of it."""

    site: Site
    rng: random.Random
    office: Office
    # How long the longest scenario goes on.
    minutes: float = 10.0
    clocks_agree: bool = True
    # What was done, in words.
    story: list[str] = field(default_factory=list)
    healed_s: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)
    _disturbances: list[Disturbance] = field(default_factory=list)
    _afterwards: list[Callable[[], None]] = field(default_factory=list)
    _clock: SystemClock = field(default_factory=SystemClock)

    def node(self, name: str) -> RealNode:
        """Return a node by its name."""
        return self.site.nodes[name]

    @property
    def nodes(self) -> list[RealNode]:
        """Return all nodes."""
        return list(self.site.nodes.values())

    def did(self, text: str) -> None:
        """Note what was done."""
        self.story.append(text)

    def afterwards(self, undo: Callable[[], None]) -> None:
        """Undo something when the scenario is over, whatever became of it; the last that was done comes first."""
        self._afterwards.append(undo)

    def clean_up(self) -> None:
        """Undo what was done to the nodes themselves."""
        while self._afterwards:
            self._afterwards.pop()()

    @contextlib.contextmanager
    def clients(self, count: int = 3, *, pause_s: float = 0.02) -> Iterator[None]:
        """Let clients work at all nodes for as long as the block lasts."""
        with running_clients(self.office, self.rng, count=count, pause_s=pause_s):
            yield

    def go_on(self, seconds: float) -> None:
        """Let things take their course for so long."""
        time.sleep(seconds)

    # -- links ---------------------------------------------------------------------------------------------------------

    def disturb(self, pairs: frozenset[frozenset[str]]) -> None:
        """Note that from now until everything has healed these pairs of nodes need not know of each other's writes."""
        self._disturbances.append(Disturbance(pairs=pairs, began_s=self._clock.monotonic_s()))

    def forgets(self, name: str) -> None:
        """Note that a node was put back to what it was, and knows what it wrote itself only from the others."""
        self.disturb(frozenset({frozenset((name,))}))

    def disturb_node(self, name: str) -> None:
        """Note the same of one node and every other."""
        self.disturb(pairs_of(self.site.nodes, lambda one, other: name in (one, other)))

    def cut(self, one: str, other: str) -> None:
        """Let nothing pass between two nodes."""
        self.disturb(frozenset({frozenset((one, other))}))
        self.site.network.cut(one, other)
        self.did(f"cut {one}-{other}")

    def cut_one_way(self, source: str, target: str) -> None:
        """Let nothing that one node sends reach the other."""
        self.disturb(frozenset({frozenset((source, target))}))
        self.site.network.cut_one_way(source, target)
        self.did(f"cut {source}->{target}")

    def part(self, *groups: str) -> None:
        """Let nothing pass between groups of nodes, each written as the letters of its members: `part("ab", "c")`."""
        of = {name: group for group in groups for name in group}
        apart = pairs_of(of, lambda one, other: of[one] != of[other])
        self.disturb(apart)
        for pair in apart:
            self.site.network.cut(*sorted(pair))
        self.did(f"part {' | '.join(groups)}")

    def delay(self, one: str, other: str, seconds: float) -> Line:
        """Let everything between two nodes take so long each way, and return the line from the first to the second."""
        self.disturb(frozenset({frozenset((one, other))}))
        lines = [self.site.network.reroute(*way, PEER_PORT) for way in ((one, other), (other, one))]
        for line in lines:
            line.delay_s = seconds
        self.site.network.reset(one, other)
        eventually(lambda: self._hear_each_other(one, other), what=f"{one} and {other} hear each other over the new line")
        self.calm()
        if seconds:
            self.did(f"delay everything between {one} and {other} by {seconds * 1000:.0f} ms")
        return lines[0]

    def _hear_each_other(self, one: str, other: str) -> bool:
        first, second = self.node(one), self.node(other)
        return first.state_of(second) == second.state_of(first) == "in sync"

    def calm(self) -> None:
        """Note that all nodes hear each other again."""
        now_s = self._clock.monotonic_s()
        self._disturbances = [
            Disturbance(pairs=one.pairs, began_s=one.began_s, ended_s=min(one.ended_s, now_s)) for one in self._disturbances
        ]

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """Kill all processes of a node, as a power failure does."""
        self.node(name).kill()
        self.did(f"kill {name}")

    def restart(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a node that does not run; with another environment until the scenario is over."""
        node = self.node(name)
        if environment is not None:
            before = node.environment
            node.environment = {**before, **environment}
            self.afterwards(lambda: self._run_as_before(node, before))
        node.start()

    def _run_as_before(self, node: RealNode, environment: Mapping[str, str]) -> None:
        node.stop()
        node.environment = environment
        node.start()

    def process_of(self, name: str, title: str) -> int:
        """Return a process of a node, "agent" or "worker", as soon as there is one."""
        return eventually(lambda: self._find_process(name, title), what=f"{name} has its {title}")

    def _find_process(self, name: str, title: str) -> int:
        for pid in self.node(name).pids():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").startswith(f"twinhull {title}"):
                    return pid
        return 0

    def kill_process(self, name: str, title: str) -> None:
        """Kill one process of a node."""
        os.kill(self.process_of(name, title), signal.SIGKILL)
        self.did(f"kill the {title} of {name}")

    def freeze_process(self, name: str, title: str, seconds: float) -> None:
        """Stop one process of a node where it is for so long."""
        pid = self.process_of(name, title)
        self.did(f"freeze the {title} of {name} for {seconds:.1f} s")
        os.kill(pid, signal.SIGSTOP)
        try:
            self.go_on(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)

    def freeze(self, name: str, seconds: float) -> None:
        """Stop a node's processes where they are for so long."""
        self.did(f"freeze {name} for {seconds:.1f} s")
        self.node(name).freeze()
        try:
            self.go_on(seconds)
        finally:
            self.node(name).thaw()

    # -- the end -------------------------------------------------------------------------------------------------------

    def heal(self, limit_s: float = HEALING_MAX_S) -> None:
        """Repair everything and wait until all nodes are equal; fail when that takes longer than the limit."""
        self._repair()
        began_s = self._clock.monotonic_s()
        while not self._looks_equal():
            if self._clock.monotonic_s() - began_s > _SYNC_LIMIT_S:
                raise AssertionError(f"not equal within {_SYNC_LIMIT_S:.0f} s\n{self.site.differences()}")
            time.sleep(_LOOK_S)
        self.healed_s = max(self.healed_s, self._clock.monotonic_s() - began_s)
        self.calm()
        assert self.healed_s <= limit_s, f"equal only {self.healed_s:.1f} s after the last repair"

    def rest(self) -> None:
        """Repair everything while clients go on, and wait until each node has seen each other in sync once."""
        self._repair()
        for one in self.nodes:
            for other in self.nodes:
                if one is not other:
                    eventually(
                        lambda one=one, other=other: one.state_of(other) == "in sync",  # type: ignore[misc]
                        limit_s=_SYNC_LIMIT_S,
                        what=f"{one.name} sees {other.name} in sync",
                    )
        self.calm()

    def _repair(self) -> None:
        """Repair links, and start what does not run."""
        self.site.network.heal()
        for node in self.nodes:
            if node.running.poll() is None:
                node.thaw()
            else:
                node.start(wait=False)
        for node in self.nodes:
            node.wait_ready()

    def _looks_equal(self) -> bool:
        try:
            return self.site.is_equal()
        except (OSError, AssertionError):
            return False

    def judge(self) -> None:
        """Look at everything on every node, and fail if a promise was broken."""
        readings = {node.name: read_all(self.office, node) for node in self.nodes}
        history = History(self.office.operations, self._disturbances, clocks_agree=self.clocks_agree)
        self.verdict = history.judge(readings)
        assert self.verdict.kept, "\n".join([str(self.verdict), *self.verdict.broken[:20]])


def new_act(site: Site, seed: str, *, minutes: float) -> Act:
    """Return an act at the site, with an office of its own that is open."""
    office = Office(list(site.nodes.values()), seed)
    office.open(next(iter(site.nodes.values())))
    return Act(site=site, rng=random.Random(seed), office=office, minutes=minutes)


def start_over(site: Site) -> None:
    """Make the site anew: other nodes, with nothing in them."""
    site.stop()
    site.network.heal()
    # Those that have left are not among its nodes any more.
    for name in (*NAMES, SPARE):
        if (site.directory / name).exists():
            shutil.rmtree(site.directory / name)
    site.nodes.clear()
    site.start()
