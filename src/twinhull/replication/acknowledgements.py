"""Which peer has confirmed what, and who is waited for: the durability levels, without any I/O."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
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
    # Under which it writes: the one origin of whose changes it surely has all.
    origin: str
    vector: VersionVector = field(default_factory=dict)
    linked: list[str] = field(default_factory=list)
    subscribed: bool = False
    # Counts its streams: an old one that ends late does not end a new one.
    subscription: int = 0
    # It once had everything since it subscribed; before that it is catching up and not waited for.
    caught_up: bool = False
    # It let a write wait longer than the limit, and has not caught up since.
    suspect: bool = False
    missing_bytes: int = 0
    heard_s: float = 0.0
    # What it must have confirmed before it counts as caught up.
    target: VersionVector = field(default_factory=dict)
    # Until then it may answer alone, so no write that it lacks is acknowledged, whatever has become of it since.
    promised_until_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Waiter:
    seq: int
    pending: set[str]
    since_s: float
    done: asyncio.Future[None]
    # Only the peer's word, or time, ends it: the peer was promised to be waited for.
    promised: bool = False


class Acknowledgements:
    """The peers' confirmations of this node's changes. Used on one event loop."""

    def __init__(
        self,
        origin: str,
        clock: Clock,
        *,
        timeout_s: float,
        lease_s: float,
        inherited_s: float = 0.0,
        on_promise: Callable[[float], None] | None = None,
    ) -> None:
        """Take under which origin this node writes, how long a silent peer is waited for, and how long it may be promised.

        For `inherited_s` seconds promises of an earlier life hold; `on_promise` is told until when the latest one holds.
        """
        self._origin = origin
        self._clock = clock
        self._timeout_s = timeout_s
        self._lease_s = lease_s
        self._inherited_until_s = clock.monotonic_s() + inherited_s
        self._on_promise = on_promise
        self._peers: dict[str, PeerState] = {}
        # In the order in which they came.
        self._waiters: list[_Waiter] = []
        self._own: VersionVector = {}
        # (this node's seq, when it was written), a sample of them, oldest first.
        self._moments: deque[tuple[int, float]] = deque(maxlen=_MOMENTS_MAX)

    # -- what happens ----------------------------------------------------------------------------------------------

    @property
    def own_seq(self) -> int:
        """The last change of this node that is known here."""
        return self._own.get(self._origin, 0)

    def peer(self, node: str) -> PeerState:
        """Return the state of a peer, made when it is first heard of."""
        return self._peers.setdefault(node, PeerState(node=node, origin=node))

    def writes_as(self, origin: str) -> None:
        """Note that this node writes under another origin from now on."""
        self._origin = origin
        self._moments.clear()

    def peers(self) -> Iterable[PeerState]:
        """Return all peers that were heard of."""
        return list(self._peers.values())

    def wrote(self, vector: VersionVector) -> None:
        """Note what this node has now."""
        before, now_s = self._own.get(self._origin, 0), self._clock.monotonic_s()
        self._own = joined(self._own, vector)
        wrote = self._own.get(self._origin, 0) > before
        if wrote and (not self._moments or now_s - self._moments[-1][1] >= _MOMENT_S):
            self._moments.append((before + 1, now_s))

    def subscribed(self, node: str, vector: VersionVector, linked: list[str], *, origin: str = "") -> int:
        """Note that a peer has begun to read this node's changes, and return what tells this stream from others of it."""
        peer = self.peer(node)
        peer.subscription += 1
        # What it said before does not count: it may have been restored from an old copy since.
        peer.origin, peer.vector = origin or node, {}
        peer.subscribed, peer.caught_up, peer.suspect, peer.target = True, False, False, self._due_to(peer)
        self.acknowledged(node, vector, linked, 0)
        return peer.subscription

    def acknowledged(self, node: str, vector: VersionVector, linked: list[str], missing_bytes: int) -> None:
        """Note that a peer has applied everything up to this vector."""
        peer = self.peer(node)
        peer.vector, peer.linked, peer.missing_bytes = joined(peer.vector, vector), linked, missing_bytes
        peer.heard_s = self._clock.monotonic_s()
        self._assess(peer)
        confirmed = peer.vector.get(self._origin, 0)
        for waiter in list(self._waiters):
            if waiter.seq <= confirmed:
                self._discharge(waiter, node)

    def lost(self, node: str, subscription: int | None = None) -> None:
        """Note that a peer no longer reads this node's changes; nobody waits for it longer than it was promised.

        A stream that is not the peer's latest one ends without a trace.
        """
        peer = self.peer(node)
        if subscription is not None and subscription != peer.subscription:
            return
        peer.subscribed = peer.caught_up = False
        self._give_up(node)

    def forget(self, node: str) -> None:
        """Note that a peer is no member any more."""
        self.lost(node)
        self._peers.pop(node, None)

    def _due_to(self, peer: PeerState) -> VersionVector:
        """Return what a peer must have in the end: all that is here but its own changes, which it surely has."""
        return {origin: seq for origin, seq in self._own.items() if origin != peer.origin}

    def _assess(self, peer: PeerState) -> None:
        if (peer.caught_up and not peer.suspect) or not covers(peer.vector, peer.target):
            return
        if missing(peer.vector, self._due_to(peer)) <= _NEAR_CHANGES:
            peer.caught_up, peer.suspect = peer.subscribed, False
        else:
            peer.target = self._due_to(peer)

    def _give_up(self, node: str) -> None:
        for waiter in list(self._waiters):
            if not waiter.promised:
                self._discharge(waiter, node)

    @staticmethod
    def _discharge(waiter: _Waiter, node: str) -> None:
        waiter.pending.discard(node)
        if not waiter.pending and not waiter.done.done():
            waiter.done.set_result(None)

    # -- promising -------------------------------------------------------------------------------------------------

    def promise(self, node: str) -> float:
        """Return for how many seconds from now on no write is acknowledged that this peer lacks; 0 if it is not waited for.

        What is written from now on waits for the peer; what was written before must be sent to it ahead of the promise.
        """
        if not self.is_waited_for(node):
            return 0.0
        now_s = self._clock.monotonic_s()
        waiting_since_s = min((waiter.since_s for waiter in self._waiters if node in waiter.pending), default=now_s)
        # A write that waits already shall not wait longer than its limit because of a promise made meanwhile.
        if waiting_since_s + self._timeout_s < now_s + self._lease_s:
            return 0.0
        self.peer(node).promised_until_s = now_s + self._lease_s
        if self._on_promise is not None:
            self._on_promise(now_s + self._lease_s)
        return self._lease_s

    # -- waiting ---------------------------------------------------------------------------------------------------

    def is_waited_for(self, node: str) -> bool:
        """Tell whether writes wait for this peer."""
        peer = self._peers.get(node)
        return peer is not None and peer.subscribed and peer.caught_up and not peer.suspect

    async def wait(self, seq: int) -> set[str]:
        """Return the peers that have applied this node's change `seq`: once all that are waited for have, or time is up."""
        pending = {node for node in self._lacking(seq) if self.is_waited_for(node)}
        if pending and (late := await self._wait_for(seq, pending, self._timeout_s)):
            # From now on nobody waits for these until they have caught up: one dead office never stops the other.
            for node in late & self._peers.keys():
                self.suspects(node)
        await self._keep_promises(seq)
        return {peer.node for peer in self._peers.values() if peer.vector.get(self._origin, 0) >= seq}

    def _lacking(self, seq: int) -> list[str]:
        return [peer.node for peer in self._peers.values() if peer.vector.get(self._origin, 0) < seq]

    async def _keep_promises(self, seq: int) -> None:
        """Wait for those that nobody waits for any more, but that may still answer alone."""
        now_s = self._clock.monotonic_s()
        promised = {node for node in self._lacking(seq) if self._peers[node].promised_until_s > now_s}
        if promised:
            until_s = max(self._peers[node].promised_until_s for node in promised)
            await self._wait_for(seq, promised, until_s - now_s, promised=True)
        if (inherited_s := self._inherited_until_s - self._clock.monotonic_s()) > 0 and (not self._peers or self._lacking(seq)):
            await asyncio.sleep(inherited_s)

    async def _wait_for(self, seq: int, pending: set[str], limit_s: float, *, promised: bool = False) -> set[str]:
        """Return those of the peers that were still waited for when time was up."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(seq, pending, self._clock.monotonic_s(), done, promised)
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(limit_s):
                await waiter.done
        except TimeoutError:
            return set(waiter.pending)
        finally:
            self._waiters.remove(waiter)
        return set()

    def suspects(self, node: str) -> None:
        """Stop waiting for a peer until it has caught up."""
        peer = self.peer(node)
        peer.suspect, peer.target = True, self._due_to(peer)
        self._give_up(node)

    # -- looking ---------------------------------------------------------------------------------------------------

    def lag(self, node: str) -> tuple[int, int, float]:
        """Return how far a peer is behind: in changes, in bytes of blobs, and in seconds."""
        peer = self.peer(node)
        behind = missing(peer.vector, self._due_to(peer))
        return behind, peer.missing_bytes, self._age_s(peer.vector.get(self._origin, 0))

    def _age_s(self, confirmed: int) -> float:
        """Return how old this node's first change after `confirmed` is, to about a tenth of a second."""
        if confirmed >= self._own.get(self._origin, 0) or not self._moments:
            return 0.0
        index = max(0, bisect_right(self._moments, confirmed + 1, key=lambda moment: moment[0]) - 1)
        return self._clock.monotonic_s() - self._moments[index][1]
