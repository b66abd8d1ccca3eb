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
from twinhull.kit.errors import BlobUnknown, BlobUploadUnknown, DigestInvalid, RangeInvalid, SizeInvalid

_REPOSITORY_LABEL: Final = "repository"

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
        await self._contents.check_project(repository)
        upload = await self._start(repository, algorithm)
        return upload.upload_id

    async def offset(self, repository: str, upload_id: str) -> int:
        """Return how many bytes have arrived, or raise BlobUploadUnknown."""
        upload = await self._open(repository, upload_id)
        return upload.offset

    async def append(self, repository: str, upload_id: str, chunk: ChunkRange | None, body: AsyncIterator[bytes]) -> int:
        """Add a chunk, and return how many bytes there are now.

        Raises BlobUploadUnknown, RangeInvalid for a chunk out of order, SizeInvalid for one of another length than
        announced, Conflict while another request writes to the same upload, StorageFull. What arrived before a client
        left is kept.
        """
        upload = await self._open(repository, upload_id)
        try:
            await self._take(upload, chunk, body)
            await self._run(upload.checkpoint)
            return upload.offset
        finally:
            upload.close()

    async def finish(
        self, repository: str, upload_id: str, digest: Digest, chunk: ChunkRange | None, body: AsyncIterator[bytes]
    ) -> Committed:
        """Add the last chunk, if there is one, and make the whole a blob of the repository.

        Raises what append raises, and DigestInvalid when the bytes are others than the digest says; then they are gone.
        """
        upload = await self._open(repository, upload_id)
        try:
            await self._take(upload, chunk, body)
            return await self._commit(upload, repository, digest)
        finally:
            upload.close()

    async def take_whole(self, repository: str, digest: Digest, body: AsyncIterator[bytes]) -> Committed:
        """Take a blob in one go; whatever fails, nothing of it stays. Raises what begin and finish raise."""
        await self._contents.check_project(repository)
        upload = await self._start(repository, algorithm_of(digest))
        try:
            await self._take(upload, None, body)
            return await self._commit(upload, repository, digest)
        except BaseException:
            # No client knows the id, so none can go on with it.
            await self._run(upload.abort)
            raise

    async def cancel(self, repository: str, upload_id: str) -> None:
        """Forget an upload, or raise BlobUploadUnknown."""
        upload = await self._open(repository, upload_id)
        await self._run(upload.abort)
        self._watch.ended(upload_id, None)

    async def mount(self, repository: str, digest: Digest, source: str) -> Committed | None:
        """Make a blob of another repository visible in this one, without sending it; None if it is not there."""
        try:
            size = await self._contents.size(source, digest)
        except BlobUnknown:
            return None
        return Committed(size, await self._contents.link(repository, digest, size))

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _start(self, repository: str, algorithm: str) -> Upload:
        upload_id = f"{self._node}.{self._new_id()}"
        labels = {_REPOSITORY_LABEL: repository, ALGORITHM_LABEL: algorithm}
        upload = await self._run(lambda: self._blobs.start_upload(upload_id, labels))
        self._watch.started(upload_id, repository)
        return upload

    async def _open(self, repository: str, upload_id: str) -> Upload:
        # An id is no key to another repository's upload, nor to what the store fetches for itself.
        upload = await self._run(lambda: self._blobs.open_upload(upload_id))
        if upload.labels.get(_REPOSITORY_LABEL) != repository:
            raise BlobUploadUnknown
        return upload

    async def _take(self, upload: Upload, chunk: ChunkRange | None, body: AsyncIterator[bytes]) -> None:
        if chunk is not None and chunk.start != upload.offset:
            raise RangeInvalid(
                f"chunk begins at {chunk.start}, but {upload.offset} bytes have arrived", size_bytes=upload.offset
            )
        limit = chunk.length if chunk is not None else None
        if self._blob_bytes_max is not None:
            room = max(0, self._blob_bytes_max - upload.offset)
            limit = room if limit is None else min(limit, room)
        taken = await self._intake.ingest(
            upload, body, on_progress=lambda offset: self._watch.grown(upload.upload_id, offset), limit_bytes=limit
        )
        if chunk is not None and taken != chunk.length:
            await self._run(upload.checkpoint)
            raise SizeInvalid(f"chunk has {taken} bytes, not the {chunk.length} that its Content-Range says")

    async def _commit(self, upload: Upload, repository: str, digest: Digest) -> Committed:
        try:
            size = await self._run(lambda: upload.commit(digest))
        except DigestInvalid:
            self._watch.ended(upload.upload_id, None)
            raise
        self._watch.ended(upload.upload_id, digest)
        return Committed(size, await self._contents.link(repository, digest, size))

    async def _run(self, action: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, action)
