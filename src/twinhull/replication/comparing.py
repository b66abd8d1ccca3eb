"""Comparing this node's state with a peer's: equal roots, or the keys that differ."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

import msgspec

from twinhull.metadata.store import Store
from twinhull.replication.peer import Peer
from twinhull.replication.threads import in_thread

_TRIES: Final = 50
_BETWEEN_TRIES_S: Final = 0.2
_TIMEOUT_S: Final = 60.0
KEYS_LISTED_MAX: Final = 100


class Differing(msgspec.Struct, frozen=True, kw_only=True):
    """Records of one kind that are not the same on both nodes."""

    kind: str
    keys: list[str]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison with one peer found."""

    differing: list[Differing]
    # False: changes kept flowing, so no moment was found at which both had seen the same.
    settled: bool
    missing_blobs: int

    @property
    def equal(self) -> bool:
        """Whether both nodes have the same records and the peer lacks no blob."""
        return self.settled and not self.differing and not self.missing_blobs


async def compare(store: Store, peer: Peer, executor: Executor) -> Comparison:
    """Compare at a moment when both have applied the same changes; raises PeerUnavailable."""
    for _ in range(_TRIES):
        ours, theirs = await asyncio.gather(
            in_thread(executor, store.state_root),
            peer.summary(timeout_s=_TIMEOUT_S),
        )
        if ours[0] == theirs.vector and not theirs.missing_blobs:
            break
        await asyncio.sleep(_BETWEEN_TRIES_S)
    vector, buckets = ours
    differing = []
    for kind in sorted({*buckets, *theirs.buckets}):
        here, there = buckets.get(kind, {}), theirs.buckets.get(kind, {})
        keys: list[str] = []
        for bucket in sorted({*here, *there}):
            if here.get(bucket) != there.get(bucket) and len(keys) < KEYS_LISTED_MAX:
                mine = await in_thread(executor, store.bucket, kind, bucket)
                peers = await peer.bucket(kind, bucket, timeout_s=_TIMEOUT_S)
                keys.extend(sorted(key for key in {*mine, *peers} if mine.get(key) != peers.get(key)))
        if keys:
            differing.append(Differing(kind=kind, keys=keys[:KEYS_LISTED_MAX]))
    settled = vector == theirs.vector
    return Comparison(differing=differing, settled=settled, missing_blobs=theirs.missing_blobs)
