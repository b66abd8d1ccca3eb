"""Hashes every blob of a node again at a set pace, puts aside what has rotted, and takes the good copy from a peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from itertools import islice
from typing import Final, Protocol

import structlog

from twinhull.blobs.rehash import Rehash
from twinhull.blobs.store import BlobStore
from twinhull.kit.clock import Clock
from twinhull.kit.digest import Digest
from twinhull.kit.errors import BlobUnknown
from twinhull.metadata import content, garbage
from twinhull.replication.protocol import Fault
from twinhull.replication.self_check import BLOBS
from twinhull.upkeep.access import Access
from twinhull.upkeep.scrub_notes import Rotten, Scrub

log = structlog.get_logger(__name__)

_DIGESTS_AT_ONCE: Final = 500
# As much as one step reads, if the pace allows it, and for how long it reads at the pace.
_STEP_BYTES: Final = 16 << 20
_STEP_S: Final = 0.5
_MB: Final = 1_000_000
# A good copy is waited for so long; it is fetched all the same when a peer has it later.
_COPY_LOOKS: Final = 600
_COPY_LOOK_S: Final = 0.1


class Copies(Protocol):
    """What brings blobs from peers; see replication/transfers.py."""

    def want(self, digest: Digest, size: int) -> None:
        """Fetch a blob when there is room."""
        ...

    def is_coming(self, digest: Digest) -> bool:
        """Tell whether a wanted blob may arrive any moment: since the last `retry_now` it has not failed to."""
        ...

    def retry_now(self) -> None:
        """Ask for wanted blobs at once."""
        ...


class Looks(Protocol):
    """What finds missing and cut blobs by their sizes; see replication/mending.py."""

    async def check_all(self, parts: tuple[str, ...], *, repair: bool) -> list[Fault]:
        """Look through parts of this node's own data."""
        ...


class Scrubber:
    """Does one scrub at a time, step by step."""

    def __init__(self, *, access: Access, blobs: BlobStore, copies: Copies, looks: Looks, clock: Clock) -> None:
        """Take the records, the bytes, what brings good copies, and what finds those that are missing."""
        self._access = access
        self._blobs = blobs
        self._copies = copies
        self._looks = looks
        self._clock = clock

    async def scrub(self, scrub: Scrub) -> AsyncGenerator[float, None]:
        """Go on with the scrub, and yield after each step for how many seconds to rest."""
        if not scrub.after:
            scrub.total_blobs, scrub.total_bytes = await self._access.read(garbage.stored_blobs)
            for fault in await self._looks.check_all((BLOBS,), repair=True):
                scrub.note(Rotten(digest=fault.key, what="missing", size_bytes=0, is_mended=fault.is_mended))
            yield 0.0
        digests = iter(self._blobs.digests())
        while batch := await self._access.run(lambda: self._next(digests, scrub.after)):
            for digest in batch:
                async for rest_s in self._hash(scrub, digest):
                    yield rest_s
                scrub.after = digest
                scrub.blobs += 1
        # What no peer could give at once may have come since.
        for one in scrub.found:
            if one.is_named and not one.is_mended:
                one.is_mended = await self._access.run(lambda digest=one.digest: self._is_here(digest))  # type: ignore[misc]

    @staticmethod
    def _next(digests: Iterator[Digest], after: str) -> list[Digest]:
        return list(islice((digest for digest in digests if digest > after), _DIGESTS_AT_ONCE))

    async def _hash(self, scrub: Scrub, digest: Digest) -> AsyncGenerator[float, None]:
        pace = scrub.pace_mb_s * _MB
        length = int(min(_STEP_BYTES, pace * _STEP_S)) if pace else _STEP_BYTES
        try:
            rehash = await self._access.run(lambda: Rehash(self._blobs, digest))
        except BlobUnknown:
            # Garbage that was collected meanwhile.
            return
        with rehash:
            more = True
            while more:
                began_s, before = self._clock.monotonic_s(), rehash.bytes_read
                more = await self._access.run(lambda: rehash.step(length))
                count = rehash.bytes_read - before
                scrub.bytes += count
                yield max(0.0, count / pace - (self._clock.monotonic_s() - began_s)) if pace else 0.0
            if rehash.is_right():
                return
        await self._mend(scrub, digest, rehash)

    async def _mend(self, scrub: Scrub, digest: Digest, rehash: Rehash) -> None:
        if not await self._access.run(lambda: self._blobs.quarantine(digest)):
            return
        what = "unreadable" if rehash.unreadable else "rotten"
        homes = await self._access.read(lambda connection: content.homes_of_blob(connection, digest, 1))
        one = Rotten(digest=digest, what=what, size_bytes=rehash.bytes_read, is_named=bool(homes))
        log.error("blob has rotted and was put aside", digest=digest, what=what, size=rehash.bytes_read, named=one.is_named)
        scrub.note(one)
        if homes:
            self._copies.want(digest, homes[0][1])
            self._copies.retry_now()
            one.is_mended = await self._has_come(digest)

    async def _has_come(self, digest: Digest) -> bool:
        for _ in range(_COPY_LOOKS):
            if not self._copies.is_coming(digest):
                break
            await asyncio.sleep(_COPY_LOOK_S)
        return await self._access.run(lambda: self._is_here(digest))

    def _is_here(self, digest: str) -> bool:
        return self._blobs.stat(Digest(digest)) is not None
