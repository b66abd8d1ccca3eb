"""Which blobs this node must have: those that records name and its disk lacks."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

from twinhull.blobs.store import BlobStore
from twinhull.kit.digest import Digest, is_known
from twinhull.metadata import content, members
from twinhull.metadata.store import Store
from twinhull.records.change import Change
from twinhull.records.kinds import BLOB, KINDS, split_content_key
from twinhull.records.merge import decode, is_dead, values_of
from twinhull.replication.backlog import Backlog
from twinhull.replication.threads import in_thread

_NAMED_BLOBS_PAGE: Final = 1000
# So many blobs are waited for at a time, however many a newcomer lacks: each costs a few kilobytes of memory meanwhile.
_WANTED_MAX: Final = 2000
# Between two looks through all that records name: the longer, the more of them have brought nothing.
_BETWEEN_LOOKS_MIN_S: Final = 1.0
_BETWEEN_LOOKS_MAX_S: Final = 30.0


class Wants:
    """Turns what records name into transfers, a bounded number at a time. Used on the agent's event loop.

    What there is no room for is not kept in memory: it is found again by a look through all that records name.
    """

    def __init__(
        self, store: Store, blobs: BlobStore, backlog: Backlog, *, executor: Executor, wanted_max: int = _WANTED_MAX
    ) -> None:
        """Take what is known, what is here, what brings the rest, and how many blobs may be waited for at a time."""
        self._store = store
        self._blobs = blobs
        self._backlog = backlog
        self._executor = executor
        self._wanted_max = wanted_max
        self._is_looking = True
        # What the last count found beyond those on their way, less what has been asked for since.
        self._beyond_blobs = 0
        self._beyond_bytes = 0
        self._is_count_due = True

    @property
    def missing_blobs(self) -> int:
        """How many blobs are still to come, as far as is known; not 0 while that is not sure."""
        return max(self._backlog.blobs + self._beyond_blobs, int(self._is_unsure))

    @property
    def missing_bytes(self) -> int:
        """How many bytes of blobs are still to come, as far as is known; not 0 while that is not sure."""
        return max(self._backlog.size_bytes + self._beyond_bytes, int(self._is_unsure))

    @property
    def _is_unsure(self) -> bool:
        # Until all that records name was looked at, something is taken to be missing: nobody shall believe that all is here.
        return self._is_looking or self._backlog.left_out.is_set()

    def named_by(self, change: Change) -> None:
        """Fetch what a manifest or link that was just applied names."""
        kind = KINDS[change.kind]
        record = decode(change.record)
        if is_dead(kind, record):
            return
        values = values_of(kind, record)
        named: list[tuple[str, int]] = []
        if kind is BLOB:
            size = values.get("size")
            named = [(split_content_key(change.key)[1], size if isinstance(size, int) else 0)]
        elif isinstance(blobs := values.get("blobs"), list):
            named = [(digest, size) for digest, size, required in blobs if required]
        for digest, size in named:
            if not self._is_absent(digest) or self._backlog.wants(Digest(digest)):
                continue
            if self._backlog.blobs < self._wanted_max:
                self._backlog.want(Digest(digest), size)
            else:
                self._is_count_due = True
                self._backlog.left_out.set()

    def _is_absent(self, digest: str) -> bool:
        """Tell whether the blob is to be fetched; what is no digest, whoever wrote it into a record, is not."""
        return is_known(digest) and self._blobs.stat(Digest(digest)) is None

    async def look_for_ever(self) -> None:
        """Go through all blobs that records name, and fetch those that the disk lacks; again whenever some were left out."""
        brought, pause_s = 0, _BETWEEN_LOOKS_MIN_S
        while True:
            self._is_looking = True
            self._backlog.left_out.clear()
            await self._look_through()
            self._beyond_blobs = self._beyond_bytes = 0
            self._is_looking = False
            await self._backlog.left_out.wait()
            if self._backlog.brought == brought:
                pause_s = min(2 * pause_s, _BETWEEN_LOOKS_MAX_S)
            else:
                brought, pause_s = self._backlog.brought, _BETWEEN_LOOKS_MIN_S
            await asyncio.sleep(pause_s)

    async def _look_through(self) -> None:
        after = ""
        self._is_count_due = True
        while True:
            end, absent = await in_thread(self._executor, self._page_after, after)
            for digest, size in absent:
                if self._backlog.blobs >= self._wanted_max:
                    await self._wait_for_room(after)
                self._backlog.want(digest, size)
                self._beyond_blobs = max(0, self._beyond_blobs - 1)
                self._beyond_bytes = max(0, self._beyond_bytes - size)
            if not end:
                return
            after = end

    async def _wait_for_room(self, after: str) -> None:
        if self._is_count_due:
            self._is_count_due = False
            self._beyond_blobs, self._beyond_bytes = await in_thread(self._executor, self._count_after, after)
        await self._backlog.until_at_most(self._wanted_max // 2)

    def _count_after(self, after: str) -> tuple[int, int]:
        """Return how many blobs after that digest are neither here nor on their way, and how many bytes they have."""
        blobs = size_bytes = 0
        while True:
            after, absent = self._page_after(after)
            sizes = [size for digest, size in absent if not self._backlog.wants(digest)]
            blobs, size_bytes = blobs + len(sizes), size_bytes + sum(sizes)
            if not after:
                return blobs, size_bytes

    def _page_after(self, after: str) -> tuple[str, list[tuple[Digest, int]]]:
        with self._store.read() as connection:
            named = members.named_blobs_page(connection, after, _NAMED_BLOBS_PAGE)
        absent = [(digest, size) for digest, size in named if self._is_absent(digest)]
        return (named[-1][0] if named else ""), absent


def is_named(store: Store, digest: Digest) -> bool:
    """Tell whether any manifest or link names the blob."""
    with store.read() as connection:
        return bool(content.homes_of_blob(connection, digest, 1))
