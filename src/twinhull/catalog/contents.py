"""Blobs as repositories see them: a blob is there when a manifest of the repository, or a link, names it.

That somewhere on this node's disk lie bytes with a certain digest opens nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from sqlalchemy import Connection

from twinhull.blobs.store import BlobStore
from twinhull.catalog.peers import BlobSource, Peers
from twinhull.kit.digest import Digest
from twinhull.kit.errors import BlobInUse, BlobUnknown, ProjectUnknown
from twinhull.kit.reference import project_of
from twinhull.metadata import content as queries
from twinhull.metadata.freshness import Freshness
from twinhull.metadata.store import Store
from twinhull.records.kinds import BLOB, MANIFEST, content_key, split_content_key

SIZES_CACHED_MAX: Final = 50_000
# A mount without a source looks at no more than so many repositories.
HOMES_MAX: Final = 200

_T = TypeVar("_T")


class Located(NamedTuple):
    """Where a blob's bytes are: in a file, in the store without one, or still with a peer."""

    size: int
    path: Path | None = None
    source: BlobSource | None = None


class Contents:
    """The blobs of the repositories."""

    def __init__(self, *, store: Store, blobs: BlobStore, freshness: Freshness, executor: Executor, peers: Peers) -> None:
        """Take the metadata, the bytes, what keeps caches right, threads to wait in, and the peers."""
        self._store = store
        self._blobs = blobs
        self._freshness = freshness
        self._executor = executor
        self._peers = peers
        # Per repository, so that the end of a manifest drops what it alone may have made visible.
        self._sizes: dict[str, dict[Digest, int]] = {}
        self._cached = 0
        freshness.listen(self._on_change, self._on_reset)

    async def size(self, repository: str, digest: Digest) -> int:
        """Return the size of a blob of the repository, or raise BlobUnknown once no peer has it there either."""
        await self._freshness.catch_up()
        known = self._sizes.get(repository, {}).get(digest)
        if known is not None:
            return known
        size = await self._look_up(repository, digest)
        if size is None and await self._peers.find(BLOB.name, content_key(repository, digest)):
            size = await self._look_up(repository, digest)
        if size is None:
            raise BlobUnknown(detail={"name": repository, "digest": digest})
        return size

    async def locate(self, repository: str, digest: Digest) -> Located:
        """Return where to read a blob of the repository; raises BlobUnknown, or PeerUnavailable if its bytes can't be had."""
        size = await self.size(repository, digest)
        stored, path = await self._run(lambda: (self._blobs.stat(digest), self._blobs.path_of(digest)))
        if stored is not None:
            return Located(stored, path=path)
        return Located(size, source=await self._peers.blob_source(repository, digest, size))

    async def read(self, digest: Digest, start: int, length: int) -> bytes:
        """Return bytes that are on this node; raises BlobUnknown when they went away meanwhile."""
        return await self._run(lambda: self._blobs.read(digest, start, length))

    async def homes(self, digest: Digest) -> list[tuple[str, int]]:
        """Return repositories that have the blob, with its size, whoever may see them."""
        return await self._query(lambda connection: queries.homes_of_blob(connection, digest, HOMES_MAX))

    async def link(self, repository: str, digest: Digest, size: int) -> int:
        """Make the blob visible in the repository, and return this node's change number; raises ProjectUnknown."""
        return await self._run(lambda: self.link_now(repository, digest, size))

    def link_now(self, repository: str, digest: Digest, size: int) -> int:
        """Do what link does, for a caller that is in a thread already."""
        with self._store.write() as transaction:
            if not queries.has_project(transaction.connection, project_of(repository)):
                raise ProjectUnknown(f"project {project_of(repository)!r} not found")
            key = content_key(repository, digest)
            fields = {"size": size, "linked_ms": transaction.now_ms()}
            if transaction.values(BLOB, key) is None:
                transaction.create(BLOB, key, fields)
            else:
                transaction.put(BLOB, key, fields)
        return transaction.seq

    async def delete(self, repository: str, digest: Digest) -> int:
        """Hide the blob from the repository, and return this node's change number.

        Raises BlobUnknown, or BlobInUse while a manifest of the repository names it.
        """
        await self.size(repository, digest)
        return await self._run(lambda: self._unlink(repository, digest))

    def check_project_now(self, repository: str) -> None:
        """Raise ProjectUnknown unless the repository's project lives; for a caller that is in a thread."""
        project = project_of(repository)
        with self._store.read() as connection:
            if not queries.has_project(connection, project):
                raise ProjectUnknown(f"project {project!r} not found")

    # -- inside ----------------------------------------------------------------------------------------------------

    def _unlink(self, repository: str, digest: Digest) -> int:
        with self._store.write() as transaction:
            naming = queries.manifest_naming_blob(transaction.connection, repository, digest)
            if naming is not None:
                raise BlobInUse(f"blob is named by the manifest {naming}", hint="delete that first")
            if not transaction.delete(BLOB, content_key(repository, digest)):
                raise BlobUnknown(detail={"name": repository, "digest": digest})
        return transaction.seq

    async def _look_up(self, repository: str, digest: Digest) -> int | None:
        seen = self._freshness.seen
        size = await self._query(lambda connection: queries.blob_size(connection, repository, digest))
        # What was read while the log moved on is good for this answer, but not to keep.
        if size is not None and self._freshness.seen == seen:
            if self._cached >= SIZES_CACHED_MAX:
                self._on_reset()
            sizes = self._sizes.setdefault(repository, {})
            self._cached += digest not in sizes
            sizes[digest] = size
        return size

    def _on_change(self, kind: str, key: str) -> None:
        if kind in (BLOB.name, MANIFEST.name):
            repository, digest = split_content_key(key)
            if kind == MANIFEST.name:
                self._cached -= len(self._sizes.pop(repository, ()))
            elif self._sizes.get(repository, {}).pop(Digest(digest), None) is not None:
                self._cached -= 1

    def _on_reset(self) -> None:
        self._sizes.clear()
        self._cached = 0

    async def _run(self, action: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, action)

    async def _query(self, query: Callable[[Connection], _T]) -> _T:
        def run() -> _T:
            with self._store.read() as connection:
                return query(connection)

        return await self._run(run)
