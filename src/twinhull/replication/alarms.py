"""What an operator should know at once: pure judgements over how this node and its peers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final

import msgspec

from twinhull.metadata.members import Node

# Clocks that NTP keeps are a thousand times nearer.
CLOCK_AHEAD_S: Final = 10.0
# A write that reached less than it was asked for is news for so long.
DEGRADED_FOR_S: Final = 60.0

PEER_DOWN: Final = "peer-down"
PEER_ONE_WAY: Final = "peer-one-way"
PEER_SUSPECT: Final = "peer-suspect"
CHANGES_HELD: Final = "changes-held-back"
CLOCK_AHEAD: Final = "clock-ahead"
WRITES_DEGRADED: Final = "writes-degraded"
NODE_REMOVED: Final = "node-removed"
NODES_DIFFER: Final = "nodes-differ"
DATA_LOST: Final = "data-lost"
NODES_ALIKE: Final = "nodes-alike"
ALARMS: Final = (
    PEER_DOWN,
    PEER_ONE_WAY,
    PEER_SUSPECT,
    CHANGES_HELD,
    CLOCK_AHEAD,
    WRITES_DEGRADED,
    NODE_REMOVED,
    NODES_DIFFER,
    DATA_LOST,
    NODES_ALIKE,
)

_STATES: Final = {
    "down": (PEER_DOWN, "does not answer"),
    "one-way": (PEER_ONE_WAY, "reads from here, but cannot be read from"),
    "suspect": (PEER_SUSPECT, "lets writes wait, and is not waited for until it has caught up"),
}


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong just now."""

    name: str
    message: str
    # The name of the peer that it is about; empty: this node.
    peer: str = ""


def alarms_of_member(member: Mapping[str, Any]) -> list[Alarm]:
    """Return what is wrong with a peer, given how `cluster status --json` describes it."""
    name = str(member["name"])
    alarms = []
    if member["state"] in _STATES:
        alarm, words = _STATES[member["state"]]
        why = f": {member['last_error']}" if member.get("last_error") and member["state"] != "suspect" else ""
        alarms.append(Alarm(name=alarm, peer=name, message=f"{name} {words}{why}"))
    for held, where in (("held", "here"), ("held_there", f"by {name}")):
        alarms.extend(
            Alarm(name=CHANGES_HELD, peer=name, message=f"changes of {origin} are held back {where}: {reason}")
            for origin, reason in sorted((member.get(held) or {}).items())
        )
    return alarms


def alarm_of_clock(clock_ms: int, now_ms: int) -> list[Alarm]:
    """Return an alarm when a stamp that was seen is later than this node's clock; `clock_ms` is the latest seen."""
    ahead_s = (clock_ms - now_ms) / 1000
    if ahead_s < CLOCK_AHEAD_S:
        return []
    message = f"a node's clock is {ahead_s:.0f} s ahead of this one's, or this one's is behind: set them right (NTP)"
    return [Alarm(name=CLOCK_AHEAD, message=message)]


def alarm_of_writes(since_s: float | None, count: int) -> list[Alarm]:
    """Return an alarm when a write lately reached less than was asked for; how long ago, and how many there were."""
    if since_s is None or since_s > DEGRADED_FOR_S:
        return []
    message = f"writes are confirmed by fewer nodes than asked for: {count} since this node's agent started"
    return [Alarm(name=WRITES_DEGRADED, message=message)]


def alarms_of_nodes(nodes: Sequence[Node]) -> list[Alarm]:
    """Return which members have the same name or slot: they were let in by members that did not hear each other."""
    alarms = []
    for older, younger in combinations(sorted(nodes, key=lambda node: (node.joined_ms, node.id)), 2):
        shared = [f"name {older.name}"] if older.name == younger.name else []
        # Integer ids are counted by slots.
        shared += [f"slot {older.slot}, so that ids they give out may be the same"] if older.slot == younger.slot else []
        if shared:
            message = (
                f"nodes {older.id} ({older.name}) and {younger.id} ({younger.name}) both have {' and '.join(shared)}:"
                f" `twinhull cluster remove {younger.id}`, and let it join again with --merge and a name of its own"
            )
            alarms.append(Alarm(name=NODES_ALIKE, peer=younger.name, message=message))
    return alarms
