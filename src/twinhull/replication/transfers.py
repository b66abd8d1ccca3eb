"""Blobs on their way to this node: one transfer per blob however many want it, resumed by range, from whoever has it.

Peers are asked first, since they are nearer, then the foreign registry that the blob may have to come from.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Final, TypeVar

import structlog

from twinhull.blobs.ingest import ingest
from twinhull.blobs.store import ALGORITHM_LABEL, BlobStore, Upload, transfer_upload_id
from twinhull.kit.digest import Digest, algorithm_of
from twinhull.kit.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    DigestInvalid,
    PeerUnavailable,
    RegistryUnreachable,
    StorageFull,
    TooLarge,
    TwinhullError,
    Unavailable,
)
from twinhull.kit.fail_points import fail_point
from twinhull.replication.backlog import Backlog
from twinhull.replication.peer import Peer
from twinhull.replication.protocol import INLINE_BLOB_BYTES_MAX
from twinhull.replication.threads import in_thread, to_its_end
from twinhull.replication.transfer import Transfer, Upstream

log = structlog.get_logger(__name__)

_ATTEMPTS_MAX: Final = 4
_BACKOFF_MIN_S: Final = 0.5
# Peers remembered for having sent other bytes than a digest says, so that another is asked first the next time.
_LIARS_MAX: Final = 1000
# Failed transfers that are remembered, for readers that hold on to them.
_FAILED_MAX: Final = 1000

Known = TypeVar("Known")
What = TypeVar("What")


class _NotSmall(Exception):
    """A blob does not fit into memory as it should."""


class Transfers:
    """All transfers of this node. Used on the agent's event loop; the bytes move in threads."""

    def __init__(
        self,
        blobs: BlobStore,
        sources: Callable[[], Sequence[Peer]],
        *,
        executor: Executor,
        movers: Executor,
        is_named: Callable[[Digest], bool],
        jitter: random.Random,
    ) -> None:
        """Take where blobs go, which peers may be asked (best first), and what tells whether a record still names a blob.

        `movers` are threads of their own: they wait for peers, and nothing else may have to wait for them.
        """
        self._blobs = blobs
        self._sources = sources
        self._executor = executor
        self._movers = movers
        self._jitter = jitter
        self._running: dict[Digest, Transfer] = {}
        self._failed: dict[int, BaseException] = {}
        # Uploads with the first part of a blob, whose rest is to be added to them.
        self.begun: dict[Digest, str] = {}
        self._liars: dict[tuple[str, Digest], None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.received_bytes: dict[str, int] = {}
        # By peer and how they ended ("ok" or "failed").
        self.ended: dict[tuple[str, str], int] = {}
        self.backlog = Backlog(self, executor=executor, is_named=is_named, free_bytes=blobs.free_bytes, jitter=jitter)

    # -- by need ---------------------------------------------------------------------------------------------------

    def running(self, digest: Digest) -> Transfer | None:
        """Return the transfer that brings this blob, if there is one."""
        return self._running.get(digest)

    async def wait_beyond(self, digest: Digest, number: int, offset: int) -> int | None:
        """Return how far the transfer of that number is, once beyond the offset; None when the blob is here.

        Raises what it failed with, that the disk is full also later; PeerUnavailable if it was another one that brought the
        blob, since what was read of this one may be something else.
        """
        transfer = self._running.get(digest)
        if transfer is not None and transfer.number == number:
            reached = await transfer.wait_beyond(offset)
            return None if transfer.ended.done() else reached
        if isinstance(failure := self._failed.get(number), StorageFull):
            raise failure
        if transfer is not None or failure is not None:
            raise PeerUnavailable(f"the transfer of blob {digest} began anew")
        return None

    def start(self, digest: Digest, size: int, upstream: Upstream | None = None) -> Transfer:
        """Return the transfer of this blob, begun now unless it is under way; upstream, if there is one, has it for sure."""
        transfer = self._running.get(digest)
        if transfer is None:
            upload_id = self.begun.get(digest) or transfer_upload_id(digest)
            transfer = self._running[digest] = Transfer(digest, size, upload_id, upstream)
            self.spawn(self._run(transfer, digest))
        elif transfer.upstream is None:
            transfer.upstream = upstream
        return transfer

    def adopt(self, digest: Digest, transfer: Transfer) -> None:
        """Let whoever wants this blob from now on wait for a transfer that is under way already."""
        self._running.setdefault(digest, transfer)

    def disown(self, transfer: Transfer) -> None:
        """Take a transfer off the list: it has ended, or something else takes its place."""
        if transfer.ended.done() and (failure := transfer.ended.exception()) is not None:
            _remember(self._failed, transfer.number, failure, most=_FAILED_MAX)
        if transfer.digest is not None and self._running.get(transfer.digest) is transfer:
            del self._running[transfer.digest]

    async def _run(self, transfer: Transfer, digest: Digest) -> None:
        try:
            if await in_thread(self._executor, self._blobs.stat, digest) is None:
                await self._download(transfer, digest)
            self.arrived(digest)
            transfer.end()
        except TwinhullError as error:
            transfer.end(error)
        except BaseException:
            transfer.end(Unavailable("the transfer was stopped"))
            raise
        finally:
            self.disown(transfer)

    async def _download(self, transfer: Transfer, digest: Digest) -> None:
        """Bring the blob from one peer after the other; what has arrived is kept, and the next one goes on from there."""
        failure: TwinhullError = PeerUnavailable(f"no reachable node has blob {digest}")
        for attempt in range(_ATTEMPTS_MAX):
            broke = False
            peers = sorted(self._sources(), key=lambda peer: (peer.node, digest) in self._liars)
            for peer in peers:
                try:
                    await self._read_from(peer, transfer, digest)
                    return
                except BlobUnknown:
                    continue
                except PeerUnavailable as error:
                    failure, broke = error, True
                    self.count(peer.node, "failed")
                    log.warning("blob transfer broke", digest=digest, peer=peer.node, error=str(error))
                except DigestInvalid:
                    # Who reads along has been given bytes of it already, so this transfer is over; a new one asks others first.
                    _remember(self._liars, (peer.node, digest), None, most=_LIARS_MAX)
                    self.count(peer.node, "failed")
                    log.warning("peer sent other bytes than the digest says", digest=digest, peer=peer.node)
                    raise PeerUnavailable(f"peer {peer.node} has other bytes than those of blob {digest}") from None
            if transfer.upstream is not None:
                try:
                    await self._read_upstream(transfer.upstream, transfer, digest)
                    return
                except RegistryUnreachable as error:
                    failure, broke = error, True
                    log.warning("blob transfer broke", digest=digest, upstream=transfer.upstream.name, error=str(error))
            if not broke:
                break
            if attempt + 1 < _ATTEMPTS_MAX:
                await asyncio.sleep(_BACKOFF_MIN_S * 2**attempt * (0.5 + self._jitter.random() / 2))
        raise failure

    async def _read_from(self, peer: Peer, transfer: Transfer, digest: Digest) -> None:
        if 0 < transfer.size <= INLINE_BLOB_BYTES_MAX and digest not in self.begun:
            # Nothing of it is worth resuming, and an upload would cost more than the bytes.
            with contextlib.suppress(_NotSmall):
                await self.moved(lambda: self._take_small(peer, digest))
                self._received(peer.node, transfer.size)
                self.count(peer.node, "ok")
                return
        upload = await in_thread(self._executor, _open, self._blobs, transfer.upload_id, digest)
        try:
            transfer.grew(upload.offset)
            # All of it may be here already: the process died between the last byte and the commit.
            if transfer.size == 0 or upload.offset < transfer.size:
                sink = self.sink(peer, transfer, upload)
                await self.moved(lambda: _fetch(peer, digest, upload.offset, sink))
            await self.moved(lambda: upload.commit(digest))
            self.count(peer.node, "ok")
        finally:
            # Keeps what came, and lets go of it, so that the next try can go on with it.
            await in_thread(self._executor, upload.checkpoint)

    async def _read_upstream(self, upstream: Upstream, transfer: Transfer, digest: Digest) -> None:
        upload = await in_thread(self._executor, _open, self._blobs, transfer.upload_id, digest)
        begun, outcome = upload.offset, "failed"
        grew = partial(self._came, upstream.name, transfer)
        try:
            transfer.grew(begun)
            if transfer.size == 0 or begun < transfer.size:
                async with upstream.open(digest, begun) as pieces:
                    most = transfer.size - begun if transfer.size else None
                    await ingest(upload, pieces, executor=self._movers, on_progress=grew, limit_bytes=most)
            await self.moved(lambda: upload.commit(digest))
            outcome = "ok"
        except (DigestInvalid, TooLarge) as error:
            # Readers have been given bytes of it already, so this transfer is over; what came is no part of the blob.
            log.warning("foreign registry sent other bytes than the digest says", digest=digest, upstream=upstream.name)
            await self.moved(upload.abort)
            raise Unavailable(f"registry {upstream.name} has other bytes than those of blob {digest}") from error
        finally:
            self.count(upstream.name, outcome)
            await in_thread(self._executor, upload.checkpoint)

    def _take_small(self, peer: Peer, digest: Digest) -> None:
        """Read a small blob into memory, and store it in one go; raises _NotSmall if it has another size than records say."""
        content = bytearray()

        def sink(piece: memoryview) -> None:
            if len(content) + len(piece) > INLINE_BLOB_BYTES_MAX:
                raise _NotSmall
            content.extend(piece)

        _fetch(peer, digest, 0, sink)
        self._blobs.put(digest, content)

    async def moved(self, action: Callable[[], object]) -> None:
        """Do something with an upload in a thread, and return only when the thread is done with it, also when cancelled.

        Whoever cancels cuts the connection that the thread may be reading from.
        """
        await to_its_end(in_thread(self._movers, action))

    def sink(self, peer: Peer, transfer: Transfer, upload: Upload) -> Callable[[memoryview], None]:
        """Return what takes the bytes of a transfer, in a thread."""
        loop = asyncio.get_running_loop()

        def sink(piece: memoryview) -> None:
            upload.append([piece])
            loop.call_soon_threadsafe(self._came, peer.node, transfer, upload.offset)

        return sink

    def _came(self, name: str, transfer: Transfer, offset: int) -> None:
        self._received(name, offset - transfer.offset)
        transfer.grew(offset)

    def _received(self, node: str, count: int) -> None:
        self.received_bytes[node] = self.received_bytes.get(node, 0) + count

    def arrived(self, digest: Digest) -> None:
        """Take note that a blob is on disk."""
        self.begun.pop(digest, None)
        self.backlog.drop(digest)

    def count(self, node: str, outcome: str) -> None:
        """Count a transfer that ended."""
        self.ended[node, outcome] = self.ended.get((node, outcome), 0) + 1

    # -- with the stream -------------------------------------------------------------------------------------------

    def inline(self, digest: Digest, content: bytes) -> None:
        """Store a small blob that came with the stream; until it is stored, nobody else fetches it."""
        if digest in self._running:
            return
        transfer = self._running[digest] = Transfer(digest, len(content), transfer_upload_id(digest))
        self.spawn(self._store_inline(transfer, digest, content))

    async def _store_inline(self, transfer: Transfer, digest: Digest, content: bytes) -> None:
        try:
            await in_thread(self._executor, self._blobs.put, digest, content)
            self.arrived(digest)
            transfer.end()
        except TwinhullError as error:
            log.warning("blob from the stream was not stored", digest=digest, error=str(error))
            transfer.end(error)
        finally:
            transfer.end(Unavailable("the transfer was stopped"))
            self.disown(transfer)

    # -- life ------------------------------------------------------------------------------------------------------

    def spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run something until it ends or all transfers are stopped."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop all transfers; what has arrived stays on disk and is resumed."""
        for task in list(self._tasks):
            task.cancel()
        for peer in self._sources():
            peer.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _fetch(peer: Peer, digest: Digest, start: int, sink: Callable[[memoryview], None]) -> None:
    peer.download(digest, start, sink)
    fail_point("blob-fetched")


def _remember(known: dict[Known, What], item: Known, what: What, *, most: int) -> None:
    """Add to what is known, and forget the oldest of too many."""
    known[item] = what
    if len(known) > most:
        del known[next(iter(known))]


def _open(blobs: BlobStore, upload_id: str, digest: Digest) -> Upload:
    try:
        upload = blobs.open_upload(upload_id)
    except BlobUploadUnknown:
        return blobs.start_upload(upload_id, {ALGORITHM_LABEL: algorithm_of(digest)})
    upload.catch_up()
    return upload
