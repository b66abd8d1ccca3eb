"""Blobs on their way to this node: one transfer per blob however many want it, resumed by range, from whichever peer has it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from typing import Final

import structlog

from twinhull.blobs.store import ALGORITHM_LABEL, BlobStore, Upload, transfer_upload_id
from twinhull.kit.clock import Clock
from twinhull.kit.digest import Digest, algorithm_of
from twinhull.kit.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    DigestInvalid,
    PeerUnavailable,
    TwinhullError,
    Unavailable,
)
from twinhull.replication.peer_client import PeerClient
from twinhull.replication.threads import in_thread

log = structlog.get_logger(__name__)

_ATTEMPTS_MAX: Final = 4
_BACKGROUND_RUNNING_MAX: Final = 3
_BACKOFF_MIN_S: Final = 0.5
_BACKOFF_MAX_S: Final = 30.0


class Transfer:
    """One blob on its way. Readers wait for its progress; it ends once."""

    def __init__(self, digest: Digest | None, size: int, upload_id: str) -> None:
        """Start at nothing; a followed upload learns its digest at its end."""
        self.digest = digest
        self.size = size
        self.upload_id = upload_id
        self.offset = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # A failure that nobody waits for is not an error of the program.
        self.ended.add_done_callback(lambda future: future.exception() if not future.cancelled() else None)
        self._grew = asyncio.Event()
        self._named = asyncio.Event()
        if digest is not None:
            self._named.set()

    def grew(self, offset: int) -> None:
        """Let readers know that there are bytes up to this offset."""
        self.offset = offset
        self._grew.set()
        self._grew = asyncio.Event()

    def end(self, error: BaseException | None = None) -> None:
        """Let readers know that the blob is here, or why it will not come."""
        if not self.ended.done():
            if error is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(error)
        self._grew.set()
        self._named.set()

    def became(self, digest: Digest, size: int) -> None:
        """Take what the peer has said the followed upload is."""
        self.digest, self.size = digest, size
        self._named.set()

    async def wait_named(self) -> Digest:
        """Return the digest once it is known."""
        await self._named.wait()
        if self.digest is None:
            self.ended.result()
            raise BlobUnknown("the upload ended without becoming a blob")
        return self.digest

    async def wait_beyond(self, offset: int) -> int:
        """Return how many bytes there are, once there are more than `offset` or the transfer has ended well."""
        while self.offset <= offset and not self.ended.done():
            await self._grew.wait()
        if self.ended.done():
            self.ended.result()
        return self.offset


class Transfers:
    """All transfers of this node. Used on the agent's event loop; the bytes move in threads."""

    def __init__(
        self,
        blobs: BlobStore,
        sources: Callable[[], Sequence[PeerClient]],
        *,
        executor: Executor,
        clock: Clock,
        jitter: random.Random,
    ) -> None:
        """Take where blobs go, and which peers may be asked, best first."""
        self._blobs = blobs
        self._sources = sources
        self._executor = executor
        self._clock = clock
        self._jitter = jitter
        self._running: dict[Digest, Transfer] = {}
        self._followed: dict[str, Transfer] = {}
        self._wanted: dict[Digest, int] = {}
        self._background = asyncio.Semaphore(_BACKGROUND_RUNNING_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self.received_bytes: dict[str, int] = {}
        self.finished = 0
        self.failed = 0

    # -- by need ---------------------------------------------------------------------------------------------------

    def running(self, digest: Digest) -> Transfer | None:
        """Return the transfer that brings this blob, if there is one."""
        return self._running.get(digest)

    def start(self, digest: Digest, size: int) -> Transfer:
        """Return the transfer of this blob, begun now unless it is under way."""
        transfer = self._running.get(digest)
        if transfer is None:
            transfer = self._running[digest] = Transfer(digest, size, transfer_upload_id(digest))
            self._spawn(self._run(transfer))
        return transfer

    async def _run(self, transfer: Transfer) -> None:
        digest = transfer.digest
        if digest is None:
            return
        try:
            if await in_thread(self._executor, self._blobs.stat, digest) is None:
                await self._download(transfer, digest)
            self._arrived(digest)
            transfer.end()
        except TwinhullError as error:
            self.failed += 1
            transfer.end(error)
        except BaseException:
            transfer.end(Unavailable("the transfer was stopped"))
            raise
        finally:
            self._forget(transfer)

    async def _download(self, transfer: Transfer, digest: Digest) -> None:
        upload = await in_thread(self._executor, self._open, transfer.upload_id, digest)
        failure: TwinhullError = BlobUnknown(f"no reachable node has blob {digest}")
        for attempt in range(_ATTEMPTS_MAX):
            for peer in self._sources():
                try:
                    await self._read_from(peer, transfer, digest, upload)
                    await in_thread(self._executor, upload.commit, digest)
                    return
                except BlobUnknown:
                    continue
                except (PeerUnavailable, DigestInvalid) as error:
                    failure = error
                    log.warning("blob transfer broke", digest=digest, peer=peer.node, error=str(error))
                    # What does not hash to its digest is gone; the next peer starts from nothing.
                    await in_thread(self._executor, upload.checkpoint)
                    upload = await in_thread(self._executor, self._open, transfer.upload_id, digest)
            if isinstance(failure, BlobUnknown):
                break
            await asyncio.sleep(_BACKOFF_MIN_S * 2**attempt * (0.5 + self._jitter.random() / 2))
        await in_thread(self._executor, upload.checkpoint)
        raise failure

    def _open(self, upload_id: str, digest: Digest) -> Upload:
        try:
            upload = self._blobs.open_upload(upload_id)
        except BlobUploadUnknown:
            return self._blobs.start_upload(upload_id, {ALGORITHM_LABEL: algorithm_of(digest)})
        upload.catch_up()
        return upload

    async def _read_from(self, peer: PeerClient, transfer: Transfer, digest: Digest, upload: Upload) -> None:
        sink = self._sink(peer, transfer, upload)
        # All of it may be here already: the process died between the last byte and the commit.
        if transfer.size == 0 or upload.offset < transfer.size:
            await in_thread(self._executor, peer.download, digest, upload.offset, sink)

    def _sink(self, peer: PeerClient, transfer: Transfer, upload: Upload) -> Callable[[memoryview], None]:
        loop = asyncio.get_running_loop()

        def sink(piece: memoryview) -> None:
            upload.append([piece])
            loop.call_soon_threadsafe(self._progressed, peer.node, transfer, upload.offset, len(piece))

        return sink

    def _progressed(self, node: str, transfer: Transfer, offset: int, count: int) -> None:
        self.received_bytes[node] = self.received_bytes.get(node, 0) + count
        transfer.grew(offset)

    # -- in the background -----------------------------------------------------------------------------------------

    def want(self, digest: Digest, size: int) -> None:
        """Fetch a blob that a record names, when there is room; asked for again until it is here."""
        if digest not in self._wanted:
            self._wanted[digest] = size
            self._spawn(self._fetch_wanted(digest, size))

    def unwant(self, digest: Digest) -> None:
        """Stop wanting a blob that nothing names any more."""
        self._wanted.pop(digest, None)

    @property
    def wanted_bytes(self) -> int:
        """How many bytes of blobs are still to come."""
        return sum(self._wanted.values())

    @property
    def wanted_blobs(self) -> int:
        """How many blobs are still to come."""
        return len(self._wanted)

    async def _fetch_wanted(self, digest: Digest, size: int) -> None:
        failures = 0
        while digest in self._wanted:
            async with self._background:
                try:
                    if digest in self._wanted:
                        await asyncio.shield(self.start(digest, size).ended)
                    return
                except TwinhullError:
                    failures += 1
            delay_s = min(_BACKOFF_MAX_S, _BACKOFF_MIN_S * 2 ** min(failures, 10))
            await asyncio.sleep(delay_s * (0.5 + self._jitter.random() / 2))

    def _arrived(self, digest: Digest) -> None:
        self.finished += 1
        self._wanted.pop(digest, None)

    def inline(self, digest: Digest, content: bytes) -> None:
        """Store a small blob that came with the stream; until it is stored, nobody else fetches it."""
        if digest in self._running:
            return
        transfer = self._running[digest] = Transfer(digest, len(content), transfer_upload_id(digest))
        self._spawn(self._store_inline(transfer, digest, content))

    async def _store_inline(self, transfer: Transfer, digest: Digest, content: bytes) -> None:
        try:
            await in_thread(self._executor, self._blobs.put, digest, content)
            self._arrived(digest)
            transfer.end()
        except TwinhullError as error:
            log.warning("blob from the stream was not stored", digest=digest, error=str(error))
            transfer.end(error)
        finally:
            self._forget(transfer)

    # -- following a peer's uploads ----------------------------------------------------------------------------------

    def follow(self, peer: PeerClient, upload_id: str) -> None:
        """Read a peer's upload while it is still arriving there."""
        if upload_id not in self._followed:
            transfer = self._followed[upload_id] = Transfer(None, 0, f"follow-{upload_id}")
            self._spawn(self._follow(peer, upload_id, transfer))

    def upload_ended(self, upload_id: str, digest: Digest | None, size: int) -> None:
        """Finish what is followed: the peer's upload became this blob, or was given up (None)."""
        transfer = self._followed.get(upload_id)
        if transfer is None:
            return
        if digest is None:
            transfer.end(BlobUnknown("the upload was given up"))
            return
        transfer.became(digest, size)
        # Whoever wants the blob from now on waits for this transfer instead of starting one.
        self._running.setdefault(digest, transfer)

    async def _follow(self, peer: PeerClient, upload_id: str, transfer: Transfer) -> None:
        upload: Upload | None = None
        try:
            upload = await in_thread(self._executor, self._blobs.start_upload, transfer.upload_id, {})
            sink = self._sink(peer, transfer, upload)
            await in_thread(self._executor, peer.follow, upload_id, sink)
            async with asyncio.timeout(_BACKOFF_MAX_S):
                digest = await transfer.wait_named()
            await in_thread(self._executor, upload.commit, digest, expected_size=transfer.size)
            self._arrived(digest)
            transfer.end()
        except (TwinhullError, TimeoutError) as error:
            if not isinstance(error, BlobUnknown):
                log.warning("following an upload broke", peer=peer.node, upload=upload_id, error=str(error))
            if upload is not None:
                await in_thread(self._executor, upload.abort)
            await self._fetch_instead(transfer, error)
        finally:
            self._followed.pop(upload_id, None)
            self._forget(transfer)

    async def _fetch_instead(self, transfer: Transfer, error: Exception) -> None:
        """Bring a blob that could not be followed the other way, for those who wait for it."""
        if transfer.digest is None:
            transfer.end(error if isinstance(error, TwinhullError) else Unavailable(str(error)))
            return
        self._forget(transfer)
        try:
            await asyncio.shield(self.start(transfer.digest, transfer.size).ended)
            transfer.end()
        except TwinhullError as failure:
            transfer.end(failure)

    def _forget(self, transfer: Transfer) -> None:
        if transfer.digest is not None and self._running.get(transfer.digest) is transfer:
            del self._running[transfer.digest]

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop all transfers; what has arrived stays on disk and is resumed."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
