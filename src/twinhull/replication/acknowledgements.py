"""Which peer has confirmed what, and who is waited for: the durability levels, without any I/O."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from twinhull.kit.clock import Clock
from twinhull.records.change import VersionVector, covers, joined, missing

# Writes go on while a peer catches up, so it never has quite everything: this near is near enough to be waited for.
_NEAR_CHANGES: Final = 200
# Moments remembered to tell the age of what a peer lacks: one in this many seconds, and this many of them.
_MOMENT_S: Final = 0.1
_MOMENTS_MAX: Final = 36_000


@dataclass(slots=True, kw_only=True)
class PeerState:
    """What this node knows of a peer as a reader of its changes."""

    node: str
    vector: VersionVector = field(default_factory=dict)
    linked: list[str] = field(default_factory=list)
    subscribed: bool = False
    # It once had everything since it subscribed; before that it is catching up and not waited for.
    caught_up: bool = False
    # It let a write wait longer than the limit, and has not caught up since.
    suspect: bool = False
    missing_bytes: int = 0
    heard_s: float = 0.0
    # What it must have confirmed before it counts as caught up.
    target: VersionVector = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Waiter:
    seq: int
    pending: set[str]
    done: asyncio.Future[None]


class Acknowledgements:
    """The peers' confirmations of this node's changes. Used on one event loop."""

    def __init__(self, node: str, clock: Clock, *, timeout_s: float) -> None:
        """Take this node's id and how long a silent peer is waited for."""
        self._node = node
        self._clock = clock
        self._timeout_s = timeout_s
        self._peers: dict[str, PeerState] = {}
        self._waiters: set[_Waiter] = set()
        self._own: VersionVector = {}
        # (this node's seq, when it was written), a sample of them, oldest first.
        self._moments: deque[tuple[int, float]] = deque(maxlen=_MOMENTS_MAX)

    # -- what happens ----------------------------------------------------------------------------------------------

    def peer(self, node: str) -> PeerState:
        """Return the state of a peer, made when it is first heard of."""
        return self._peers.setdefault(node, PeerState(node=node))

    def peers(self) -> Iterable[PeerState]:
        """Return all peers that were heard of."""
        return list(self._peers.values())

    def wrote(self, vector: VersionVector) -> None:
        """Note what this node has now."""
        before, now_s = self._own.get(self._node, 0), self._clock.monotonic_s()
        self._own = joined(self._own, vector)
        wrote = self._own.get(self._node, 0) > before
        if wrote and (not self._moments or now_s - self._moments[-1][1] >= _MOMENT_S):
            self._moments.append((before + 1, now_s))

    def subscribed(self, node: str, vector: VersionVector, linked: list[str]) -> None:
        """Note that a peer has begun to read this node's changes."""
        peer = self.peer(node)
        peer.subscribed, peer.caught_up, peer.suspect, peer.target = True, False, False, dict(self._own)
        self.acknowledged(node, vector, linked, 0)

    def acknowledged(self, node: str, vector: VersionVector, linked: list[str], missing_bytes: int) -> None:
        """Note that a peer has applied everything up to this vector."""
        peer = self.peer(node)
        peer.vector, peer.linked, peer.missing_bytes = joined(peer.vector, vector), linked, missing_bytes
        peer.heard_s = self._clock.monotonic_s()
        self._assess(peer)
        confirmed = peer.vector.get(self._node, 0)
        for waiter in list(self._waiters):
            if waiter.seq <= confirmed:
                self._discharge(waiter, node)

    def lost(self, node: str) -> None:
        """Note that a peer no longer reads this node's changes; nobody waits for it."""
        peer = self.peer(node)
        peer.subscribed = peer.caught_up = False
        for waiter in list(self._waiters):
            self._discharge(waiter, node)

    def forget(self, node: str) -> None:
        """Note that a peer is no member any more."""
        self.lost(node)
        self._peers.pop(node, None)

    def _assess(self, peer: PeerState) -> None:
        if (peer.caught_up and not peer.suspect) or not covers(peer.vector, peer.target):
            return
        if missing(peer.vector, self._own) <= _NEAR_CHANGES:
            peer.caught_up, peer.suspect = peer.subscribed, False
        else:
            peer.target = dict(self._own)

    @staticmethod
    def _discharge(waiter: _Waiter, node: str) -> None:
        waiter.pending.discard(node)
        if not waiter.pending and not waiter.done.done():
            waiter.done.set_result(None)

    # -- waiting ---------------------------------------------------------------------------------------------------

    def is_waited_for(self, node: str) -> bool:
        """Tell whether writes wait for this peer."""
        peer = self._peers.get(node)
        return peer is not None and peer.subscribed and peer.caught_up and not peer.suspect

    async def wait(self, seq: int) -> set[str]:
        """Return the peers that have applied this node's change `seq`: once all that are waited for have, or time is up."""
        pending = {
            peer.node for peer in self._peers.values() if self.is_waited_for(peer.node) and peer.vector.get(self._node, 0) < seq
        }
        if pending:
            waiter = _Waiter(seq, pending, asyncio.get_running_loop().create_future())
            self._waiters.add(waiter)
            try:
                async with asyncio.timeout(self._timeout_s):
                    await waiter.done
            except TimeoutError:
                # From now on nobody waits for these until they have caught up: one dead office never stops the other.
                for node in list(waiter.pending):
                    self.suspects(node)
            finally:
                self._waiters.discard(waiter)
        return {peer.node for peer in self._peers.values() if peer.vector.get(self._node, 0) >= seq}

    def suspects(self, node: str) -> None:
        """Stop waiting for a peer until it has caught up."""
        peer = self.peer(node)
        peer.suspect, peer.target = True, dict(self._own)
        for waiter in list(self._waiters):
            self._discharge(waiter, node)

    def lag(self, node: str) -> tuple[int, int, float]:
        """Return how far a peer is behind: in changes, in bytes of blobs, and in seconds."""
        peer = self.peer(node)
        return missing(peer.vector, self._own), peer.missing_bytes, self._age_s(peer.vector.get(self._node, 0))

    def _age_s(self, confirmed: int) -> float:
        """Return how old this node's first change after `confirmed` is, to about a tenth of a second."""
        if confirmed >= self._own.get(self._node, 0) or not self._moments:
            return 0.0
        index = max(0, bisect_right(self._moments, confirmed + 1, key=lambda moment: moment[0]) - 1)
        return self._clock.monotonic_s() - self._moments[index][1]
