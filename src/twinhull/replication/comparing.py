"""Comparing this node's state with a peer's: equal roots, or the keys that differ, and who lacks them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Final

import msgspec

from twinhull.kit.errors import ProtocolError
from twinhull.metadata.names import Name
from twinhull.metadata.store import Store
from twinhull.replication.peer import Peer
from twinhull.replication.protocol import SummaryAnswer
from twinhull.replication.threads import in_thread

# How records are summed up: by their bytes. Form 1 went by the names of their versions.
SUMMARY_FORM: Final = 2
TRIES: Final = 50
_BETWEEN_TRIES_S: Final = 0.2
# What differs only because a change is on its way does not a moment later.
_SECOND_LOOK_S: Final = 0.5
# So many keys that differ are looked at a second time together: each such round costs that time.
_KEYS_AT_ONCE: Final = 5000
_TIMEOUT_S: Final = 60.0
KEYS_LISTED_MAX: Final = 100

# Per bucket the sum of the records' hashes, and their number.
Buckets = Mapping[int, tuple[int, int]]


class Differing(msgspec.Struct, frozen=True, kw_only=True):
    """Records of one kind that are not the same on both nodes; of many the first."""

    kind: str
    count: int
    keys: list[str]
    # Those of the keys that only one of the nodes has; the others are on both, but not alike.
    only_here: list[str]
    only_there: list[str]


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


class Sides(msgspec.Struct, kw_only=True):
    """Keys of one kind that differ, by who has them."""

    only_here: list[str] = []
    only_there: list[str] = []
    unlike: list[str] = []

    def add(self, other: Sides) -> None:
        """Take in what another bucket has."""
        self.only_here += other.only_here
        self.only_there += other.only_there
        self.unlike += other.unlike

    @property
    def keys(self) -> list[str]:
        """All of them."""
        return self.only_here + self.only_there + self.unlike


def roots_of(buckets: Mapping[str, Buckets]) -> dict[str, int]:
    """Return for each kind one number of 48 bits that stands for all its buckets."""
    return {kind: _root_of(of_kind) for kind, of_kind in buckets.items()}


def _root_of(buckets: Buckets) -> int:
    packed = msgspec.msgpack.encode([(bucket, *map(str, buckets[bucket])) for bucket in sorted(buckets)])
    return int.from_bytes(hashlib.blake2b(packed, digest_size=6).digest(), "big")


def unlike_buckets(here: Mapping[str, Buckets], there: Mapping[str, Buckets]) -> list[tuple[str, int]]:
    """Return kind and number of the buckets that are not the same on both sides, in order."""
    return [
        (kind, bucket)
        for kind in sorted({*here, *there})
        for bucket in sorted({*here.get(kind, {}), *there.get(kind, {})})
        if here.get(kind, {}).get(bucket) != there.get(kind, {}).get(bucket)
    ]


def sides_of(here: Mapping[str, int], there: Mapping[str, int]) -> Sides:
    """Return which keys of a bucket differ, given each side's keys with the hashes of their records."""
    return Sides(
        only_here=sorted(here.keys() - there.keys()),
        only_there=sorted(there.keys() - here.keys()),
        unlike=sorted(key for key in here.keys() & there.keys() if here[key] != there[key]),
    )


def lasting(first: Sides, second: Sides) -> Sides:
    """Return what differed at both looks, as it did at the second."""
    known = set(first.keys)
    return Sides(
        only_here=[key for key in second.only_here if key in known],
        only_there=[key for key in second.only_there if key in known],
        unlike=[key for key in second.unlike if key in known],
    )


async def compare(
    store: Store,
    peer: Peer,
    executor: Executor,
    *,
    tries: int = TRIES,
    mend: Callable[[list[Name]], Awaitable[None]] | None = None,
) -> Comparison:
    """Compare at a moment when both have applied the same changes; raises PeerUnavailable, ProtocolError.

    `mend` is given the records that differ, bucket by bucket. While nothing differs, one small message is all it costs.
    """
    vector, buckets, theirs = await _both(store, peer, executor, tries)
    settled, missing_blobs = vector == theirs.vector, theirs.missing_blobs
    if _are_equal(buckets, theirs):
        return Comparison(differing=[], settled=settled, missing_blobs=missing_blobs)
    if not theirs.buckets:
        theirs = await peer.summary(timeout_s=_TIMEOUT_S)
    found: dict[str, Sides] = {}
    counts: dict[str, int] = {}
    async for kind, sides in _lasting_sides(store, peer, executor, unlike_buckets(buckets, theirs.buckets)):
        if mend is not None:
            await mend([(kind, key) for key in sides.keys])
        counts[kind] = counts.get(kind, 0) + len(sides.keys)
        if len(found.setdefault(kind, Sides()).keys) < KEYS_LISTED_MAX:
            found[kind].add(sides)
    differing = [_listed(kind, sides, counts[kind]) for kind, sides in found.items()]
    return Comparison(differing=differing, settled=settled, missing_blobs=missing_blobs)


async def _lasting_sides(
    store: Store, peer: Peer, executor: Executor, unlike: list[tuple[str, int]]
) -> AsyncIterator[tuple[str, Sides]]:
    """Give, for each bucket, the keys that differ at two looks with some time between; few buckets are in memory at a time.

    A node that has just joined differs in everything.
    """
    first: list[tuple[str, int, Sides]] = []
    for position, (kind, bucket) in enumerate(unlike, start=1):
        if (sides := await _look(store, peer, executor, kind, bucket)).keys:
            first.append((kind, bucket, sides))
        if sum(len(before.keys) for _, _, before in first) < _KEYS_AT_ONCE and position < len(unlike):
            continue
        if first:
            await asyncio.sleep(_SECOND_LOOK_S)
        for of_kind, number, before in first:
            again = lasting(before, await _look(store, peer, executor, of_kind, number))
            if again.keys:
                yield of_kind, again
        first.clear()


async def _both(
    store: Store, peer: Peer, executor: Executor, tries: int
) -> tuple[dict[str, int], Mapping[str, Buckets], SummaryAnswer]:
    """Return this node's vector and buckets, and the peer's state in short, of the same moment if there was one."""
    for attempt in range(tries):
        (vector, buckets), theirs = await asyncio.gather(
            in_thread(executor, store.state_root), peer.summary(is_brief=True, timeout_s=_TIMEOUT_S)
        )
        if theirs.form != SUMMARY_FORM:
            raise ProtocolError(f"peer {peer.node} sums its records up in another way", hint="upgrade the older node")
        if vector == theirs.vector and not theirs.missing_blobs:
            break
        if attempt + 1 < tries:
            await asyncio.sleep(_BETWEEN_TRIES_S)
    return vector, buckets, theirs


def _are_equal(buckets: Mapping[str, Buckets], theirs: SummaryAnswer) -> bool:
    return roots_of(buckets) == theirs.kinds if theirs.kinds else dict(buckets) == theirs.buckets


async def _look(store: Store, peer: Peer, executor: Executor, kind: str, bucket: int) -> Sides:
    here, there = await asyncio.gather(
        in_thread(executor, store.bucket, kind, bucket), peer.bucket(kind, bucket, timeout_s=_TIMEOUT_S)
    )
    return sides_of(here, there)


def _listed(kind: str, sides: Sides, count: int) -> Differing:
    keys = sides.keys[:KEYS_LISTED_MAX]
    listed = set(keys)
    return Differing(
        kind=kind,
        count=count,
        keys=sorted(keys),
        only_here=sorted(listed.intersection(sides.only_here)),
        only_there=sorted(listed.intersection(sides.only_there)),
    )
