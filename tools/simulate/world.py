"""All machines of one simulated cluster, the lines between them, and what is known of what happened."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import func, select

from tools.simulate.facts import Fact, Ledger
from tools.simulate.host import Host
from tools.simulate.loop import VirtualLoop
from tools.simulate.network import Network, Trace
from tools.simulate.trust import SimulatedTrust
from twinhull.catalog.accounts import create_admin
from twinhull.catalog.projects import create_library
from twinhull.kit.digest import Digest
from twinhull.metadata.members import is_member
from twinhull.metadata.store import Store
from twinhull.metadata.tables.own import hybrid_clock
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import MEMBER, NODE, PROJECT, ROBOT, USER, member_key
from twinhull.replication.trust import Identity

CLUSTER: Final = "c1"
TEAM: Final = "team"
# After a fault has ended, nodes find each other again and catch up within this time.
SETTLE_S: Final = 4.0
USERS: Final = ("ada", "bob")
ROBOTS: Final = ("ci", "cd")
ROBOT_PERMISSIONS: Final = [
    {"kind": "project", "namespace": TEAM, "access": [{"resource": "repository", "action": "pull", "effect": ""}]}
]


@dataclass(frozen=True, slots=True)
class Asked:
    """A node that was asked something, when, and of which nodes it was sure to have all that they had acknowledged."""

    host: Host
    began_s: float
    sure_of: frozenset[str]


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
        # How long a client rests between two things that it does.
        self.client_pause_s = 0.5
        # What was on machines that were taken away: no other one may have had it yet.
        self.lost_blobs: set[Digest] = set()

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
            populate(transaction)
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
        return [host for host in self.hosts if host.is_serving and host.trust.is_ready()]

    def lose(self) -> None:
        """Excuse what no machine has any more."""
        if lost := self.ledger.lose(host.vector() for host in self.hosts):
            self.trace.add(f"{lost} writes lost with the only disks that had them")
            self.counts["writes lost with their disks"] = self.counts.get("writes lost with their disks", 0) + lost

    def lost_a_disk(self) -> bool:
        """Tell whether anything that a node had is gone, or may be: a machine, or what came after an old copy of its disk."""
        return bool(self.left) or any(host.restored_s > 0 for host in self.hosts)

    def drop(self, host: Host) -> None:
        """Take a machine away for good."""
        host.kill(power=True)
        self.left.append(host)
        if host in self.hosts:
            self.hosts.remove(host)
            self.lost_blobs.update(host.blobs.digests())
            self.lose()

    def must_know(self, fact: Fact, teller: str, asked: Asked) -> bool:
        """Tell whether an acknowledged write, of which one node has told, must be known by a node that was asked.

        Always, if that one says itself that it has all that the writer has acknowledged. Otherwise the teller has run for a
        while by then, the lines between them have been good, and disks and clocks right. The reader may have just been started,
        or its agent killed: then it knows that it may be behind, and asks.
        """
        reader, began_s = asked.host, asked.began_s
        told = next((host for host in self.hosts if host.node == teller), None)
        if told is None or fact.lost or any(host.is_leaving or host.restored_s > fact.at_s for host in (told, reader)):
            return False
        if told is reader or fact.node in asked.sure_of:
            return True
        since_s = began_s - SETTLE_S
        if not reader.is_serving or max(told.well_since_s(), reader.well_since_s(), told.up_since_s()) > since_s:
            return False
        if self.clocks_were_wrong:
            stamp_ms = max(_stamp_ms(told), _stamp_ms(reader))
            # Its stamps may be held back by the other one.
            if stamp_ms > min(told.clock.unix_ms(), reader.clock.unix_ms()):
                return False
        if not (_has_member(told, reader) and _has_member(reader, told)):
            # Who brought the newcomer in was removed before it could tell the others: they turn it away, as over a cut line.
            return False
        lines = [self.network.line(teller, reader.node), self.network.line(reader.node, teller)]
        if told.is_newcomer or reader.is_newcomer:
            # That there is such a node may have to come by way of others.
            lines = self.network.lines()
        return max(self.network.twisted_s, *(line.good_since_s() for line in lines)) <= since_s

    def is_well_since(self, began_s: float) -> bool:
        """Tell whether nothing has been wrong since some time before then, with machines, lines, or who is who."""
        if self.clocks_were_wrong or self.left:
            return False
        if any(host.is_newcomer or host.is_leaving or host.restored_s > 0 for host in self.hosts):
            return False
        machines = (max(host.well_since_s(), host.up_since_s()) for host in self.hosts)
        lines = (line.good_since_s() for line in self.network.lines())
        return max(self.network.twisted_s, *machines, *lines) <= began_s - SETTLE_S

    def pick(self, among: Callable[[Host], bool] = lambda _: True) -> Host | None:
        """Draw a machine."""
        found = [host for host in self.hosts if among(host)]
        return self.chance.choice(found) if found else None


def _has_member(host: Host, other: Host) -> bool:
    with host.database.read() as connection:
        return is_member(connection, other.node)


def _stamp_ms(host: Host) -> int:
    """Return how far a node's hybrid clock has come."""
    with host.database.read() as connection:
        return int(connection.execute(select(func.max(hybrid_clock.c.ms))).scalar() or 0)


def populate(transaction: Transaction) -> None:
    """Make a project with members and robots, so that there is something to take away from the beginning."""
    made: dict[str, object] = {"created_ms": 1, "updated_ms": 1}
    transaction.create(PROJECT, TEAM, {**made, "owner": "admin"}, number=transaction.next_id(PROJECT))
    for user in USERS:
        fields = {
            **made,
            "email": "",
            "realname": user,
            "comment": "",
            "password_hash": "",
            "sysadmin": False,
            "disabled": False,
        }
        transaction.create(USER, user, fields, number=transaction.next_id(USER))
        transaction.create(MEMBER, member_key(TEAM, "u", user), {**made, "role": 2}, number=transaction.next_id(MEMBER))
    for robot in ROBOTS:
        fields = {
            **made,
            "level": "project",
            "project": TEAM,
            "description": "",
            "permissions": ROBOT_PERMISSIONS,
            "disable": False,
            "secret_hash": "",
            "duration_days": 30,
            "expires_at_s": -1,
        }
        transaction.create(ROBOT, f"{TEAM}+{robot}", fields, number=transaction.next_id(ROBOT))


def node_fields(host: Host, slot: int) -> dict[str, object]:
    """Return the fields of a member's record."""
    return {"name": host.name, "slot": slot, "address": f"{host.name}:1", "url": "", "token_keys": [], "joined_ms": 1}


def copy(source: Store, target: Store) -> None:
    """Give an empty node all changes of another one, as streams would."""
    with target.write() as transaction:
        for origin in sorted(source.vector()):
            for _, change in source.changes_of(origin, 0, 1000):
                transaction.apply(change)
