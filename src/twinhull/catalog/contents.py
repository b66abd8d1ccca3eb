"""Blobs as repositories see them: a blob is there when a manifest of the repository, or a link, names it.

That somewhere on this node's disk lie bytes with a certain digest opens nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import structlog
from sqlalchemy import Connection

from twinhull.blobs.rehash import is_right
from twinhull.blobs.store import BlobStore
from twinhull.catalog.peers import BlobSource, Peers
from twinhull.catalog.quotas import refusals_told, require_room
from twinhull.catalog.upstreams import NoUpstreams, Upstreams
from twinhull.kit.digest import Digest
from twinhull.kit.errors import BlobInUse, BlobUnknown, PeerUnavailable, StorageFull, TwinhullError, Unavailable
from twinhull.kit.reference import project_of
from twinhull.metadata import content as queries
from twinhull.metadata import garbage
from twinhull.metadata.content import VisibleBlob
from twinhull.metadata.freshness import Freshness
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import BLOB, MANIFEST, content_key, split_content_key

log = structlog.get_logger(__name__)

SIZES_CACHED_MAX: Final = 50_000
# A mount without a source looks at no more than so many repositories.
HOMES_MAX: Final = 200
# A link that nothing but a client's question shows to be of use is renewed when it is older than this.
RENEW_AFTER_S: Final = 12 * 3600.0

_T = TypeVar("_T")


class Located(NamedTuple):
    """Where a blob's bytes are: in a file, in the store without one, or still with a peer or another registry."""

    size: int
    path: Path | None = None
    source: BlobSource | None = None


def put_link(transaction: Transaction, blobs: BlobStore | None, repository: str, digest: Digest, size: int) -> None:
    """Make a blob visible in a repository, or more lately so; its bytes must be in the store if one is given.

    Raises QuotaExceeded, and Unavailable when the blob was removed since, which is next to impossible.
    """
    # Garbage is removed in a writing transaction too: from here on it sees the link, or is done.
    if blobs is not None and blobs.stat(digest) is None:
        raise Unavailable(f"blob {digest} was removed while it was being stored", hint="send it again")
    require_room(transaction, project_of(repository), digest, size)
    key = content_key(repository, digest)
    fields = {"size": size, "linked_ms": transaction.now_ms()}
    if transaction.values(BLOB, key) is None:
        transaction.create(BLOB, key, fields)
    else:
        transaction.put(BLOB, key, fields)


