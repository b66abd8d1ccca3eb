"""One node's records and bytes with their collector, by a clock that stands still, and members that say what they are told."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from tests.support.memory_blobs import MemoryBlobs
from tests.support.metadata import manifest_fields
from twinhull.jobs.garbage_collections import Order, Outcome
from twinhull.kit.clock import ManualClock
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import PeerUnavailable
from twinhull.metadata import garbage
from twinhull.metadata.store import Store
from twinhull.records.change import VersionVector
from twinhull.records.kinds import BLOB, MANIFEST, TAG, content_key, tag_key
from twinhull.replication.protocol import KeptQuery
from twinhull.upkeep.access import Access
from twinhull.upkeep.ballast import Ballast
from twinhull.upkeep.collector import Collector

GRACE_S: Final = 7200.0
GRACE_MS: Final = 7_200_000
APP: Final = "library/app"
OTHER: Final = "library/other"


class Told:
    """The other members, as the test wants them."""

    def __init__(self) -> None:
        """Say no."""
        self.members: frozenset[str] = frozenset()
        self.needs: set[str] = set()
        self.is_silent = False
        self.before_answer: Callable[[], None] = lambda: None
        self.asked_for: list[str] = []

    def asked(self) -> frozenset[str]:
        """Return who there is."""
        return self.members

    async def cut(self) -> VersionVector:
        """Return that they have nothing."""
        if self.is_silent:
            raise PeerUnavailable("node b cannot be asked")
        return {}

    async def kept(self, query: KeptQuery) -> set[str]:
        """Return what they need."""
        self.asked_for.extend(query.digests)
        self.before_answer()
        return self.needs & set(query.digests)


class Site:
    """One node's records and bytes, and its collector."""

    def __init__(self, store: Store, clock: ManualClock, executor: ThreadPoolExecutor, directory: Path) -> None:
        """Put it together."""
        self.store = store
        self.clock = clock
        self.blobs = MemoryBlobs(clock=clock)
        self.members = Told()
        self.access = Access(store, Ballast(directory / "ballast"), executor)
        self.collector = Collector(
            access=self.access,
            blobs=self.blobs,
            witnesses=self.members,
            clock=clock,
        )

    def blob(self, name: str, *repositories: str) -> Digest:
        """Store a blob and link it."""
        digest = digest_of(name.encode())
        self.blobs.put(digest, name.encode())
        for repository in repositories:
            self.link(digest, repository)
        return digest

    def link(self, digest: Digest, repository: str) -> None:
        """Link a blob, or do so again."""
        with self.store.write() as transaction:
            key, fields = content_key(repository, digest), {"size": 1, "linked_ms": transaction.now_ms()}
            if transaction.values(BLOB, key) is None:
                transaction.create(BLOB, key, fields)
            else:
                transaction.put(BLOB, key, fields)

    def manifest(self, name: str, *blobs: Digest, repository: str = APP, tag: str = "", **more: object) -> str:
        """Write a manifest that names the blobs."""
        digest = digest_of(f"manifest {name}".encode())
        with self.store.write() as transaction:
            fields = {**manifest_fields(blobs=dict.fromkeys(blobs, 1)), "pushed_ms": transaction.now_ms(), **more}
            transaction.create(MANIFEST, content_key(repository, digest), fields)
            if tag:
                transaction.create(TAG, tag_key(repository, tag), {"target": {"digest": digest}})
        return digest

    def delete_manifest(self, digest: str, repository: str = APP) -> None:
        """Delete a manifest."""
        with self.store.write() as transaction:
            assert transaction.delete(MANIFEST, content_key(repository, digest))

    async def collect(self, *, steps: int = 1000, **order: bool) -> Outcome:
        """Collect, and return what was done."""
        outcome = Outcome()
        async for _ in self.collector.collect(msgspec.convert(order, Order), outcome, grace_s=GRACE_S):
            steps -= 1
            if steps <= 0:
                break
        return outcome

    async def collect_later(self, **order: bool) -> Outcome:
        """Collect once to let the grace of what is there begin, and again after it."""
        await self.collect()
        self.clock.advance(GRACE_MS + 1)
        return await self.collect(steps=1000, **order)

    def links(self, digest: str) -> list[str]:
        """Return the repositories that link the blob."""
        with self.store.read() as connection:
            return sorted(repository for _, repository in garbage.links_among(connection, [digest]))

    def candidates(self) -> list[Digest]:
        """Return what may be garbage."""
        with self.store.read() as connection:
            return garbage.candidates_after(connection, "", 1000)
