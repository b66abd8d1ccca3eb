"""All machines of one simulated cluster, the lines between them, and what is known of what happened."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tools.simulate.facts import Ledger
from tools.simulate.host import Host
from tools.simulate.loop import VirtualLoop
from tools.simulate.network import Network, Trace
from tools.simulate.trust import SimulatedTrust
from twinhull.catalog.accounts import create_admin
from twinhull.catalog.projects import create_library
from twinhull.metadata.store import Store
from twinhull.records.kinds import NODE, PROJECT
from twinhull.replication.trust import Identity

CLUSTER: Final = "c1"
TEAM: Final = "team"


class World:
    """The cluster."""

    def __init__(self, loop: VirtualLoop, chance: random.Random, folder: Path) -> None:
        """Begin with nothing."""
        self.loop = loop
        self.chance = chance
        self.trace = Trace(loop)
        self.network = Network(loop, chance, self.trace)
        self.ledger = Ledger()
        self.hosts: list[Host] = []
        # Members without a machine any more.
        self.left: list[Host] = []
        self.failures: list[str] = []
        self.counts: dict[str, int] = {}
        self._folder = folder
        self._operations = 0
        self._machines = 0
        self.clocks_were_wrong = False

    def count(self, what: str) -> None:
        """Count something."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def fail(self, message: str) -> None:
        """Note that a promise was broken."""
        self.failures.append(f"{self.loop.time():.3f} {message}")
        self.trace.add(f"FAILED {message}")

    def next_operation(self) -> int:
        """Return a number that no operation has had."""
        self._operations += 1
        return self._operations

    def new_host(self, *, joins: bool = False) -> Host:
        """Return a machine with an empty disk, a member at once unless it joins later."""
        number = self._machines
        self._machines += 1
        node, name = f"{self.chance.getrandbits(24):06x}{number:02x}", f"n{number}"
        trust = SimulatedTrust(Identity(cluster=CLUSTER, node=node, name=name, slot=number), self.chance)
        host = Host(node, name, trust, network=self.network, ledger=self.ledger, folder=self._folder)
        if not joins:
            self.hosts.append(host)
        return host

    def found(self, count: int) -> None:
        """Make a cluster of so many nodes that know each other and have the same state, and start them."""
        hosts = [self.new_host() for _ in range(count)]
        first = hosts[0].store()
        with first.write() as transaction:
            for number, host in enumerate(hosts):
                transaction.create(NODE, host.node, node_fields(host, number))
            create_admin(transaction, "plain Harbor12345")
            create_library(transaction)
            number = transaction.next_id(PROJECT)
            transaction.create(PROJECT, TEAM, {"owner": "admin", "created_ms": 1, "updated_ms": 1}, number=number)
        for host in hosts[1:]:
            copy(first, host.store())
        for host in hosts:
            host.start()

    def discard(self) -> None:
        """Free what the machines hold."""
        for host in [*self.hosts, *self.left]:
            host.database.discard()

    def serving(self) -> list[Host]:
        """Return the machines that take requests and are members with the cluster's state."""
        return [host for host in self.hosts if host.is_serving and host.has_state()]

    def lose(self) -> None:
        """Excuse what no machine has any more."""
        if lost := self.ledger.lose(host.vector() for host in self.hosts):
            self.trace.add(f"{lost} writes lost with the only disks that had them")
            self.counts["writes lost with their disks"] = self.counts.get("writes lost with their disks", 0) + lost

    def drop(self, host: Host) -> None:
        """Take a machine away for good."""
        host.kill(power=True)
        self.left.append(host)
        if host in self.hosts:
            self.hosts.remove(host)
            self.lose()

    def were_joined(self, one: str, other: str, since_s: float) -> bool:
        """Tell whether two nodes, or one with itself, have been well and joined by good lines since then."""
        hosts = [host for host in self.hosts if host.node in (one, other)]
        if len(hosts) < len({one, other}) or any(host.good_since_s() > since_s for host in hosts):
            return False
        if self.clocks_were_wrong and max(host.stamp_ms() for host in hosts) > min(host.clock.unix_ms() for host in hosts):
            # Its stamps may be held back by the other one.
            return False
        lines = [self.network.line(one, other), self.network.line(other, one)] if one != other else []
        return self.network.twisted == 0 and all(line.good_since_s() <= since_s for line in lines)

    def pick(self, among: Callable[[Host], bool] = lambda _: True) -> Host | None:
        """Draw a machine."""
        found = [host for host in self.hosts if among(host)]
        return self.chance.choice(found) if found else None


def node_fields(host: Host, slot: int) -> dict[str, object]:
    """Return the fields of a member's record."""
    return {"name": host.name, "slot": slot, "address": f"{host.name}:1", "url": "", "token_keys": [], "joined_ms": 1}


def copy(source: Store, target: Store) -> None:
    """Give an empty node all changes of another one, as streams would."""
    with target.write() as transaction:
        for origin in sorted(source.vector()):
            for _, change in source.changes_of(origin, 0, 1000):
                transaction.apply(change)
