"""Blobs that this node must have and hasn't: fetched in the background, and asked for again until they are here."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Final, Protocol

from twinhull.kit.digest import Digest
from twinhull.kit.errors import StorageFull, TwinhullError
from twinhull.replication.protocol import INLINE_BLOB_BYTES_MAX
from twinhull.replication.threads import in_thread
from twinhull.replication.transfer import Transfer

_RUNNING_MAX: Final = 3
_BACKOFF_MIN_S: Final = 0.5
_BACKOFF_MAX_S: Final = 30.0
# A small blob travels in the stream, beside the change that names it: it gets this long before it is asked for.
_INLINE_GRACE_S: Final = 0.25
# A disk that was full is looked at so often: what is wanted comes as soon as there is room, however often it has failed.
_LOOK_FOR_ROOM_S: Final = 1.0
# Blobs that no peer has or gives, and that are tried again; more of them are left out until they are looked for again.
_FAILING_MAX: Final = 500


class Bringing(Protocol):
    """What brings one blob."""

    def running(self, digest: Digest) -> Transfer | None:
        """Return the transfer that brings this blob, if there is one."""
        ...

    def start(self, digest: Digest, size: int) -> Transfer:
        """Return the transfer of this blob, begun now unless it is under way."""
        ...

    def spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run something until it ends or all transfers are stopped."""
        ...


class Backlog:
    """Used on the agent's event loop. Each blob in it costs a task: who adds to it keeps it short (see Wants)."""

    def __init__(
        self,
        transfers: Bringing,
        *,
        executor: Executor,
        is_named: Callable[[Digest], bool],
        free_bytes: Callable[[], int],
        jitter: random.Random,
    ) -> None:
        """Take what brings blobs, and what tells whether a record still names one, and how much room there is."""
        self._transfers = transfers
        self._executor = executor
        self._is_named = is_named
        self._free_bytes = free_bytes
        self._jitter = jitter
        self._wanted: dict[Digest, int] = {}
        self._failing: set[Digest] = set()
        self._is_looking_for_room = False
        self._room = asyncio.Semaphore(_RUNNING_MAX)
        self._hurry = asyncio.Event()
        # Whenever a blob has come.
        self._fewer = asyncio.Event()
        # Set when a blob that a record names is neither here nor wanted: who knows the records looks for it again.
        self.left_out = asyncio.Event()
        # How many have come so far.
        self.brought = 0

    def want(self, digest: Digest, size: int) -> None:
        """Fetch a blob that a record names, when there is room; asked for again until it is here, or nothing names it."""
        if digest not in self._wanted:
            self._wanted[digest] = size
            self._transfers.spawn(self._fetch_wanted(digest, size))

    def wants(self, digest: Digest) -> bool:
        """Tell whether the blob is asked for until it is here. Any thread may ask."""
        return digest in self._wanted

    async def until_at_most(self, count: int) -> None:
        """Return when no more blobs are wanted than that."""
        while len(self._wanted) > count:
            self._fewer.clear()
            await self._fewer.wait()

    def is_coming(self, digest: Digest) -> bool:
        """Tell whether a wanted blob may arrive any moment: since the last `retry_now` it has not failed to."""
        return digest in self._wanted and digest not in self._failing

    def retry_now(self) -> None:
        """Ask for wanted blobs at once: a peer is there again."""
        self._failing.clear()
        self._hurry.set()
        self._hurry = asyncio.Event()

    @property
    def size_bytes(self) -> int:
        """How many bytes of blobs are still to come."""
        return sum(self._wanted.values())

    @property
    def blobs(self) -> int:
        """How many blobs are still to come."""
        return len(self._wanted)

    async def _fetch_wanted(self, digest: Digest, size: int) -> None:
        failures = 0
        if size <= INLINE_BLOB_BYTES_MAX and self._transfers.running(digest) is None:
            await asyncio.sleep(_INLINE_GRACE_S)
        while digest in self._wanted:
            async with self._room:
                try:
                    if digest in self._wanted:
                        await asyncio.shield(self._transfers.start(digest, size).ended)
                        self.brought += 1
                    return
                except TwinhullError as error:
                    failures += 1
                    self._failing.add(digest)
                    if isinstance(error, StorageFull) and not self._is_looking_for_room:
                        self._is_looking_for_room = True
                        self._transfers.spawn(self._look_for_room())
            if len(self._failing) > _FAILING_MAX:
                self.drop(digest)
                self.left_out.set()
                return
            if not await in_thread(self._executor, self._is_named, digest):
                self.drop(digest)
                return
            delay_s = min(_BACKOFF_MAX_S, _BACKOFF_MIN_S * 2 ** min(failures, 10)) * (0.5 + self._jitter.random() / 2)
            try:
                async with asyncio.timeout(delay_s):
                    await self._hurry.wait()
            except TimeoutError:
                continue

    async def _look_for_room(self) -> None:
        while self._failing:
            await asyncio.sleep(_LOOK_FOR_ROOM_S)
            free = await in_thread(self._executor, self._free_bytes)
            if free > min((self._wanted.get(digest, 0) for digest in self._failing), default=0):
                break
        self._is_looking_for_room = False
        self.retry_now()

    def drop(self, digest: Digest) -> None:
        """Want a blob no more: it is on disk, or nothing names it."""
        self._wanted.pop(digest, None)
        self._failing.discard(digest)
        self._fewer.set()
