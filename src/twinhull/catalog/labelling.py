"""Labels on artifacts: put on and taken off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from twinhull.catalog.documents import attach_label, detach_label, existing_document
from twinhull.kit.errors import ManifestUnknown, NotFound
from twinhull.kit.reference import project_of
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import LABEL, MANIFEST, content_key


class Labelling:
    """Puts labels on artifacts."""

    def __init__(self, *, store: Store, executor: Executor) -> None:
        """Take the metadata, and threads to write in."""
        self._store = store
        self._executor = executor

    async def add(self, repository: str, digest: str, label: int) -> int:
        """Put a label of the project, or one for all, on an artifact, and return this node's change number.

        Raises NotFound when artifact or label is not there, Conflict for a label that is on it already.
        """

        def change(transaction: Transaction) -> None:
            if transaction.values(MANIFEST, content_key(repository, digest)) is None:
                raise ManifestUnknown
            found = existing_document(transaction, LABEL, label)
            if found.project not in ("", project_of(repository)):
                raise NotFound(f"label {label} not found")
            attach_label(transaction, repository, digest, found)

        return await self._write(change)

    async def remove(self, repository: str, digest: str, label: int) -> int:
        """Take a label off an artifact, and return this node's change number; NotFound for one that is not on it."""

        def change(transaction: Transaction) -> None:
            found = existing_document(transaction, LABEL, label)
            if not detach_label(transaction, repository, digest, found):
                raise NotFound(f"label {label} not found")

        return await self._write(change)

    async def _write(self, change: Callable[[Transaction], None]) -> int:
        def run() -> int:
            with self._store.write() as transaction:
                change(transaction)
            return transaction.seq

        return await asyncio.get_running_loop().run_in_executor(self._executor, run)
