"""Manifests as they are pulled: from this process's memory where the log allows it, else from the metadata.

Pushing and deleting are in `pushing` and `deleting`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

import structlog
from sqlalchemy import Connection

from twinhull.catalog.peers import Peers
from twinhull.catalog.upstreams import NoUpstreams, Upstreams
from twinhull.kit.digest import Digest
from twinhull.kit.errors import ManifestUnknown, RegistryLacks, RepositoryUnknown, TooMany, TwinhullError
from twinhull.kit.reference import is_digest, project_of
from twinhull.metadata import content
from twinhull.metadata.content import Referrer
from twinhull.metadata.freshness import Freshness
from twinhull.metadata.store import Store
from twinhull.records.kinds import MANIFEST, TAG, content_key, tag_key

log = structlog.get_logger(__name__)

CACHE_BYTES_MAX: Final = 16 * 1024 * 1024
TAGS_CACHED_MAX: Final = 50_000
# What an entry costs beside its bytes: keys, objects, headers.
_ENTRY_OVERHEAD_BYTES: Final = 2048

_T = TypeVar("_T")
_Headers = list[tuple[bytes, bytes]]


class StoredManifest:
    """A manifest's exact bytes and what goes out with them. Immutable; shared by all requests for it."""

    __slots__ = ("coming", "content", "digest", "headers", "media_type")

    def __init__(self, digest: Digest, media_type: str, content: bytes, *, coming: bool = False) -> None:
        """Take what the metadata has, or another registry from which it is coming here."""
        self.coming = coming
        self.digest = digest
        self.media_type = media_type
        self.content = content
        # A face's own: made on first use, since the same lists go out with every answer.
        self.headers: tuple[_Headers, _Headers] | None = None


class ManifestCache:
    """Manifests and tags that were looked up; what the log says changed is dropped before it could be used again."""

    def __init__(self, *, bytes_max: int = CACHE_BYTES_MAX) -> None:
        """Hold at most so many bytes."""
        self._bytes_max = bytes_max
        self._bytes = 0
        # By the records' own keys, "library/app:v1" and "library/app@sha256:…", as the log names them.
        self._manifests: OrderedDict[str, StoredManifest] = OrderedDict()
        self._tags: dict[str, Digest] = {}

    def tag(self, key: str) -> Digest | None:
        """Return what the tag is known to name."""
        return self._tags.get(key)

    def manifest(self, key: str) -> StoredManifest | None:
        """Return the manifest if it is known to be in the repository."""
        found = self._manifests.get(key)
        if found is not None:
            self._manifests.move_to_end(key)
        return found

    def keep_tag(self, key: str, digest: Digest) -> None:
        """Remember what a tag names."""
        if len(self._tags) >= TAGS_CACHED_MAX:
            self._tags.clear()
        self._tags[key] = digest

    def keep_manifest(self, key: str, manifest: StoredManifest) -> None:
        """Remember a manifest, and forget those that were not asked for the longest where there are too many."""
        cost = len(manifest.content) + _ENTRY_OVERHEAD_BYTES
        if cost > self._bytes_max // 4:
            return
        self._forget_manifest(key)
        self._manifests[key] = manifest
        self._bytes += cost
        while self._bytes > self._bytes_max:
            _, oldest = self._manifests.popitem(last=False)
            self._bytes -= len(oldest.content) + _ENTRY_OVERHEAD_BYTES

    def on_change(self, kind: str, key: str) -> None:
        """Forget what the log says has changed."""
        if kind == TAG.name:
            self._tags.pop(key, None)
        elif kind == MANIFEST.name:
            self._forget_manifest(key)

    def on_reset(self) -> None:
        """Forget everything."""
        self._tags.clear()
        self._manifests.clear()
        self._bytes = 0

    def _forget_manifest(self, key: str) -> None:
        gone = self._manifests.pop(key, None)
        if gone is not None:
            self._bytes -= len(gone.content) + _ENTRY_OVERHEAD_BYTES


def _unknown(repository: str, reference: str, error: TwinhullError) -> ManifestUnknown:
    detail = {"name": repository, "reference": reference}
    return ManifestUnknown(f"manifest {reference} is not cached in {repository}, and {error.message}", detail=detail)