class Contents:
    """The blobs of the repositories."""

    def __init__(
        self,
        *,
        store: Store,
        blobs: BlobStore,
        freshness: Freshness,
        executor: Executor,
        peers: Peers,
        upstreams: Upstreams | None = None,
        renew_after_s: float = RENEW_AFTER_S,
    ) -> None:
        """Take the metadata, the bytes, what keeps caches right, threads to wait in, and when to renew links.

        And who is asked for what is not here: the peers, and the registries that projects stand for.
        """
        self._upstreams = upstreams or NoUpstreams()
        self._store = store
        self._blobs = blobs
        self._freshness = freshness
        self._executor = executor
        self._peers = peers
        self._renew_after_ms = int(renew_after_s * 1000)
        # Per repository, so that the end of a manifest drops what it alone may have made visible.
        self._visible: dict[str, dict[Digest, VisibleBlob]] = {}
        self._cached = 0
        freshness.listen(self._on_change, self._on_reset)

    async def size(self, repository: str, digest: Digest) -> int:
        """Return the size of a blob of the repository, or raise BlobUnknown once no peer has it there either."""
        return (await self._find(repository, digest)).size

    async def promise(self, repository: str, digest: Digest) -> int:
        """Return what size does, to a client that need not send the blob then: it stays until a manifest can name it."""
        try:
            found = await self._find(repository, digest)
        except BlobUnknown:
            if not await self._upstreams.stands_for(project_of(repository)):
                raise
            return await self._upstreams.blob_size(repository, digest)
        if found.linked_ms is not None and self._store.clock.unix_ms() - found.linked_ms >= self._renew_after_ms:
            # On a full disk no manifest could be pushed either.
            with contextlib.suppress(StorageFull):
                await self.link(repository, digest, found.size, source=repository)
        return found.size

    async def locate(self, repository: str, digest: Digest) -> Located:
        """Return where to read a blob of the repository; raises BlobUnknown, or PeerUnavailable if its bytes can't be had."""
        try:
            return await self._locate_here(repository, digest)
        except (BlobUnknown, PeerUnavailable):
            if not await self._upstreams.stands_for(project_of(repository)):
                raise
            coming = await self._upstreams.blob(repository, digest)
            return Located(coming.size, source=coming.source)

    async def _locate_here(self, repository: str, digest: Digest) -> Located:
        size = await self.size(repository, digest)
        stored, path = await self._run(lambda: (self._blobs.stat(digest), self._blobs.path_of(digest)))
        if stored is not None and (stored == size or await self._run(lambda: self._is_right(digest))):
            return Located(stored, path=path)
        return Located(size, source=await self._peers.blob_source(repository, digest, size))

    async def read(self, digest: Digest, start: int, length: int) -> bytes:
        """Return bytes that are on this node; raises BlobUnknown when they went away meanwhile."""
        return await self._run(lambda: self._blobs.read(digest, start, length))

    async def homes(self, digest: Digest) -> list[tuple[str, int]]:
        """Return repositories that have the blob, with its size, whoever may see them."""
        return await self._query(lambda connection: queries.homes_of_blob(connection, digest, HOMES_MAX))

    async def link(self, repository: str, digest: Digest, size: int, *, source: str) -> int:
        """Make a blob that is visible in the source visible in the repository, and return this node's change number.

        Raises ProjectUnknown, BlobUnknown, QuotaExceeded.
        """
        return await self._run(lambda: self.link_now(repository, digest, size, source=source))

    def link_now(self, repository: str, digest: Digest, size: int, *, source: str | None = None) -> int:
        """Do what link does, for a caller that is in a thread; without a source, for a blob that has just been stored here.

        Raises QuotaExceeded, and Unavailable when the blob was removed since, which is next to impossible.
        """
        with refusals_told(self._store, repository), self._store.write() as transaction:
            queries.require_pushable(transaction.connection, project_of(repository))
            if source is not None and queries.visible_blob(transaction.connection, source, digest) is None:
                raise BlobUnknown(detail={"name": source, "digest": digest})
            put_link(transaction, None if source is not None else self._blobs, repository, digest, size)
        return transaction.seq

    def note_stray_now(self, digest: Digest) -> None:
        """Let a collection look at a blob that was stored and could not be linked; for a caller that is in a thread."""
        # Where nothing can be written, the next walk over the disk finds it.
        with contextlib.suppress(TwinhullError), self._store.write() as transaction:
            garbage.add_strays(transaction.connection, [digest], 0)

    async def delete(self, repository: str, digest: Digest) -> int:
        """Hide the blob from the repository, and return this node's change number.

        Raises BlobUnknown, or BlobInUse while a manifest of the repository names it.
        """
        await self.size(repository, digest)
        return await self._run(lambda: self._unlink(repository, digest))

    def check_project_now(self, repository: str) -> None:
        """Raise ProjectUnknown or Denied unless the repository's project takes pushes; for a caller that is in a thread."""
        with self._store.read() as connection:
            queries.require_pushable(connection, project_of(repository))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _is_right(self, digest: Digest) -> bool:
        """Tell whether a blob of another size than its record says is right all the same; put it aside if not."""
        if is_right(self._blobs, digest):
            return True
        if self._blobs.quarantine(digest):
            log.error("blob was cut or grew behind this node's back, put aside", digest=digest)
        return False

    def _unlink(self, repository: str, digest: Digest) -> int:
        with self._store.write() as transaction:
            naming = queries.manifest_naming_blob(transaction.connection, repository, digest)
            if naming is not None:
                raise BlobInUse(f"blob is named by the manifest {naming}", hint="delete that first")
            if not transaction.delete(BLOB, content_key(repository, digest)):
                raise BlobUnknown(detail={"name": repository, "digest": digest})
        return transaction.seq

    async def _find(self, repository: str, digest: Digest) -> VisibleBlob:
        await self._freshness.catch_up()
        found = self._visible.get(repository, {}).get(digest)
        if found is None:
            found = await self._look_up(repository, digest)
        if found is None and await self._peers.find(BLOB.name, content_key(repository, digest)):
            found = await self._look_up(repository, digest)
        if found is None:
            raise BlobUnknown(detail={"name": repository, "digest": digest})
        return found

    async def _look_up(self, repository: str, digest: Digest) -> VisibleBlob | None:
        seen = self._freshness.seen
        found = await self._query(lambda connection: queries.visible_blob(connection, repository, digest))
        # What was read while the log moved on is good for this answer, but not to keep.
        if found is not None and self._freshness.seen == seen:
            if self._cached >= SIZES_CACHED_MAX:
                self._on_reset()
            visible = self._visible.setdefault(repository, {})
            self._cached += digest not in visible
            visible[digest] = found
        return found

    def _on_change(self, kind: str, key: str) -> None:
        if kind in (BLOB.name, MANIFEST.name):
            repository, digest = split_content_key(key)
            if kind == MANIFEST.name:
                self._cached -= len(self._visible.pop(repository, ()))
            elif self._visible.get(repository, {}).pop(Digest(digest), None) is not None:
                self._cached -= 1

    def _on_reset(self) -> None:
        self._visible.clear()
        self._cached = 0

    async def _run(self, action: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, action)

    async def _query(self, query: Callable[[Connection], _T]) -> _T:
        def run() -> _T:
            with self._store.read() as connection:
                return query(connection)

        return await self._run(run)
