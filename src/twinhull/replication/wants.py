"""Which blobs this node must have: those that records name and its disk lacks."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Final

from twinhull.blobs.store import BlobStore
from twinhull.kit.digest import Digest, is_known
from twinhull.metadata import content, members
from twinhull.metadata.store import Store
from twinhull.records.change import Change
from twinhull.records.kinds import BLOB, KINDS, split_content_key
from twinhull.records.merge import decode, is_dead, values_of
from twinhull.replication.threads import in_thread
from twinhull.replication.transfers import Transfers

_NAMED_BLOBS_PAGE: Final = 1000


class Wants:
    """Turns what records name into transfers. Used on the agent's event loop."""

    def __init__(self, store: Store, blobs: BlobStore, transfers: Transfers, *, executor: Executor) -> None:
        """Take what is known, what is here, and what brings the rest."""
        self._store = store
        self._blobs = blobs
        self._transfers = transfers
        self._executor = executor
        # Until all that records name was looked at, something is taken to be missing: nobody shall believe that all is here.
        self._looked_at_all = False

    @property
    def missing_blobs(self) -> int:
        """How many blobs are still to come."""
        return max(self._transfers.wanted_blobs, int(not self._looked_at_all))

    @property
    def missing_bytes(self) -> int:
        """How many bytes of blobs are still to come."""
        return max(self._transfers.wanted_bytes, int(not self._looked_at_all))

    def named_by(self, change: Change) -> None:
        """Fetch what a manifest or link that was just applied names."""
        kind = KINDS[change.kind]
        record = decode(change.record)
        if is_dead(kind, record):
            return
        values = values_of(kind, record)
        named: list[tuple[str, int]] = []
        if kind is BLOB:
            size = values.get("size")
            named = [(split_content_key(change.key)[1], size if isinstance(size, int) else 0)]
        elif isinstance(blobs := values.get("blobs"), list):
            named = [(digest, size) for digest, size, required in blobs if required]
        for digest, size in named:
            if self._is_absent(digest):
                self._transfers.want(Digest(digest), size)

    def _is_absent(self, digest: str) -> bool:
        """Tell whether the blob is to be fetched; what is no digest, whoever wrote it into a record, is not."""
        return is_known(digest) and self._blobs.stat(Digest(digest)) is None

    async def all_missing(self) -> None:
        """Go through all blobs that records name, and fetch those that the disk lacks."""
        after = ""
        while True:
            after, absent = await in_thread(self._executor, self._page_after, after)
            for digest, size in absent:
                self._transfers.want(digest, size)
            if not after:
                self._looked_at_all = True
                return

    def _page_after(self, after: str) -> tuple[str, list[tuple[Digest, int]]]:
        with self._store.read() as connection:
            named = members.named_blobs_page(connection, after, _NAMED_BLOBS_PAGE)
        absent = [(digest, size) for digest, size in named if self._is_absent(digest)]
        return (named[-1][0] if named else ""), absent


def is_named(store: Store, digest: Digest) -> bool:
    """Tell whether any manifest or link names the blob."""
    with store.read() as connection:
        return bool(content.homes_of_blob(connection, digest, 1))
