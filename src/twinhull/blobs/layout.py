"""Which file of the data directory holds what; nothing else in the program builds these paths."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Final

from twinhull.kit.digest import ALGORITHMS, Digest, algorithm_of, hex_of, parse_digest

_UPLOAD_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_GONE: Final = ".gone-"


def is_upload_id(text: str) -> bool:
    """Tell whether the text can be an upload's id: one path component that is neither hidden nor too long."""
    return _UPLOAD_ID.fullmatch(text) is not None


class Layout:
    """The paths of one data directory.

    blobs/sha256/<first 2 hex>/<64 hex>       a blob; visible means verified and durable
    blobs/sha512/<first 2 hex>/<128 hex>
    quarantine/<algorithm>-<hex>              a blob that scrub found rotten
    trash/<algorithm>-<hex>                   a blob that nothing names, about to be removed
    uploads/<upload id>/data                  an upload's bytes so far; locked by whoever appends
    uploads/<upload id>/state.json            its labels, and how far it was hashed
    uploads/.new-<random>/                    an upload that is being started; renamed to its id when whole
    uploads/.gone-<inode>-<upload id>/        an upload that is being committed or aborted
    uploads/.put-<random>                     a small blob that is being stored
    """

    def __init__(self, root: Path) -> None:
        """Take the data directory."""
        self.root = root
        self.uploads = root / "uploads"
        self.quarantined = root / "quarantine"
        self.trash = root / "trash"
        self._blobs = root / "blobs"

    def make(self) -> None:
        """Make the directories that are missing."""
        for directory in (self.uploads, self.quarantined, self.trash, *(self.algorithm(name) for name in ALGORITHMS)):
            directory.mkdir(parents=True, exist_ok=True)

    def algorithm(self, name: str) -> Path:
        """Return the directory of all blobs of one digest algorithm."""
        return self._blobs / name

    def blob(self, digest: Digest) -> Path:
        """Return the blob's file; raises DigestInvalid or Unsupported rather than leave the directory."""
        known = parse_digest(digest)
        return self._blobs / algorithm_of(known) / hex_of(known)[:2] / hex_of(known)

    def quarantine(self, digest: Digest) -> Path:
        """Return where the blob goes when it is rotten."""
        known = parse_digest(digest)
        return self.quarantined / f"{algorithm_of(known)}-{hex_of(known)}"

    def thrown(self, digest: Digest) -> Path:
        """Return where the blob goes when nothing names it."""
        known = parse_digest(digest)
        return self.trash / f"{algorithm_of(known)}-{hex_of(known)}"

    def upload(self, upload_id: str) -> Path:
        """Return the upload's directory; the caller has checked the id."""
        return self.uploads / upload_id

    def data(self, upload_id: str) -> Path:
        """Return the upload's growing file."""
        return self.uploads / upload_id / "data"

    def state(self, upload_id: str) -> Path:
        """Return the upload's notes."""
        return self.uploads / upload_id / "state.json"

    def new_upload(self) -> Path:
        """Make and return an empty directory to start an upload in."""
        return Path(tempfile.mkdtemp(prefix=".new-", dir=self.uploads))

    def gone_upload(self, upload_id: str, inode: int) -> Path:
        """Return where the upload's directory, which has this inode, goes before it is taken apart."""
        return self.uploads / f"{_GONE}{inode}-{upload_id}"
