"""A node's blobs on a real disk with its scrub, and peers that have copies, or not."""

from __future__ import annotations

import random
from concurrent.futures import Executor
from pathlib import Path

from tests.support.streams import new_store
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.config.settings import ScrubSettings
from twinhull.kit.clock import ManualClock
from twinhull.kit.digest import Digest, digest_of
from twinhull.observe.metrics import Metrics
from twinhull.records.kinds import BLOB, content_key
from twinhull.replication.protocol import Fault
from twinhull.upkeep.access import Access
from twinhull.upkeep.ballast import Ballast
from twinhull.upkeep.scrub_notes import Notes, Scrub
from twinhull.upkeep.scrubber import Scrubber
from twinhull.upkeep.scrubbing import Scrubbing


class Site:
    """The node."""

    def __init__(self, directory: Path, executor: Executor) -> None:
        """Make an empty one."""
        self.directory = directory
        self.clock = ManualClock()
        self.store = new_store(directory, "n1", 0, self.clock)
        self.blobs = FilesystemBlobs(directory)
        self.copies: dict[Digest, bytes] = {}
        self.wanted: list[Digest] = []
        self.missing: list[Fault] = []
        self.access = Access(self.store, Ballast(directory / "ballast"), executor)
        self.notes = Notes(directory / "scrub.json")
        self.start()

    def start(self, *, interval_s: float = 0) -> None:
        """Start its agent, for the first time or again."""
        self.scrubber = Scrubber(access=self.access, blobs=self.blobs, copies=self, looks=self, clock=self.clock)
        self.worker = Scrubbing(
            self.scrubber,
            self.notes,
            access=self.access,
            clock=self.clock,
            settings=ScrubSettings(interval_s=interval_s, pace_mb_s=1),
            metrics=Metrics(self.directory / "metrics", "agent", self.clock),
        )

    # -- what its peers do -----------------------------------------------------------------------------------------

    def want(self, digest: Digest, size: int) -> None:
        """Give a copy if a peer has one."""
        self.wanted.append(digest)
        if digest in self.copies:
            assert size == len(self.copies[digest])
            self.blobs.put(digest, self.copies[digest])

    def is_coming(self, digest: Digest) -> bool:
        """Tell that what has not come at once will not."""
        del digest
        return False

    def retry_now(self) -> None:
        """Do nothing more."""

    async def check_all(self, parts: tuple[str, ...], *, repair: bool) -> list[Fault]:
        """Return what the test wants to be missing."""
        assert parts == ("blobs",)
        assert repair
        return self.missing

    # -- what the test does ----------------------------------------------------------------------------------------

    def blob(self, seed: str, size: int = 5000, *, is_named: bool = True, has_copy: bool = True) -> Digest:
        """Store a blob."""
        content = random.Random(seed).randbytes(size)
        digest = digest_of(content)
        self.blobs.put(digest, content)
        if is_named:
            with self.store.write() as transaction:
                transaction.create(BLOB, content_key("library/app", digest), {"size": size})
        if has_copy:
            self.copies[digest] = content
        return digest

    def rot(self, digest: Digest, at: int = 100) -> None:
        """Flip a bit behind the node's back."""
        path = self.blobs.path_of(digest)
        assert path is not None
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)

    async def work(self, steps: int = 10_000) -> float:
        """Let the worker work to the end of a scrub, or so many steps; return how long it rested in all."""
        rested = 0.0
        await self.worker.wait_for_work()
        for _ in range(steps):
            rest_s = await self.worker.work()
            if rest_s is None:
                return rested
            rested += rest_s
        return rested

    def latest(self) -> Scrub:
        """Return what is noted."""
        found = self.notes.read()
        assert found is not None
        return found
