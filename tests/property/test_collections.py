"""Whatever is pushed, mounted, deleted and collected where, in whatever order: no node ever names a blob that nobody has."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.property.test_stores import quick_disk, stores_in, take
from tests.support.memory_blobs import MemoryBlobs
from tests.support.metadata import manifest_fields
from twinhull.jobs.garbage_collections import Order, Outcome
from twinhull.kit.clock import ManualClock
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import PeerUnavailable
from twinhull.metadata import content, dump, garbage
from twinhull.metadata.store import Store
from twinhull.records.change import VersionVector, covers, joined
from twinhull.records.kinds import BLOB, MANIFEST, content_key
from twinhull.replication.protocol import KeptQuery
from twinhull.upkeep.access import Access
from twinhull.upkeep.ballast import Ballast
from twinhull.upkeep.collector import Collector

__all__ = ["quick_disk"]

CONTENT: Final = b"the blob that all is about"
DIGEST: Final = digest_of(CONTENT)
MANIFEST_DIGEST: Final = digest_of(b"the manifest that names it")
REPOSITORIES: Final = ("p/a", "p/b")
ALL: Final = 10_000
FEW = hypothesis.settings(max_examples=max(25, hypothesis.settings().max_examples // 20))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What somebody does at a node."""

    what: str
    node: int
    other: int
    repository: int
    number: int


NUMBERS = st.integers(0, 2)
WHAT = ("upload", "mount", "manifest", "unmanifest", "unlink", "unlink", "take", "take all", "fetch", "wait")


def steps_of(*what: str) -> st.SearchStrategy[Step]:
    """Return any step of these kinds."""
    return st.builds(
        Step,
        what=st.sampled_from(what),
        node=NUMBERS,
        other=NUMBERS,
        repository=st.integers(0, len(REPOSITORIES) - 1),
        number=st.integers(0, 3),
    )


# Most collections come when all is settled: else there is little to collect.
STEPS = st.lists(steps_of(*WHAT, "settle and collect", "settle and collect", "collect"), max_size=20)
# What happens while nodes collect: between two questions, and between the last answer and the removal.
MEANWHILE = st.lists(
    steps_of("mount", "manifest", "take", "take all", "unlink", "unmanifest", "upload"), min_size=4, max_size=20
)


class World:
    """Three nodes with their records and disks."""

    def __init__(self, stores: list[Store], clock: ManualClock, executor: ThreadPoolExecutor, grace_ms: int) -> None:
        """Begin with nothing."""
        self.stores = stores
        self.clock = clock
        self.executor = executor
        self.grace_ms = grace_ms
        self.disks = [MemoryBlobs(clock=clock) for _ in stores]

    def do(self, step: Step) -> None:
        """Do a step of a client, or of replication, as the product does it."""
        store, repository = self.stores[step.node], REPOSITORIES[step.repository]
        match step.what:
            case "upload":
                self.disks[step.node].put(DIGEST, CONTENT)
                self.link(store, repository)
            case "mount" if visible(store, REPOSITORIES[1 - step.repository]):
                self.link(store, repository)
            case "manifest" if visible(store, repository):
                self.put_manifest(store, repository)
            case "unmanifest" | "unlink":
                self.delete(store, repository, manifest=step.what == "unmanifest")
            case "wait":
                self.clock.advance(step.number)
            case _:
                self.replicate(step)

    def replicate(self, step: Step) -> None:
        """Take changes or bytes from another node."""
        store, other = self.stores[step.node], self.stores[step.other]
        if step.what.startswith("take"):
            take(store, other, ALL if step.what == "take all" else 1 + step.number)
        elif step.what == "fetch" and self.disks[step.other].stat(DIGEST) is not None and self.named(store):
            self.disks[step.node].put(DIGEST, CONTENT)

    def settle(self) -> None:
        """Let all nodes know everything, and the grace of all candidates be over."""
        for _ in range(2):
            for store in self.stores:
                for other in self.stores:
                    take(store, other, ALL)
        for store in self.stores:
            with store.write() as transaction:
                garbage.begin_grace(transaction.connection, self.clock.unix_ms())
        self.clock.advance(self.grace_ms + 1)

    def delete(self, store: Store, repository: str, *, manifest: bool) -> None:
        """Delete the manifest, or the blob unless the manifest names it."""
        with store.write() as transaction:
            if manifest:
                transaction.delete(MANIFEST, content_key(repository, MANIFEST_DIGEST))
            elif content.manifest_naming_blob(transaction.connection, repository, DIGEST) is None:
                transaction.delete(BLOB, content_key(repository, DIGEST))

    def link(self, store: Store, repository: str) -> None:
        """Make the blob visible in the repository."""
        with store.write() as transaction:
            key, fields = content_key(repository, DIGEST), {"size": 3, "linked_ms": transaction.now_ms()}
            if transaction.values(BLOB, key) is None:
                transaction.create(BLOB, key, fields)
            else:
                transaction.put(BLOB, key, fields)

    def put_manifest(self, store: Store, repository: str) -> None:
        """Push the manifest that names the blob."""
        with store.write() as transaction:
            key = content_key(repository, MANIFEST_DIGEST)
            if transaction.values(MANIFEST, key) is None:
                transaction.create(MANIFEST, key, manifest_fields(blobs={DIGEST: 3}))
            else:
                transaction.put(MANIFEST, key, {})

    def named(self, store: Store) -> set[str]:
        """Return what a node names."""
        with store.read() as connection:
            return {digest for digest, _ in dump.named_blobs(connection)}

    def check(self) -> None:
        """Fail if any node names what no node has."""
        for store in self.stores:
            for digest in self.named(store):
                assert any(disk.stat(Digest(digest)) is not None for disk in self.disks), f"{store.node} names {digest}"


