"""Deleting tags and manifests: a tag alone, or a manifest with all the tags that name it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from twinhull.catalog.audit import note_artifact, note_content
from twinhull.catalog.documents import detach_all_labels
from twinhull.catalog.immutability import require_deletable, rules_for_writing
from twinhull.catalog.peers import Peers
from twinhull.kit.digest import Digest
from twinhull.kit.errors import ManifestInUse, ManifestUnknown, TagUndeletable
from twinhull.kit.reference import is_digest
from twinhull.metadata import content as queries
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import MANIFEST, TAG, content_key, tag_key


class Deleting:
    """Takes tags and manifests away. Their blobs stay until a collection finds that nothing names them."""

    def __init__(self, *, store: Store, executor: Executor, peers: Peers) -> None:
        """Take the metadata, threads to write in, and the peers to ask for what seems to be missing."""
        self._store = store
        self._executor = executor
        self._peers = peers

    async def delete(self, repository: str, reference: str | Digest) -> int:
        """Delete a tag, or a manifest with its tags, and return this node's change number.

        Raises ManifestUnknown, ManifestInUse while an index of the repository lists the manifest, or TagImmutable.
        """
        if is_digest(reference):
            return await self._twice(
                lambda: self._delete_manifest(repository, reference), MANIFEST.name, content_key(repository, reference)
            )
        return await self._twice(lambda: self._delete_tag(repository, reference), TAG.name, tag_key(repository, reference))

    async def _twice(self, action: Callable[[], int], kind: str, key: str) -> int:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, action)
        except ManifestUnknown:
            if not await self._peers.find(kind, key):
                raise
        return await loop.run_in_executor(self._executor, action)

    def _delete_tag(self, repository: str, tag: str) -> int:
        with self._store.write() as transaction:
            if rules_for_writing(transaction, repository).holds(repository, tag):
                raise TagUndeletable(f"the tag {tag} configured as immutable, cannot be deleted")
            digest = queries.digest_of_tag(transaction.connection, repository, tag)
            if not transaction.delete(TAG, tag_key(repository, tag)):
                raise ManifestUnknown(detail={"name": repository, "tag": tag})
            note_content(transaction, "delete", "tag", repository, tag, digest=digest or "")
        return transaction.seq

    def _delete_manifest(self, repository: str, digest: str) -> int:
        with self._store.write() as transaction:
            parent = queries.index_naming(transaction.connection, repository, digest)
            if parent is not None:
                raise ManifestInUse(f"manifest is listed by the index {parent}", hint="delete that first")
            tags = queries.tags_of(transaction.connection, repository, digest)
            if not delete_manifest(transaction, repository, digest):
                raise ManifestUnknown(detail={"name": repository, "digest": digest})
            note_artifact(transaction, "delete", repository, digest, tags=tags)
        return transaction.seq


def delete_manifest(transaction: Transaction, repository: str, digest: str) -> bool:
    """Delete a manifest with the tags that name it and the labels that are on it.

    Returns False when it is not there. Raises TagImmutable, and then the caller's transaction must not be committed.
    """
    if not transaction.delete(MANIFEST, content_key(repository, digest)):
        return False
    delete_tags(transaction, repository, queries.tags_of(transaction.connection, repository, digest))
    detach_all_labels(transaction, repository, digest)
    return True


def delete_tags(transaction: Transaction, repository: str, tags: Sequence[str]) -> None:
    """Delete tags, which need not be there; raises TagImmutable."""
    if tags:
        require_deletable(rules_for_writing(transaction, repository), repository, tags)
    for tag in tags:
        transaction.delete(TAG, tag_key(repository, tag))
