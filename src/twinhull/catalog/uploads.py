"""Upload sessions: begun, grown chunk by chunk or in one go, and ended as a blob that is visible in one repository."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Final, NamedTuple, TypeVar

from twinhull.blobs.ingest import Intake
from twinhull.blobs.store import ALGORITHM_LABEL, BlobStore, Upload
from twinhull.catalog.contents import Contents
from twinhull.catalog.peers import NoUploadWatch, UploadWatch
from twinhull.kit.digest import ALGORITHMS, Digest, algorithm_of
from twinhull.kit.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    DigestInvalid,
    RangeInvalid,
    SizeInvalid,
    TooLarge,
    TwinhullError,
)

_REPOSITORY_LABEL: Final = "repository"

# A body that is here already, or the pieces of one that is still arriving.
Body = bytes | AsyncIterator[bytes]

_T = TypeVar("_T")


class ChunkRange(NamedTuple):
    """Which bytes of a blob a chunk is, both ends included, as a client announces it."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How many bytes that makes."""
        return self.end - self.start + 1


class Committed(NamedTuple):
    """A blob that was taken in: its size, and this node's change number of the link to it."""

    size: int
    seq: int


class Uploads:
    """The upload sessions that belong to this node."""

    def __init__(
        self,
        *,
        blobs: BlobStore,
        contents: Contents,
        intake: Intake,
        executor: Executor,
        node: str,
        new_id: Callable[[], str],
        watch: UploadWatch | None = None,
        blob_bytes_max: int | None = None,
    ) -> None:
        """Take where bytes and links go, this node's id, and a source of ids that nobody can guess."""
        self._blobs = blobs
        self._contents = contents
        self._intake = intake
        self._executor = executor
        self._node = node
        self._new_id = new_id
        self._watch = watch or NoUploadWatch()
        self._blob_bytes_max = blob_bytes_max

    def owner_of(self, upload_id: str) -> str | None:
        """Return the id of the other node that an upload belongs to, or None if it is ours or nobody's."""
        node, _, rest = upload_id.rpartition(".")
        return node if node and rest and node != self._node else None

    async def begin(self, repository: str, algorithm: str = "sha256") -> str:
        """Return the id of a new session, or raise ProjectUnknown or DigestInvalid (an algorithm that is not known)."""
        if algorithm not in ALGORITHMS:
            raise DigestInvalid(f"digest algorithm {algorithm[:32]!r} is not supported; use sha256 or sha512")
        upload = await self._run(lambda: self._start(repository, algorithm))
        self._watch.started(upload.upload_id, repository)
        return upload.upload_id

    async def offset(self, repository: str, upload_id: str) -> int:
        """Return how many bytes have arrived, or raise BlobUploadUnknown."""
        upload = await self._run(lambda: self._open(repository, upload_id))
        return upload.offset

    async def append(self, repository: str, upload_id: str, chunk: ChunkRange | None, body: Body) -> int:
        """Add a chunk, and return how many bytes there are now.

        Raises BlobUploadUnknown, RangeInvalid for a chunk out of order, SizeInvalid for one of another length than
        announced, Conflict while another request writes to the same upload, StorageFull. What arrived before a client
        left is kept.
        """

        def close(upload: Upload) -> int:
            upload.checkpoint()
            return upload.offset

        return await self._extend(lambda: self._open(repository, upload_id), chunk, body, close)

    async def finish(self, repository: str, upload_id: str, digest: Digest, chunk: ChunkRange | None, body: Body) -> Committed:
        """Add the last chunk, if there is one, and make the whole a blob of the repository.

        Raises what append raises, and DigestInvalid when the bytes are others than the digest says; then they are gone.
        """
        try:
            committed = await self._extend(
                lambda: self._open(repository, upload_id), chunk, body, self._committing(repository, digest)
            )
        except DigestInvalid:
            self._watch.ended(upload_id, None)
            raise
        self._watch.ended(upload_id, digest)
        return committed

    async def take_whole(self, repository: str, digest: Digest, body: Body) -> Committed:
        """Take a blob in one go; whatever fails, nothing of it stays. Raises what begin and finish raise."""
        upload = await self._run(lambda: self._start(repository, algorithm_of(digest)))
        self._watch.started(upload.upload_id, repository)
        try:
            committed = await self._extend(lambda: upload, None, body, self._committing(repository, digest))
        except BaseException:
            # No client knows the id, so none can go on with it.
            await self._run(upload.abort)
            self._watch.ended(upload.upload_id, None)
            raise
        self._watch.ended(upload.upload_id, digest)
        return committed

    async def cancel(self, repository: str, upload_id: str) -> None:
        """Forget an upload, or raise BlobUploadUnknown."""
        await self._run(lambda: self._open(repository, upload_id).abort())
        self._watch.ended(upload_id, None)

    async def mount(self, repository: str, digest: Digest, source: str) -> Committed | None:
        """Make a blob of another repository visible in this one, without sending it; None if it is not there."""
        try:
            size = await self._contents.size(source, digest)
            return Committed(size, await self._contents.link(repository, digest, size, source=source))
        except BlobUnknown:
            return None

    # -- in a thread -----------------------------------------------------------------------------------------------

    def _start(self, repository: str, algorithm: str) -> Upload:
        self._contents.check_project_now(repository)
        labels = {_REPOSITORY_LABEL: repository, ALGORITHM_LABEL: algorithm}
        return self._blobs.start_upload(f"{self._node}.{self._new_id()}", labels)

    def _open(self, repository: str, upload_id: str) -> Upload:
        # An id is no key to another repository's upload, nor to what the store fetches for itself.
        upload = self._blobs.open_upload(upload_id)
        if upload.labels.get(_REPOSITORY_LABEL) != repository:
            raise BlobUploadUnknown
        return upload

    def _committing(self, repository: str, digest: Digest) -> Callable[[Upload], Committed]:
        def commit(upload: Upload) -> Committed:
            size = upload.commit(digest)
            try:
                return Committed(size, self._contents.link_now(repository, digest, size))
            except TwinhullError:
                # The project went meanwhile, say: the bytes may be nobody's now.
                self._contents.note_stray_now(digest)
                raise

        return commit

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _extend(
        self, open_upload: Callable[[], Upload], chunk: ChunkRange | None, body: Body, close: Callable[[Upload], _T]
    ) -> _T:
        """Open an upload, add a body to it, and close it; all in one thread's turn if the body is here already."""
        if isinstance(body, bytes):
            return await self._run(lambda: self._extend_now(open_upload, chunk, body, close))
        upload = await self._run(open_upload)
        try:
            limit_bytes = self._limit(upload, chunk)
            taken = await self._intake.ingest(
                upload,
                body,
                on_progress=lambda offset: self._watch.grown(upload.upload_id, offset),
                limit_bytes=limit_bytes,
            )
            if chunk is not None and taken != chunk.length:
                await self._run(upload.checkpoint)
                raise _wrong_length(chunk, taken)
            return await self._run(lambda: close(upload))
        finally:
            upload.close()

    def _extend_now(
        self, open_upload: Callable[[], Upload], chunk: ChunkRange | None, body: bytes, close: Callable[[Upload], _T]
    ) -> _T:
        with open_upload() as upload:
            limit_bytes = self._limit(upload, chunk)
            if limit_bytes is not None and len(body) > limit_bytes:
                raise TooLarge(f"body is longer than {limit_bytes} bytes")
            if chunk is not None and len(body) != chunk.length:
                raise _wrong_length(chunk, len(body))
            if body:
                upload.append([body])
            return close(upload)

    def _limit(self, upload: Upload, chunk: ChunkRange | None) -> int | None:
        """Return how many bytes the upload may still take; raises RangeInvalid for a chunk out of order."""
        if chunk is not None and chunk.start != upload.offset:
            raise RangeInvalid(
                f"chunk begins at {chunk.start}, but {upload.offset} bytes have arrived", size_bytes=upload.offset
            )
        limits = [chunk.length] if chunk is not None else []
        if self._blob_bytes_max is not None:
            limits.append(max(0, self._blob_bytes_max - upload.offset))
        return min(limits) if limits else None

    async def _run(self, action: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, action)


def _wrong_length(chunk: ChunkRange, taken: int) -> SizeInvalid:
    return SizeInvalid(f"chunk has {taken} bytes, not the {chunk.length} that its Content-Range says")
