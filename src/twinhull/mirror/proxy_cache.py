"""What a node's workers ask of the registries that projects stand for.

It is asked here, in the agent, so that many who pull the same cost upstream one question.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, Final, NamedTuple, TypeVar

from twinhull.blobs.store import BlobStore
from twinhull.catalog.media import parse_manifest
from twinhull.catalog.peers import NoPeers
from twinhull.catalog.pushing import Pushing
from twinhull.kit.clock import Clock
from twinhull.kit.digest import Digest
from twinhull.kit.errors import ManifestInvalid, ManifestTooLarge, RegistryBusy, RegistryUnreachable, TwinhullError
from twinhull.kit.reference import is_digest
from twinhull.metadata import content as queries
from twinhull.metadata.store import Store
from twinhull.mirror.keeping import Keeping
from twinhull.mirror.registry_client import ForeignManifest
from twinhull.mirror.upstreams import Upstream, Upstreams
from twinhull.replication.link import AskUpstream, Coming, FetchUpstream, Named, Result, SizeUpstream, UpstreamCall
from twinhull.replication.threads import in_thread
from twinhull.replication.transfers import Transfers

# What upstream has said a tag names is believed for so long.
ANSWER_S: Final = 2.0
# Where there is something to fall back on, upstream gets so long to answer; else so long.
_ASK_S: Final = 3.0
_ASK_PATIENTLY_S: Final = 15.0
# A registry that did not answer is not asked again for so long by those who have something to fall back on.
_DOWN_S: Final = 10.0
_BUSY_MAX_S: Final = 300
_TAGS_MAX: Final = 10_000
_SIZES_MAX: Final = 10_000
_MANIFESTS_BYTES_MAX: Final = 16 * 1024 * 1024

_T = TypeVar("_T")


class _Said(NamedTuple):
    digest: Digest
    until_s: float


class _Down(NamedTuple):
    failure: TwinhullError
    until_s: float


class ProxyCache:
    """Answers the workers' questions about upstream. Lives on the agent's event loop."""

    def __init__(
        self, *, store: Store, blobs: BlobStore, transfers: Transfers, upstreams: Upstreams, executor: Executor, clock: Clock
    ) -> None:
        """Take what is here, what brings blobs, who is upstream, threads to look in, and the time."""
        self._store = store
        self._upstreams = upstreams
        self._executor = executor
        self._clock = clock
        pushing = Pushing(store=store, blobs=blobs, executor=executor, peers=NoPeers())
        self.keeping = Keeping(
            store=store, blobs=blobs, transfers=transfers, pushing=pushing, executor=executor, is_current=self._is_current
        )
        # Futures of different types, each of the one that its kind of question has.
        self._asking: dict[tuple[str, str, str], asyncio.Future[Any]] = {}
        self._tags: OrderedDict[tuple[str, str], _Said] = OrderedDict()
        self._sizes: OrderedDict[tuple[str, Digest], tuple[int, float]] = OrderedDict()
        self._manifests: OrderedDict[tuple[str, Digest], ForeignManifest] = OrderedDict()
        self._manifests_bytes = 0
        self._down: dict[str, _Down] = {}

    async def on_call(self, call: UpstreamCall) -> Result:
        """Answer a worker; raises what registries' requests raise, and what there is no room for."""
        upstream = await self._upstreams.of(call.repository)
        match call:
            case AskUpstream():
                return await self._manifest(upstream, call)
            case SizeUpstream():
                return await self._size(upstream, call.repository, Digest(call.digest))
            case FetchUpstream():
                return await self._fetch(upstream, call.repository, Digest(call.digest))

    async def close(self) -> None:
        """Stop keeping, and hang up."""
        await self.keeping.close()
        await self._upstreams.close()

    # -- manifests -------------------------------------------------------------------------------------------------

    async def _manifest(self, upstream: Upstream, call: AskUpstream) -> Named:
        repository, reference = call.repository, call.reference
        if call.have:
            self._require_up(upstream)
        tag = "" if is_digest(reference) else reference
        try:
            async with asyncio.timeout(_ASK_S if call.have else _ASK_PATIENTLY_S):
                digest = await self._digest_of(upstream, repository, tag, call.have) if tag else Digest(reference)
                if digest == call.have:
                    return Named(digest)
                here = await in_thread(self._executor, self._stored, repository, digest)
                manifest = here or await self._fetched(upstream, repository, digest)
        except TimeoutError as error:
            failure = RegistryUnreachable(f"registry {upstream.client.url} does not answer in time")
            self._note_down(upstream, failure, _DOWN_S)
            raise failure from error
        except RegistryUnreachable as error:
            self._note_down(upstream, error, _DOWN_S)
            raise
        except RegistryBusy as error:
            self._note_down(upstream, error, min(error.retry_after_s, _BUSY_MAX_S))
            raise
        self._down.pop(upstream.registry, None)
        if tag or here is None:
            self.keeping.keep(upstream, repository, manifest, tag, look_only=call.look_only)
        if here is not None:
            return Named(digest)
        return Named(digest, manifest.media_type, manifest.content)

    async def _digest_of(self, upstream: Upstream, repository: str, tag: str, have: str) -> Digest:
        said = self._tags.get((repository, tag))
        if said is not None and self._clock.monotonic_s() < said.until_s:
            return said.digest

        async def ask() -> Digest:
            # Where its bytes are here or remembered a HEAD is enough: it costs none of what upstream allows to be pulled.
            if have or (said is not None and (repository, said.digest) in self._manifests):
                return (await upstream.client.head(upstream.repository, tag)).digest
            # Its bytes are needed anyhow: one question instead of two.
            return self._remember(repository, await upstream.client.manifest(upstream.repository, tag)).digest

        digest = await self._shared(("tag", repository, tag), ask)
        self._tags[repository, tag] = _Said(digest, self._clock.monotonic_s() + ANSWER_S)
        while len(self._tags) > _TAGS_MAX:
            self._tags.popitem(last=False)
        return digest

    def _is_current(self, repository: str, tag: str, digest: Digest) -> bool:
        said = self._tags.get((repository, tag))
        return said is None or said.digest == digest

    async def _fetched(self, upstream: Upstream, repository: str, digest: Digest) -> ForeignManifest:
        known = self._manifests.get((repository, digest))
        if known is not None:
            return known

        async def ask() -> ForeignManifest:
            return self._remember(repository, await upstream.client.manifest(upstream.repository, digest))

        return await self._shared(("manifest", repository, digest), ask)

    def _remember(self, repository: str, found: ForeignManifest) -> ForeignManifest:
        """Hold on to a manifest for those who ask before it is kept, and return it with its true media type."""
        try:
            media_type = parse_manifest(found.content, found.media_type).media_type
            found = ForeignManifest(digest=found.digest, media_type=media_type, content=found.content)
        except (ManifestInvalid, ManifestTooLarge):
            # Handed on as it is; what no push could bring here is not kept.
            pass
        before = self._manifests.pop((repository, found.digest), None)
        self._manifests_bytes += len(found.content) - (len(before.content) if before is not None else 0)
        self._manifests[repository, found.digest] = found
        while self._manifests_bytes > _MANIFESTS_BYTES_MAX:
            self._manifests_bytes -= len(self._manifests.popitem(last=False)[1].content)
        return found

    def _stored(self, repository: str, digest: Digest) -> ForeignManifest | None:
        with self._store.read() as connection:
            found = queries.manifest(connection, repository, digest)
        return ForeignManifest(digest=digest, media_type=found[0], content=found[1]) if found is not None else None

    # -- blobs -----------------------------------------------------------------------------------------------------

    async def _size(self, upstream: Upstream, repository: str, digest: Digest) -> int:
        """Return a blob's size, by which upstream says too that it may be pulled from this repository."""
        size, until_s = self._sizes.get((repository, digest), (0, 0.0))
        if self._clock.monotonic_s() < until_s:
            return size

        async def ask() -> int:
            return await upstream.client.blob_size(upstream.repository, digest)

        size = await self._shared(("blob", repository, digest), ask)
        self._sizes[repository, digest] = size, self._clock.monotonic_s() + ANSWER_S
        while len(self._sizes) > _SIZES_MAX:
            self._sizes.popitem(last=False)
        return size

    async def _fetch(self, upstream: Upstream, repository: str, digest: Digest) -> Coming:
        size = await self._size(upstream, repository, digest)
        transfer = await self.keeping.bring(upstream, repository, digest, size)
        if transfer is None:
            return Coming(size, "", size)
        await transfer.wait_beyond(0)
        fetched = "" if transfer.ended.done() else f"{transfer.number} {transfer.upload_id}"
        return Coming(size, fetched, transfer.offset)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _require_up(self, upstream: Upstream) -> None:
        down = self._down.get(upstream.registry)
        if down is not None and self._clock.monotonic_s() < down.until_s:
            raise down.failure

    def _note_down(self, upstream: Upstream, failure: TwinhullError, for_s: float) -> None:
        self._down[upstream.registry] = _Down(failure, self._clock.monotonic_s() + for_s)

    async def _shared(self, key: tuple[str, str, str], ask: Callable[[], Awaitable[_T]]) -> _T:
        """Return what is asked for; who asks the same meanwhile shares the answer, or the failure."""
        asking: asyncio.Future[_T] | None = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.ensure_future(ask())
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
            asking.add_done_callback(lambda done: done.exception() if not done.cancelled() else None)
        # Who goes away does not take the answer from others.
        return await asyncio.shield(asking)
