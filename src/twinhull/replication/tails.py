"""This node's growing uploads, as peers that follow them read them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from twinhull.blobs.store import BlobStore, Upload
from twinhull.kit.clock import Clock
from twinhull.kit.digest import Digest
from twinhull.kit.errors import BlobUploadUnknown
from twinhull.replication.protocol import FOLLOWED_UPLOAD_BYTES_MIN, UploadEnded, UploadGrew

_REMEMBERED_MAX: Final = 10_000
# A follower of an upload that rests for longer is sent away, since its client may never come back.
_REST_MAX_S: Final = 30.0
# A peer that had a part of an upload when its line was cut may come back so long after the upload's end, and have it told.
_LATELY_S: Final = 900.0
_LATELY_MAX: Final = 100
# Who rests for longer is not announced to peers that come later: its client may be gone.
_LIVELY_S: Final = 5.0


class _Tail:
    def __init__(self) -> None:
        self.size = 0
        # When it last grew, or ended.
        self.grew_s = 0.0
        # Whether peers have been told that they can follow it.
        self.announced = False
        self.ended = False
        # What it became, once it has ended well.
        self.digest: Digest | None = None
        self.changed = threading.Condition()


class Tails:
    """What is known of uploads under way, and of those that ended lately.

    Told on the agent's event loop how they grow; read in threads, one for each follower.
    """

    def __init__(self, blobs: BlobStore, clock: Clock, *, rest_max_s: float = _REST_MAX_S) -> None:
        """Take where the uploads lie, and how long a follower waits for the next byte."""
        self._blobs = blobs
        self._clock = clock
        self._rest_max_s = rest_max_s
        self._tails: OrderedDict[str, _Tail] = OrderedDict()

    def grew(self, upload_id: str, size: int) -> bool:
        """Note how far an upload got; tell, once, that it has become long enough to be followed."""
        tail = self._tails.get(upload_id)
        if tail is None:
            tail = self._tails[upload_id] = _Tail()
            if len(self._tails) > _REMEMBERED_MAX:
                self._tails.popitem(last=False)
        with tail.changed:
            tail.size, tail.grew_s = max(tail.size, size), self._clock.monotonic_s()
            tail.changed.notify_all()
        if tail.announced or tail.size < FOLLOWED_UPLOAD_BYTES_MIN:
            return False
        tail.announced = True
        return True

    def ended(self, upload_id: str, digest: Digest | None) -> bool:
        """Note that an upload became this blob, or was given up (None); tell whether peers may be following it."""
        tail = self._tails.get(upload_id)
        if tail is None:
            return False
        with tail.changed:
            tail.ended, tail.digest, tail.grew_s = True, digest, self._clock.monotonic_s()
            tail.changed.notify_all()
        return tail.announced

    def growing(self) -> list[str]:
        """Return the uploads that are arriving at this moment, and are long enough to be followed."""
        since_s = self._clock.monotonic_s() - _LIVELY_S
        return [name for name, tail in self._tails.items() if tail.announced and not tail.ended and tail.grew_s > since_s]

    def news(self) -> list[UploadEnded | UploadGrew]:
        """Return what a peer is to be told that comes, perhaps again: what became of uploads lately, and what it can follow."""
        ended = [UploadEnded(upload_id=name, digest=digest) for name, digest in self._ended_lately()]
        return [*ended, *(UploadGrew(upload_id=name) for name in self.growing())]

    def _ended_lately(self) -> list[tuple[str, Digest]]:
        since_s = self._clock.monotonic_s() - _LATELY_S
        found = [
            (name, tail.digest)
            for name, tail in self._tails.items()
            if tail.announced and tail.digest is not None and tail.grew_s > since_s
        ]
        return found[-_LATELY_MAX:]

    @contextmanager
    def follow(self, upload_id: str, start: int = 0) -> Iterator[Follower]:
        """Give what reads the upload from that byte on while it grows, or raise BlobUploadUnknown."""
        tail = self._tails.get(upload_id)
        if tail is None:
            raise BlobUploadUnknown(f"upload {upload_id[:160]} is not arriving here")
        follower = Follower(self._blobs, upload_id, tail, self._rest_max_s, start)
        try:
            yield follower
        finally:
            follower.close()


class Follower:
    """One reading of a growing upload, by one thread."""

    def __init__(self, blobs: BlobStore, upload_id: str, tail: _Tail, rest_max_s: float, start: int) -> None:
        """Start before that byte."""
        self._blobs = blobs
        self._upload_id = upload_id
        self._tail = tail
        self._rest_max_s = rest_max_s
        self._offset = start
        self._growing: Upload | None = None

    def read_into(self, buffer: memoryview) -> int:
        """Put the bytes that follow into the buffer, as many as are there, and return their number; wait if there are none.

        Returns 0 at the upload's end. Raises BlobUploadUnknown when it is given up, or rests for too long. A short upload may
        have ended before its follower asks: then the blob that it became is read.
        """
        while True:
            # Looked at before the read: what arrives between the two is found by another one.
            ended = self._tail.ended
            count = self._read(buffer)
            self._offset += count
            if count:
                return count
            if ended and self._tail.digest is None:
                raise BlobUploadUnknown(f"upload {self._upload_id[:160]} was given up")
            if ended:
                return 0
            self._wait()

    def close(self) -> None:
        """Let go of the file."""
        if self._growing is not None:
            self._growing.close()

    def _wait(self) -> None:
        tail = self._tail
        with tail.changed:
            if not tail.changed.wait_for(lambda: tail.size > self._offset or tail.ended, self._rest_max_s):
                raise BlobUploadUnknown(f"nothing more of upload {self._upload_id[:160]} arrives")

    def _read(self, buffer: memoryview) -> int:
        try:
            if self._growing is None:
                self._growing = self._blobs.open_upload(self._upload_id)
            return self._growing.read_into(self._offset, buffer)
        except BlobUploadUnknown:
            # Renamed before it was read for the first time.
            if self._tail.digest is None:
                if not self._tail.ended:
                    # Its end is not announced yet.
                    return 0
                raise
            piece = self._blobs.read(self._tail.digest, self._offset, len(buffer))
            buffer[: len(piece)] = piece
            return len(piece)
