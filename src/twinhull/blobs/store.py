"""What the program may do with blobs and uploads, whichever backend keeps them.

All methods are synchronous and may wait for a disk: code on an event loop calls them in a thread. A digest given to a
store comes from `parse_digest`; an upload id may come straight from a client. Besides what is said at each method, every
one of them may raise Unavailable when the backend fails, and those that write StorageFull when it has no space left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Final, Protocol, Self

from twinhull.kit.digest import ALGORITHMS, Digest, algorithm_of, hex_of
from twinhull.kit.errors import Unsupported

# An upload's label of this name says which digests to keep up while the bytes arrive: "sha256" (the default), "sha512" or
# "sha256,sha512". A commit under another algorithm is right too, but reads the bytes once more.
ALGORITHM_LABEL: Final = "digest-algorithm"

Chunk = bytes | bytearray | memoryview


def transfer_upload_id(digest: Digest) -> str:
    """Return the id of the upload that fetches this blob from a peer, so that a restarted node finds its half again."""
    return f"transfer-{algorithm_of(digest)}-{hex_of(digest)}"


def algorithms_wanted(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the digest algorithms to keep up for an upload with these labels, or raise Unsupported."""
    names = tuple(labels.get(ALGORITHM_LABEL, "sha256").split(","))
    for name in names:
        if name not in ALGORITHMS:
            raise Unsupported(f"digest algorithm {name[:32]!r} is not supported; use sha256 or sha512")
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadState:
    """An unfinished upload, as a listing shows it."""

    upload_id: str
    labels: Mapping[str, str]
    size_bytes: int
    modified_ms: int


class Upload(Protocol):
    """Bytes on their way to become a blob.

    The first append, catch_up, commit or abort claims the upload: until checkpoint, close, commit or abort any other claim,
    in this process or another, is refused with Conflict. Not for use by two threads at once.
    """

    @property
    def upload_id(self) -> str:
        """Return the id that it was started under."""
        ...

    @property
    def labels(self) -> Mapping[str, str]:
        """Return what was noted about it at its start."""
        ...

    @property
    def offset(self) -> int:
        """Return the number of bytes there were when it was opened, plus what this object appended."""
        ...

    @property
    def path(self) -> Path | None:
        """Return the growing file (None where the backend has none); it is gone once the upload is committed or aborted."""
        ...

    def append(self, chunks: Sequence[Chunk]) -> None:
        """Write all chunks in order, or none of them when this raises.

        Raises Conflict (claimed by another), BlobUploadUnknown (committed or aborted meanwhile), RangeInvalid (another
        went on with it since it was opened).
        """
        ...

    def read(self, start: int, length: int) -> bytes:
        """Return at most `length` of the bytes that are there now, nothing at the present end; or raise BlobUploadUnknown.

        Needs no claim: this is how others follow a growing upload. An object that has read once can read on to the last
        byte even if the upload is committed meanwhile.
        """
        ...

    def read_into(self, start: int, buffer: memoryview) -> int:
        """Put into the buffer what `read` returns for its length, and return the number of bytes."""
        ...

    def catch_up(self) -> None:
        """Hash what is there already, so that later appends are hashed as they arrive and the commit has nothing to re-read.

        Worth it before the rest of a large transfer is fetched; fails like append.
        """
        ...

    def checkpoint(self) -> None:
        """Note how far it got and what the digest was there, and let go of the claim, so that any process can go on."""
        ...

    def commit(self, digest: Digest, *, expected_size: int | None = None) -> int:
        """Make the bytes visible under their digest, durably, and return their number; no harm if the blob is here already.

        Raises DigestInvalid if they hash to something else, and the upload is gone then; SizeInvalid if their number is not
        the expected one, and the upload stays; otherwise fails like append.
        """
        ...

    def abort(self) -> None:
        """Forget the bytes; no harm if they are gone. Raises Conflict if another has claimed the upload."""
        ...

    def close(self) -> None:
        """Let go of the claim and of the operating system's handles; the bytes stay. The object may be used again."""
        ...

    def __enter__(self) -> Self:
        """Return itself."""
        ...

    def __exit__(self, *exc_info: object) -> None:
        """Close."""
        ...


class BlobStore(Protocol):
    """Immutable bytes under their digest, and the uploads that become such."""

    def stat(self, digest: Digest) -> int | None:
        """Return the blob's size in bytes, or None if it is not here."""
        ...

    def touch(self, digest: Digest) -> int | None:
        """Return what stat does, and make the blob young again, so that a running collection leaves it alone."""
        ...

    def path_of(self, digest: Digest) -> Path | None:
        """Return the file that holds the blob; None if it is not here or the backend has no files."""
        ...

    def open(self, digest: Digest) -> BufferedIOBase:
        """Return the blob's bytes as a seekable file that stays readable when the blob is deleted, or raise BlobUnknown."""
        ...

    def read(self, digest: Digest, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`, fewer at the end; or raise BlobUnknown, or RangeInvalid beyond the end."""
        ...

    def put(self, digest: Digest, content: Chunk) -> None:
        """Store a small blob durably in one go, or raise DigestInvalid."""
        ...

    def start_upload(self, upload_id: str, labels: Mapping[str, str]) -> Upload:
        """Return a new, empty upload; raises BlobUploadInvalid for an id that can't be one, Conflict for one in use.

        Unsupported, if the labels ask for an unknown digest algorithm.
        """
        ...

    def open_upload(self, upload_id: str) -> Upload:
        """Return an upload to go on with, whoever wrote its bytes so far; or raise BlobUploadUnknown."""
        ...

    def uploads(self) -> Iterator[UploadState]:
        """Yield the unfinished uploads, in no order; those that come or go meanwhile may be missing."""
        ...

    def recover(self, older_than_ms: int) -> list[str]:
        """Drop uploads and leftovers of dead processes untouched since then (unix time), and return the uploads' ids.

        Uploads that are claimed are left alone. Needed after a crash only to win back the space.
        """
        ...

    def delete(self, digest: Digest, *, untouched_since_ms: int | None = None) -> bool:
        """Remove the blob, and tell whether it was removed.

        With a time (unix), a blob that was committed again or touched since then stays: no commit that found the blob in
        place loses it to a collection that began before.
        """
        ...

    def discard(self, digests: Sequence[Digest], *, untouched_since_ms: int) -> dict[Digest, int]:
        """Take blobs out of every reader's sight, save those committed again or touched since then, and return their sizes.

        Their space is free after `empty_trash`. Raises Conflict while `held`.
        """
        ...

    def empty_trash(self) -> int:
        """Free the space of what was discarded, also before a crash, and return how many bytes that gave back."""
        ...

    def held(self) -> AbstractContextManager[None]:
        """See to it that nothing is discarded within the block, by any process: a backup is reading."""
        ...

    def quarantine(self, digest: Digest) -> bool:
        """Put a rotten blob aside, where a human can look at it but no reader finds it; tell whether it was here."""
        ...

    def digests(self) -> Iterator[Digest]:
        """Yield the digests of all blobs here; those that come or go meanwhile may be missing."""
        ...

    def free_bytes(self) -> int:
        """Return how much more the backend can take."""
        ...
