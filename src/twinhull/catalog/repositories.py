"""Repositories as people manage them: descriptions, and what goes when an artifact, a tag or a whole repository is deleted.

The data plane deletes one manifest and nothing else (catalog/deleting); here goes with an artifact what belongs to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

from twinhull.catalog.audit import note_artifact, note_content
from twinhull.catalog.deleting import delete_manifest, delete_tags
from twinhull.catalog.immutability import require_deletable, rules_of
from twinhull.catalog.peers import Peers
from twinhull.kit.errors import ManifestInUse, ManifestUnknown, RepositoryUnknown
from twinhull.kit.reference import project_of
from twinhull.metadata import artifact_parts as queries
from twinhull.metadata import content
from twinhull.metadata.projections.standing import accessories_of, children_of
from twinhull.metadata.repositories import Repository, find_repository
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import MANIFEST, REPOSITORY, content_key

# A repository is emptied in transactions of so many artifacts, so that other writers get their turn.
DELETED_AT_ONCE: Final = 200
_TAGS_AT_ONCE: Final = 1000
_T = TypeVar("_T")
IN_USE: Final = "the deleting artifact is referenced by others"


class Repositories:
    """Changes and deletes repositories and what is in them."""

    def __init__(self, *, store: Store, executor: Executor, peers: Peers) -> None:
        """Take the metadata, threads to write in, and the peers to ask for what seems to be missing."""
        self._store = store
        self._executor = executor
        self._peers = peers

    async def describe(self, name: str, description: str) -> int:
        """Set a repository's description and return this node's change number, or raise RepositoryUnknown."""

        def change() -> int:
            with self._store.write() as transaction:
                found = _existing(transaction, name)
                _keep_alive(transaction, found)
                fields = {"description": description, "updated_ms": transaction.now_ms()}
                transaction.put(REPOSITORY, name, fields)
            return transaction.seq

        return await self._run(change)

    async def delete(self, name: str) -> int:
        """Delete a repository with all that is in it, and return this node's change number.

        Raises RepositoryUnknown, or TagImmutable, and then nothing is deleted. Should the node die half-way, the repository
        is still there with what is left in it, and can be deleted again.
        """
        await self._run(lambda: self._check_deletable(name))
        while True:
            seq, is_gone = await self._run(lambda: self._delete_some(name))
            if is_gone:
                return seq

    async def delete_artifact(self, repository: str, digest: str, *, chart: str = "") -> int:
        """Delete an artifact with its tags and what belongs to it, and return this node's change number.

        `chart` is its version where it is deleted as a chart.

        With an index go those of its images that nothing else names, with any artifact its signatures and the like. Raises
        ManifestUnknown, ManifestInUse while an index lists it, or TagImmutable.
        """

        def change() -> int:
            with self._store.write() as transaction:
                if content.index_naming(transaction.connection, repository, digest) is not None:
                    raise ManifestInUse(IN_USE)
                if transaction.values(MANIFEST, content_key(repository, digest)) is None:
                    raise ManifestUnknown(detail={"name": repository, "digest": digest})
                tags = content.tags_of(transaction.connection, repository, digest)
                _delete_with_its_own(transaction, repository, digest)
                note_artifact(transaction, "delete", repository, digest, tags=tags, chart=chart)
            return transaction.seq

        return await self._run(change)

    async def delete_tag(self, repository: str, digest: str, tag: str) -> int:
        """Delete a tag that names this artifact, and return this node's change number; ManifestUnknown, or TagImmutable."""

        def change() -> int:
            with self._store.write() as transaction:
                if content.digest_of_tag(transaction.connection, repository, tag) != digest:
                    raise ManifestUnknown(detail={"name": repository, "tag": tag})
                delete_tags(transaction, repository, [tag])
                note_content(transaction, "delete", "tag", repository, tag, digest=digest)
            return transaction.seq

        return await self._run(change)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _check_deletable(self, name: str) -> None:
        with self._store.read() as connection:
            if find_repository(connection, name) is None:
                raise RepositoryUnknown(f"repository {name} not found")
            rules = rules_of(connection, project_of(name))
            last = ""
            while rules.rules and (tags := content.tags_page(connection, name, last, _TAGS_AT_ONCE)):
                require_deletable(rules, name, tags)
                last = tags[-1]

    def _delete_some(self, name: str) -> tuple[int, bool]:
        with self._store.write() as transaction:
            connection = transaction.connection
            digests = queries.outermost(connection, name, DELETED_AT_ONCE)
            for digest in digests:
                if transaction.values(MANIFEST, content_key(name, digest)) is not None:
                    tags = content.tags_of(connection, name, digest)
                    _delete_with_its_own(transaction, name, digest)
                    note_artifact(transaction, "delete", name, digest, tags=tags)
            is_gone = not queries.outermost(connection, name, 1)
            if is_gone:
                delete_tags(transaction, name, content.tags_page(connection, name, "", DELETED_AT_ONCE))
                transaction.delete(REPOSITORY, name)
                note_content(transaction, "delete", "repository", name)
        return transaction.seq, is_gone

    async def _run(self, action: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, action)


def _existing(transaction: Transaction, name: str) -> Repository:
    found = find_repository(transaction.connection, name)
    if found is None:
        raise RepositoryUnknown(f"repository {name} not found")
    return found


def _keep_alive(transaction: Transaction, found: Repository) -> None:
    """Make a repository whose record is dead, and that lives through its artifacts only, a living one with all it had."""
    if transaction.values(REPOSITORY, found.name) is None:
        fields = {"description": found.description, "created_ms": found.created_ms, "updated_ms": found.updated_ms}
        transaction.create(REPOSITORY, found.name, fields, number=found.id)


def _delete_with_its_own(transaction: Transaction, repository: str, digest: str) -> None:
    connection = transaction.connection
    waiting = [digest]
    while waiting:
        current = waiting.pop()
        children = children_of(connection, repository, current)
        accessories = accessories_of(connection, repository, current)
        delete_manifest(transaction, repository, current)
        orphans = [child for child in children if not content.tags_of(connection, repository, child)]
        waiting += [each for each in orphans + accessories if content.index_naming(connection, repository, each) is None]
