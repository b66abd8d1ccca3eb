"""How this node and its peers are: states, lags, throughput and alarms, for the command line, the API and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from twinhull.config.durability import LEVEL_ITEM
from twinhull.metadata import members
from twinhull.metadata.accounts import find_setting
from twinhull.metadata.conflicts import count_unsettled
from twinhull.metadata.members import Node
from twinhull.replication.alarms import NODE_REMOVED, Alarm, alarm_of_clock, alarm_of_writes, alarms_of_member, alarms_of_nodes
from twinhull.replication.engine import Engine
from twinhull.replication.feed import Feed
from twinhull.replication.neighbours import Neighbour
from twinhull.replication.puller import Puller
from twinhull.replication.rates import Rates
from twinhull.replication.threads import in_thread

MoreAlarms = Callable[[], Iterable[Alarm]]


class Overview:
    """Looks at the engine. Used on the agent's event loop."""

    def __init__(self, engine: Engine, *, own: Node, durability: str) -> None:
        """Take what knows the peers, how this node describes itself, and its level where the cluster has none."""
        self._engine = engine
        self.own = own
        self._durability = durability
        self._rates = Rates()
        self._more: list[MoreAlarms] = []
        # Writes that were confirmed by fewer nodes than they asked for, and when the last was.
        self._degraded_writes = 0
        self._degraded_s: float | None = None

    def also(self, alarms: MoreAlarms) -> None:
        """Ask this too what is wrong."""
        self._more.append(alarms)

    def degraded(self) -> None:
        """Count a write that was confirmed by fewer nodes than it asked for."""
        self._degraded_writes += 1
        self._degraded_s = self._engine.clock.monotonic_s()

    def sample(self) -> None:
        """Note how many bytes have moved until now; to be called every second or so."""
        engine = self._engine
        self._rates.note(engine.clock.monotonic_s(), engine.transfers.received_bytes, engine.sent_bytes)

    async def document(self) -> dict[str, Any]:
        """Return what `cluster status --json` prints."""
        engine = self._engine

        def read() -> tuple[int, int, int, str]:
            with engine.store.read() as connection:
                conflicts, clock_ms = count_unsettled(connection), members.clock_ms(connection)
                level = str(find_setting(connection, LEVEL_ITEM) or "")
            return engine.store.position(), conflicts, clock_ms, level

        position, conflicts, clock_ms, level = await in_thread(engine.executor, read)
        own = {**described(self.own), "state": "self", "lag_changes": 0, "lag_s": 0.0}
        own["lag_bytes"], own["lag_blobs"] = engine.missing_bytes(), engine.missing_blobs()
        peers = [self._member(neighbour) for neighbour in engine.neighbours.all()]
        alarms = [alarm for member in peers for alarm in alarms_of_member(member)]
        if engine.neighbours.is_removed:
            own["state"] = "removed"
            alarms.append(Alarm(name=NODE_REMOVED, message="this node was removed from its cluster"))
        alarms += self.alarms_of_nodes()
        alarms += alarm_of_clock(clock_ms, engine.clock.unix_ms())
        since_s = None if self._degraded_s is None else engine.clock.monotonic_s() - self._degraded_s
        alarms += alarm_of_writes(since_s, self._degraded_writes)
        alarms += [alarm for more in self._more for alarm in more()]
        return {
            "node": own,
            "members": [own, *peers],
            "log_position": position,
            "durability": level or self._durability,
            "conflicts": conflicts,
            "alarms": msgspec.to_builtins(alarms),
        }

    def alarms_of_nodes(self) -> list[Alarm]:
        """Return which members have what only one may have."""
        return alarms_of_nodes([self.own, *(neighbour.node for neighbour in self._engine.neighbours.all())])

    def _member(self, neighbour: Neighbour) -> dict[str, Any]:
        node, puller, engine = neighbour.node, neighbour.puller, self._engine
        changes, missing_bytes, age_s = engine.acknowledgements.lag(node.id)
        in_s, out_s = self._rates.of(node.id)
        return {
            **described(node),
            "state": self.state_of(node, puller),
            "lag_changes": changes,
            "lag_bytes": missing_bytes,
            "lag_s": round(age_s, 1),
            "last_error": puller.last_error,
            # Of what is read from it, and of what it reads from here.
            "held": puller.taking.reasons(),
            "held_there": _held_there(engine.feeds, node.id),
            "received_bytes": self._engine.transfers.received_bytes.get(node.id, 0),
            "sent_bytes": self._engine.sent_bytes.get(node.id, 0),
            "received_bytes_per_s": in_s,
            "sent_bytes_per_s": out_s,
        }

    def state_of(self, node: Node, puller: Puller) -> str:
        """Return in one word how a peer is."""
        acknowledgements = self._engine.acknowledgements
        if self._engine.neighbours.is_paused(node.id):
            return "paused"
        peer = acknowledgements.peer(node.id)
        if not peer.subscribed:
            # A peer that nothing has been heard of yet may be there: only a failure tells.
            return "behind" if puller.reachable else "down"
        if peer.suspect:
            return "suspect"
        if not puller.reachable:
            # It reads from here, but cannot be read from.
            return "one-way"
        return "in sync" if peer.caught_up and acknowledgements.lag(node.id)[0] == 0 else "behind"


def _held_there(feeds: Sequence[Feed], node: str) -> dict[str, str]:
    """Return the origins of which a peer that reads from here can't take the next change, and why."""
    return {origin: reason for feed in feeds if feed.peer == node for origin, reason in feed.held_there.items()}


def described(node: Node) -> dict[str, Any]:
    """Return who a member is, and where."""
    return {"id": node.id, "name": node.name, "address": node.url, "cluster_address": node.address}