class Artifacts:
    """What the repositories hold, for those who pull."""

    def __init__(
        self,
        *,
        store: Store,
        freshness: Freshness,
        executor: Executor,
        peers: Peers,
        upstreams: Upstreams | None = None,
        cache: ManifestCache | None = None,
    ) -> None:
        """Take the metadata, what keeps caches right, threads to wait in, and who is asked before saying no.

        That are the peers, and the registries that projects stand for.
        """
        self._upstreams = upstreams or NoUpstreams()
        self._store = store
        self._freshness = freshness
        self._executor = executor
        self._peers = peers
        self._cache = cache or ManifestCache()
        freshness.listen(self._cache.on_change, self._cache.on_reset)

    def remembered(self, repository: str, reference: str) -> StoredManifest | None:
        """Return the manifest if memory alone can answer rightly: a few look-ups, no waiting."""
        if not self._freshness.is_current() or self._peers.is_behind():
            return None
        if ":" in reference:
            return self._cache.manifest(f"{repository}@{reference}")
        digest = self._cache.tag(f"{repository}:{reference}")
        return self._cache.manifest(f"{repository}@{digest}") if digest is not None else None

    async def pull(self, repository: str, reference: str | Digest, *, look_only: bool = False) -> StoredManifest:
        """Return the manifest that the tag or digest names, or raise ManifestUnknown once nobody else has it either.

        Who only looks, by a HEAD, brings nothing here.
        """
        await self._freshness.catch_up()
        is_proxied = await self._upstreams.stands_for(project_of(repository))
        # What a tag names upstream may change at any time, and no log tells of it.
        found = await self._pull_here(repository, reference, keeps_tag=not is_proxied)
        if is_proxied and (found is None or not is_digest(reference)):
            found = await self._ask_upstream(repository, reference, found, look_only=look_only)
        if found is None:
            raise ManifestUnknown(detail={"name": repository, "reference": str(reference)})
        return found

    async def _pull_here(self, repository: str, reference: str | Digest, *, keeps_tag: bool) -> StoredManifest | None:
        if not is_digest(reference) and self._peers.is_behind():
            # A tag that is here may be an older one than a client has seen elsewhere already.
            key = tag_key(repository, reference)
            if await self._peers.find(TAG.name, key):
                self._cache.on_change(TAG.name, key)
        found = await self._look_up(repository, reference, keeps_tag=keeps_tag)
        if found is None and await self._find(repository, reference):
            found = await self._look_up(repository, reference, keeps_tag=keeps_tag)
        return found

    async def _ask_upstream(
        self, repository: str, reference: str | Digest, here: StoredManifest | None, *, look_only: bool
    ) -> StoredManifest | None:
        """Return what upstream says now; what is here is better than nothing as long as it does not say that there is none."""
        have = here.digest if here is not None else None
        try:
            said = await self._upstreams.manifest(repository, reference, have, look_only=look_only)
        except RegistryLacks as error:
            if here is not None and await self._upstreams.serves_deleted(project_of(repository)):
                return here
            raise _unknown(repository, reference, error) from error
        except TwinhullError as error:
            if here is not None:
                log.info("upstream not asked, served from here", repository=repository, reference=reference, error=str(error))
                return here
            if isinstance(error, TooMany):
                raise
            raise _unknown(repository, reference, error) from error
        if said.content:
            return StoredManifest(said.digest, said.media_type, said.content, coming=True)
        return here if said.digest == have else await self._look_up(repository, said.digest, keeps_tag=False)

    async def _find(self, repository: str, reference: str | Digest) -> bool:
        """Ask the peers for a manifest, or a tag and the manifest that it names."""
        if is_digest(reference):
            return await self._peers.find(MANIFEST.name, content_key(repository, reference))
        found = await self._peers.find(TAG.name, tag_key(repository, reference))
        digest = await self._read(lambda connection: content.digest_of_tag(connection, repository, reference))
        if digest is None:
            return found
        return await self._peers.find(MANIFEST.name, content_key(repository, digest)) or found

    async def _look_up(self, repository: str, reference: str | Digest, *, keeps_tag: bool) -> StoredManifest | None:
        seen = self._freshness.seen
        digest = Digest(reference) if is_digest(reference) else self._cache.tag(tag_key(repository, reference))
        known = self._cache.manifest(content_key(repository, digest)) if digest is not None else None
        if known is not None:
            return known

        def read(connection: Connection) -> StoredManifest | None:
            named = reference if is_digest(reference) else content.digest_of_tag(connection, repository, reference)
            row = content.manifest(connection, repository, named) if named is not None else None
            return StoredManifest(Digest(str(named)), *row) if row is not None else None

        found = await self._read(read)
        if found is not None and self._freshness.seen == seen:
            # If the log moved on meanwhile, what was read may be older than what was dropped: good for this answer,
            # which was asked for before, but not to keep.
            self._cache.keep_manifest(content_key(repository, found.digest), found)
            if keeps_tag and not is_digest(reference):
                self._cache.keep_tag(tag_key(repository, reference), found.digest)
        return found

    async def tags(self, repository: str, last: str, limit: int) -> list[str]:
        """Return tags after `last` in the order of their bytes, or raise RepositoryUnknown.

        In a project that stands for another registry's content they are those that are here and those that are there.
        """
        there: list[str] = []
        if await self._upstreams.stands_for(project_of(repository)):
            there = [name for name in await self._upstreams.tags(repository) if name > last]

        def read(connection: Connection) -> list[str] | None:
            names = content.tags_page(connection, repository, last, limit)
            return names if names or there or content.has_repository(connection, repository) else None

        names = await self._read_list(read)
        if names is not None and there:
            names = sorted({*names, *there})[:limit]
        if names is None:
            raise RepositoryUnknown(detail={"name": repository})
        return names

    async def referrers(self, repository: str, subject: Digest, *, artifact_type: str, last: str, limit: int) -> list[Referrer]:
        """Return manifests whose subject is this digest, after the digest `last`; none is no error.

        In a project that stands for another registry's content they are those that are here and those that are there.
        """
        there: list[Referrer] = []
        if await self._upstreams.stands_for(project_of(repository)):
            there = [
                one
                for one in await self._upstreams.referrers(repository, subject)
                if one.digest > last and artifact_type in ("", one.artifact_type)
            ]

        def read(connection: Connection) -> list[Referrer]:
            return content.referrers_page(connection, repository, subject, artifact_type=artifact_type, last=last, limit=limit)

        here = await self._read_list(read)
        if not there:
            return here
        merged = {one.digest: one for one in (*there, *here)}
        return [merged[digest] for digest in sorted(merged)][:limit]

    async def repositories(self, last: str, limit: int, *, projects: frozenset[str] | None) -> list[str]:
        """Return names of repositories after `last`, of these projects or of all."""
        return await self._read_list(lambda connection: content.repositories_page(connection, last, limit, projects=projects))

    async def _read_list(self, query: Callable[[Connection], _T]) -> _T:
        # What another node has acknowledged is in it.
        await self._peers.settle()
        return await self._read(query)

    async def _read(self, query: Callable[[Connection], _T]) -> _T:
        def run() -> _T:
            with self._store.read() as connection:
                return query(connection)

        return await asyncio.get_running_loop().run_in_executor(self._executor, run)
