"""What was pulled through a proxy cache becomes content of this cluster: first its blobs, then the manifest, then its tags.

Each step is whole in itself: blobs are linked when all of their bytes are here, a manifest is written when all of its blobs
are. What ends in between leaves links that no manifest needs, which a collection removes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from twinhull.auth.acting import acts
from twinhull.blobs.store import BlobStore
from twinhull.catalog.contents import put_link
from twinhull.catalog.media import ParsedManifest, parse_manifest
from twinhull.catalog.pushing import Push, Pushing
from twinhull.catalog.quotas import require_room_for
from twinhull.kit.digest import Digest
from twinhull.kit.errors import QuotaExceeded, ReadOnlyMode, TagImmutable, TwinhullError
from twinhull.kit.reference import project_of
from twinhull.metadata import content as queries
from twinhull.metadata import garbage
from twinhull.metadata.accounts import find_setting
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.mirror.registry_client import ForeignManifest
from twinhull.mirror.upstreams import Upstream
from twinhull.replication.threads import in_thread
from twinhull.replication.transfer import Transfer
from twinhull.replication.transfers import Transfers

log = structlog.get_logger(__name__)

# Who pushes what comes from upstream, in Harbor's words.
PUSHER: Final = "harbor#proxy-cache-service"
# Bytes of manifests that are being kept at a time; further ones are kept when they are pulled again.
_MANIFESTS_BYTES_MAX: Final = 32 * 1024 * 1024
# A client that pulls asks for the blobs itself: what it has not asked for by then, having some or none of them, is brought.
_CLIENT_FIRST_S: Final = 3.0
# Blobs of one image that are brought at a time.
_BLOBS_AT_ONCE: Final = 4
# An index is kept as soon as one of what it lists is. That may have been pulled through another node: it is looked for so
# many times, each pause longer than the one before.
_LOOKS: Final = 40
_PAUSE_MIN_S: Final = 0.5
_PAUSE_MAX_S: Final = 30.0
_UNFIT_MAX: Final = 10_000


@dataclass(slots=True, kw_only=True)
class _Job:
    upstream: Upstream
    repository: str
    manifest: ForeignManifest
    # Those that are still to be set.
    tags: set[str] = field(default_factory=set)
    # Whether it was pulled, and not only looked at.
    is_wanted: bool = False


class Keeping:
    """Keeps what was pulled. Lives on the agent's event loop."""

    def __init__(
        self,
        *,
        store: Store,
        blobs: BlobStore,
        transfers: Transfers,
        pushing: Pushing,
        executor: Executor,
        is_current: Callable[[str, str, Digest], bool],
    ) -> None:
        """Take where things go, what brings bytes, and what tells whether a tag of a repository still names that upstream."""
        self._store = store
        self._blobs = blobs
        self._transfers = transfers
        self._pushing = pushing
        self._executor = executor
        self._is_current = is_current
        self._jobs: dict[tuple[str, Digest], _Job] = {}
        self._jobs_bytes = 0
        # Set, and replaced, whenever a manifest or a blob has been kept, or a manifest is to be.
        self._news = asyncio.Event()
        self._arrivals: dict[tuple[str, Digest], asyncio.Task[None]] = {}
        # Blobs of manifests for which there is no room: not kept either, however small they are themselves.
        self._unfit: dict[tuple[str, Digest], None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(
        self, upstream: Upstream, repository: str, manifest: ForeignManifest, tag: str = "", *, look_only: bool = False
    ) -> None:
        """See to it that a manifest, its blobs and its tag are here some time from now; does not wait or raise.

        What was only looked at gets its tag if it is pulled by its digest soon, here or on another node: docker does so.
        """
        key = repository, manifest.digest
        job = self._jobs.get(key)
        if job is None:
            if self._jobs_bytes + len(manifest.content) > _MANIFESTS_BYTES_MAX:
                return
            self._jobs_bytes += len(manifest.content)
            job = self._jobs[key] = _Job(upstream=upstream, repository=repository, manifest=manifest)
            self._spawn(self._run(job))
        if tag:
            job.tags.add(tag)
        if not look_only and not job.is_wanted:
            job.is_wanted = True
            self._tell()

    async def bring(self, upstream: Upstream, repository: str, digest: Digest, size: int) -> Transfer | None:
        """Return the transfer that brings a blob of which upstream has said that it has it; None when it is here.

        When it has come it is linked. Raises QuotaExceeded or ReadOnlyMode when it is not to be stored.
        """
        if (repository, digest) in self._unfit:
            raise QuotaExceeded
        await in_thread(self._executor, self._require_room, repository, {digest: size})
        if await in_thread(self._executor, self._blobs.stat, digest) is not None:
            self._arrival(repository, digest, size, None)
            return None
        transfer = self._transfers.start(digest, size, upstream)
        self._arrival(repository, digest, size, transfer)
        return transfer

    async def close(self) -> None:
        """Stop; what is not kept yet is when it is pulled again."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- manifests -------------------------------------------------------------------------------------------------

    async def _run(self, job: _Job) -> None:
        acts(PUSHER)
        try:
            await self._keep(job, parse_manifest(job.manifest.content, job.manifest.media_type))
        except TwinhullError as error:
            log.warning(
                "what was pulled from upstream is not kept",
                repository=job.repository,
                digest=job.manifest.digest,
                upstream=job.upstream.name,
                reason=str(error),
            )
        finally:
            del self._jobs[job.repository, job.manifest.digest]
            self._jobs_bytes -= len(job.manifest.content)

    async def _keep(self, job: _Job, parsed: ParsedManifest) -> None:
        digest = job.manifest.digest
        if not await self._wait_any(job.repository, [digest], until=lambda: job.is_wanted):
            return
        if not await in_thread(self._executor, self._has_any, job.repository, [digest]):
            if parsed.manifests and not await self._wait_any(job.repository, parsed.manifests):
                return
            await self._let_client_ask(job.repository, parsed.required_blobs)
            await self._bring_all(job, parsed)
            await self._push(job, job.tags.pop() if job.tags else "")
        while job.tags:
            await self._push(job, job.tags.pop())

    async def _let_client_ask(self, repository: str, wanted: Collection[Digest]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLIENT_FIRST_S):
                while True:
                    news = self._news
                    if len(await in_thread(self._executor, self._visible, repository, wanted)) == len(wanted):
                        return
                    await news.wait()

    async def _push(self, job: _Job, tag: str) -> None:
        """Write the manifest under its digest, and under a tag unless that names something else upstream by now."""
        tags = (tag,) if tag and self._is_current(job.repository, tag, job.manifest.digest) else ()
        push = Push(
            repository=job.repository,
            reference=job.manifest.digest,
            content=job.manifest.content,
            content_type=job.manifest.media_type,
            pushed_by=PUSHER,
            tags=tags,
            from_upstream=True,
        )
        try:
            await self._pushing.push(push)
        except TagImmutable as error:
            log.info("tag stays what it is here", repository=job.repository, reason=str(error))
            await self._pushing.push(replace(push, tags=()))
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _bring_all(self, job: _Job, parsed: ParsedManifest) -> None:
        wanted = parsed.required_blobs
        sizes: dict[Digest, int] = {**wanted, job.manifest.digest: parsed.size}
        try:
            await in_thread(self._executor, self._require_room, job.repository, sizes)
        except QuotaExceeded:
            self._unfit.update(dict.fromkeys((job.repository, digest) for digest in wanted))
            while len(self._unfit) > _UNFIT_MAX:
                del self._unfit[next(iter(self._unfit))]
            raise
        for digest in wanted:
            self._unfit.pop((job.repository, digest), None)
        visible = await in_thread(self._executor, self._visible, job.repository, wanted)
        room = asyncio.Semaphore(_BLOBS_AT_ONCE)

        async def bring(digest: Digest) -> None:
            async with room:
                # Bytes that are somewhere on this node open nothing: that it may be pulled from there, upstream alone can say.
                size = await job.upstream.client.blob_size(job.upstream.repository, digest)
                await self.bring(job.upstream, job.repository, digest, size)
                arrival = self._arrivals.get((job.repository, digest))
                if arrival is not None:
                    await asyncio.shield(arrival)

        absent = [digest for digest in wanted if digest not in visible]
        for failure in await asyncio.gather(*map(bring, absent), return_exceptions=True):
            if failure is not None:
                raise failure

    async def _wait_any(self, repository: str, wanted: Collection[Digest], until: Callable[[], bool] = lambda: False) -> bool:
        """Return True once one of these manifests is in the repository, or `until`; False when none came for a long time."""
        pause_s = _PAUSE_MIN_S
        for _ in range(_LOOKS):
            news = self._news
            if until() or await in_thread(self._executor, self._has_any, repository, wanted):
                return True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await news.wait()
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)
        return False

    # -- blobs -----------------------------------------------------------------------------------------------------

    def _arrival(self, repository: str, digest: Digest, size: int, transfer: Transfer | None) -> None:
        key = repository, digest
        if key not in self._arrivals:
            task = self._arrivals[key] = self._spawn(self._link(repository, digest, size, transfer))
            task.add_done_callback(lambda _: self._arrivals.pop(key, None))

    async def _link(self, repository: str, digest: Digest, size: int, transfer: Transfer | None) -> None:
        if transfer is not None:
            await asyncio.shield(transfer.ended)
        await in_thread(self._executor, self._link_now, repository, digest, size)
        self._tell()

    def _link_now(self, repository: str, digest: Digest, size: int) -> None:
        try:
            with self._store.write() as transaction:
                queries.require_proxied(transaction.connection, project_of(repository))
                put_link(transaction, self._blobs, repository, digest, size)
        except TwinhullError:
            with self._store.write() as transaction:
                garbage.add_strays(transaction.connection, [digest], 0)
            raise

    # -- in a thread -----------------------------------------------------------------------------------------------

    def _require_room(self, repository: str, sizes: Mapping[Digest, int]) -> None:
        with self._store.write() as transaction:
            _require_writable(transaction)
            require_room_for(transaction, project_of(repository), {str(digest): size for digest, size in sizes.items()})

    def _has_any(self, repository: str, wanted: Collection[Digest]) -> bool:
        with self._store.read() as connection:
            return bool(queries.visible_manifests(connection, repository, wanted))

    def _visible(self, repository: str, wanted: Collection[Digest]) -> Collection[str]:
        with self._store.read() as connection:
            return queries.visible_blobs(connection, repository, wanted)

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # Whoever waited for it was told; a failure that nobody waits for is none of the program.
        if not task.cancelled() and (failure := task.exception()) is not None and not isinstance(failure, TwinhullError):
            log.error("what was pulled from upstream is not kept", reason=repr(failure))


def _require_writable(transaction: Transaction) -> None:
    if find_setting(transaction.connection, "read_only"):
        raise ReadOnlyMode