class Others:
    """The other nodes as witnesses, with things going on between their answers."""

    def __init__(self, world: World, own: int, *, unreachable: int | None, meanwhile: Iterator[Step]) -> None:
        """Take who asks, who cannot be asked, and what happens meanwhile."""
        self._world = world
        self._own = own
        self._unreachable = unreachable
        self._meanwhile = meanwhile

    def _others(self) -> Iterator[Store]:
        for number, store in enumerate(self._world.stores):
            if number != self._own:
                for step, _ in zip(self._meanwhile, range(2), strict=False):
                    self._world.do(step)
                if number == self._unreachable:
                    raise PeerUnavailable(f"{store.node} cannot be asked")
                yield store

    def asked(self) -> frozenset[str]:
        """Return all."""
        return frozenset(store.node for store in self._world.stores)

    async def cut(self) -> VersionVector:
        """Gather their vectors; this node must have it all."""
        own = self._world.stores[self._own]
        cut: VersionVector = {}
        for store in self._others():
            cut = joined(cut, store.vector())
        cut = joined(cut, own.vector())
        if not covers(own.vector(), cut):
            raise PeerUnavailable("this node is behind")
        return cut

    async def kept(self, query: KeptQuery) -> set[str]:
        """Ask each, and let things happen before the answers are used."""
        kept: set[str] = set()
        for store in self._others():
            if not covers(store.vector(), query.vector):
                raise PeerUnavailable(f"{store.node} is behind")
            quiet_ms = self._world.clock.unix_ms() - int(query.quiet_s * 1000) if query.quiet_s else None
            with store.read() as connection:
                kept |= garbage.needed_among(connection, query.digests, quiet_ms)
        for step in self._meanwhile:
            self._world.do(step)
        return kept


def visible(store: Store, repository: str) -> bool:
    """Tell whether the node shows the blob in the repository."""
    with store.read() as connection:
        return content.visible_blob(connection, repository, DIGEST) is not None


async def collect(world: World, step: Step, meanwhile: Iterator[Step], directory: Path) -> None:
    """Collect at a node."""
    unreachable = step.other if step.number == 3 else None
    access = Access(world.stores[step.node], Ballast(directory / "ballast"), world.executor)
    collector = Collector(
        access=access,
        blobs=world.disks[step.node],
        witnesses=Others(world, step.node, unreachable=unreachable, meanwhile=meanwhile),
        clock=world.clock,
    )
    with suppress(PeerUnavailable):
        async for _ in collector.collect(Order(walk=step.number == 2), Outcome(), grace_s=world.grace_ms / 1000):
            world.check()


def run(world: World, steps: list[Step], meanwhile: list[Step], directory: Path) -> None:
    """Do all steps, and look after each."""
    going_on = iter(meanwhile)

    async def do_all() -> None:
        for step in steps:
            if step.what.endswith("collect"):
                if step.what != "collect":
                    world.settle()
                await collect(world, step, going_on, directory)
            else:
                world.do(step)
            world.check()

    asyncio.run(do_all())


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    """Threads for the databases."""
    with ThreadPoolExecutor(2) as threads:
        yield threads


@FEW
@given(steps=STEPS, meanwhile=MEANWHILE)
def test_no_node_names_a_blob_that_nobody_has(
    quick_disk: Path, executor: ThreadPoolExecutor, steps: list[Step], meanwhile: list[Step]
) -> None:
    clock = ManualClock()
    with stores_in(quick_disk, clock) as stores:
        world = World(stores, clock, executor, 100)
        # All know a blob that one of them has: what is to be done about it is what the rest decides.
        world.do(Step(what="upload", node=0, other=0, repository=0, number=0))
        world.settle()
        last = Step(what="collect", node=0, other=0, repository=0, number=0)
        run(world, [*steps, last], meanwhile, quick_disk)


@FEW
@given(steps=STEPS)
def test_all_garbage_goes_once_everybody_knows_everything(
    quick_disk: Path, executor: ThreadPoolExecutor, steps: list[Step]
) -> None:
    clock = ManualClock()
    with stores_in(quick_disk, clock) as stores:
        world = World(stores, clock, executor, 100)
        run(world, steps, [], quick_disk)
        # The first deletes links, the second the bytes at each node.
        for node in (0, 0, 1, 2):
            last = Step(what="settle and collect", node=node, other=0, repository=0, number=2)
            run(world, [last], [], quick_disk)
        for store, disk in zip(stores, world.disks, strict=True):
            assert set(disk.digests()) <= world.named(store)
            with store.read() as connection:
                assert garbage.candidates_after(connection, "", 10) == []
