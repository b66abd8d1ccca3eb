"""Hosts of a test's own, in network namespaces, with links that can be cut, thinned and made to lose packets."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.clients import require_client, unavailable
from tests.support.line import Line

# Set aside for measurements between networks (RFC 2544): nobody's real addresses.
_SUBNET: Final = "198.18.0"
HUB_ADDRESS: Final = f"{_SUBNET}.1"
_FIRST_HOST: Final = 10
_PREFIX: Final = "twinhull-"
_NAMESPACES: Final = Path("/run/netns")
_LIMIT_S: Final = 20
# Long enough for both ends to notice that the connection is gone, and to dial again.
_RESET_S: Final = 0.6
# linux/sched.h
_CLONE_NEWNET: Final = 0x40000000


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host: its namespace, and its address on the bridge."""

    name: str
    namespace: str
    address: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """Return what a command begins with that is to run on this host."""
        return (str(require_client("ip")), "netns", "exec", self.namespace)


@dataclass(slots=True, kw_only=True)
class Network:
    """The hosts and what is wrong with the links between them. Clients reach all hosts at all times."""

    hosts: dict[str, Host]
    hub: str
    _rules: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    _lines: list[Line] = field(default_factory=list)

    def cut_one_way(self, source: str, target: str) -> None:
        """Let nothing that one host sends reach the other."""
        self._add_rule(target, "-A", "INPUT", "-s", self.hosts[source].address, "-j", "DROP")

    def cut(self, one: str, other: str) -> None:
        """Let nothing pass between two hosts; connections stay and hang, as behind a pulled cable."""
        self.cut_one_way(one, other)
        self.cut_one_way(other, one)

    def lose(self, one: str, other: str, share: float) -> None:
        """Lose that share of the packets between two hosts, by chance."""
        for source, target in ((one, other), (other, one)):
            chance = ("-m", "statistic", "--mode", "random", "--probability", str(share))
            self._add_rule(target, "-A", "INPUT", "-s", self.hosts[source].address, *chance, "-j", "DROP")

    def reset(self, one: str, other: str) -> None:
        """Break the connections between two hosts, as a firewall does that is started anew; new ones are taken afterwards."""
        added = []
        for source, target in ((one, other), (other, one)):
            rule = ("OUTPUT", "-d", self.hosts[target].address, "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")
            self._iptables(source, "-I", *rule)
            added.append((source, rule))
        time.sleep(_RESET_S)
        for source, rule in added:
            self._iptables(source, "-D", *rule)

    def thin(self, host: str, rate: str) -> None:
        """Let a host send no faster than that (as `tc` writes rates: "2mbit")."""
        limit = ("tbf", "rate", rate, "burst", "32kbit", "latency", "400ms")
        _run("tc", "-n", self.hosts[host].namespace, "qdisc", "replace", "dev", "eth0", "root", *limit)

    def reroute(self, source: str, target: str, port: int) -> Line:
        """Lead new connections from one host to a port of another through a line, which can delay, count and cut them."""
        line = Line(host=HUB_ADDRESS)
        line.target = f"{self.hosts[target].address}:{port}"
        self._lines.append(line)
        match = ("-p", "tcp", "-d", self.hosts[target].address, "--dport", str(port))
        self._add_rule(source, "-t", "nat", "-A", "OUTPUT", *match, "-j", "DNAT", "--to-destination", line.address)
        return line

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """Take away all that is wrong with the links; with two hosts named, what cuts and loses between these."""
        for host, rules in self._rules.items():
            for rule in list(rules):
                far = {rule[index + 1] for index, word in enumerate(rule) if word in ("-s", "-d")}
                named = (
                    not one
                    or not other
                    or {self.hosts[one].address, self.hosts[other].address} == far | {self.hosts[host].address}
                )
                if named:
                    rules.remove(rule)
                    self._iptables(host, *("-D" if word == "-A" else word for word in rule))
        if one is None:
            for one_host in self.hosts.values():
                _run("tc", "-n", one_host.namespace, "qdisc", "del", "dev", "eth0", "root", check=False)
            while self._lines:
                self._lines.pop().close()

    def _add_rule(self, host: str, *rule: str) -> None:
        self._iptables(host, *rule)
        self._rules.setdefault(host, []).append(rule)

    def _iptables(self, host: str, *arguments: str) -> None:
        _run(*self.hosts[host].prefix, str(require_client("iptables")), "-w", *arguments)


@contextlib.contextmanager
def running_network(names: Sequence[str]) -> Iterator[Network]:
    """Make the hosts, and move this thread and what it starts to the hub between them, for as long as the block lasts."""
    if os.geteuid() != 0:
        unavailable("only root can make network namespaces")
    _sweep()
    base = f"{_PREFIX}{os.getpid()}-{random.SystemRandom().randrange(16**4):04x}-"
    hosts = {
        name: Host(name=name, namespace=f"{base}{name}", address=f"{_SUBNET}.{_FIRST_HOST + number}")
        for number, name in enumerate(names)
    }
    network = Network(hosts=hosts, hub=f"{base}hub")
    try:
        _build(network)
        with _inside(network.hub):
            yield network
            network.heal()
    finally:
        for namespace in (network.hub, *(host.namespace for host in hosts.values())):
            _run("ip", "netns", "del", namespace, check=False)


def _build(network: Network) -> None:
    hub = ("ip", "-n", network.hub)
    _run("ip", "netns", "add", network.hub)
    _run(*hub, "link", "set", "lo", "up")
    _run(*hub, "link", "add", "bridge", "type", "bridge")
    _run(*hub, "address", "add", f"{HUB_ADDRESS}/24", "dev", "bridge")
    _run(*hub, "link", "set", "bridge", "up")
    for number, host in zip(itertools.count(), network.hosts.values(), strict=False):
        port, own = f"port{number}", ("ip", "-n", host.namespace)
        _run("ip", "netns", "add", host.namespace)
        _run("ip", "link", "add", port, "netns", network.hub, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        _run(*hub, "link", "set", port, "master", "bridge", "up")
        _run(*own, "address", "add", f"{host.address}/24", "dev", "eth0")
        _run(*own, "link", "set", "eth0", "up")
        _run(*own, "link", "set", "lo", "up")


def _sweep() -> None:
    """Remove the namespaces of runs that were killed."""
    for path in _NAMESPACES.glob(f"{_PREFIX}*"):
        owner = path.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path(f"/proc/{owner}").exists():
            _run("ip", "netns", "del", path.name, check=False)


@contextlib.contextmanager
def _inside(namespace: str) -> Iterator[None]:
    """Move this thread, and with it all threads and processes that it starts, to a namespace and back."""
    with Path("/proc/thread-self/ns/net").open("rb") as home, (_NAMESPACES / namespace).open("rb") as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")


def _run(*command: str, check: bool = True) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
