"""A stored blob hashed again, piece by piece, to see whether its bytes are still those of its digest."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from twinhull.blobs.store import BlobStore
from twinhull.kit.digest import Digest, algorithm_of, hex_of, new_hash

_PIECE_BYTES: Final = 1 << 20


class Rehash:
    """One reading of one blob. Synchronous; raises BlobUnknown at the beginning when the blob is not here."""

    def __init__(self, blobs: BlobStore, digest: Digest) -> None:
        """Begin before the first byte."""
        self._digest = digest
        self._hash = new_hash(algorithm_of(digest))
        self._file = blobs.open(digest)
        self.bytes_read = 0
        # Why the bytes could not be read to their end.
        self.unreadable = ""

    def step(self, length: int) -> bool:
        """Hash at least one and about `length` more bytes; tell whether there may be more."""
        buffer = memoryview(bytearray(min(_PIECE_BYTES, max(1, length))))
        while length > 0:
            try:
                count = self._file.readinto(buffer)
            except OSError as error:
                # A sector that the disk cannot give back is no better than one with other bytes.
                self.unreadable = error.strerror or type(error).__name__
                return False
            if not count:
                return False
            self._hash.update(buffer[:count])
            self.bytes_read += count
            length -= count
        return True

    def is_right(self) -> bool:
        """Tell, after the last step, whether these are the digest's bytes."""
        return not self.unreadable and self._hash.hexdigest() == hex_of(self._digest)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let go of the file."""
        self._file.close()


def is_right(blobs: BlobStore, digest: Digest) -> bool:
    """Tell whether the blob that is here has the digest's bytes; reads all of it. Raises BlobUnknown."""
    with Rehash(blobs, digest) as rehash:
        while rehash.step(_PIECE_BYTES):
            continue
        return rehash.is_right()
