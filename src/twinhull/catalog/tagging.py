"""New names for what is there already: a further tag of an artifact, and an artifact copied into another repository."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from twinhull.catalog.audit import note_artifact, note_content
from twinhull.catalog.immutability import Immutability, rules_for_writing
from twinhull.catalog.pushing import keep_repository, put_tag
from twinhull.catalog.quotas import refusals_told, require_room_for
from twinhull.kit.errors import Conflict, ManifestBlobUnknown, ManifestUnknown
from twinhull.kit.reference import parse_repository, parse_tag, project_of
from twinhull.metadata import content
from twinhull.metadata.projections.standing import accessories_of, children_of
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import MANIFEST, TAG, content_key, tag_key
from twinhull.records.merge import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """An artifact that somebody wants in another repository too."""

    source: str
    digest: str
    target: str
    copied_by: str


class Tagging:
    """Gives names."""

    def __init__(self, *, store: Store, executor: Executor) -> None:
        """Take the metadata, and threads to write in."""
        self._store = store
        self._executor = executor

    async def tag(self, repository: str, digest: str, tag: str, *, tagged_by: str) -> int:
        """Let a new tag name an artifact, and return this node's change number.

        Raises TagInvalid, ManifestUnknown, or Conflict for a tag that is there already.
        """
        parse_tag(tag)

        def change() -> int:
            with self._store.write() as transaction:
                key = content_key(repository, digest)
                if transaction.values(MANIFEST, key) is None:
                    raise ManifestUnknown(detail={"name": repository, "digest": digest})
                if transaction.values(TAG, tag_key(repository, tag)) is not None:
                    raise Conflict(f"tag {tag} already exists under the repository {repository}")
                # Renewed, it outlives a delete that has not seen the tag.
                transaction.put(MANIFEST, key, {})
                rules = rules_for_writing(transaction, repository)
                put_tag(transaction, rules, repository, tag, digest=digest, pushed_by=tagged_by)
                note_content(transaction, "create", "tag", repository, tag, digest=digest)
            return transaction.seq

        return await asyncio.get_running_loop().run_in_executor(self._executor, change)

    async def copy(self, copy: Copy) -> int:
        """Put an artifact into another repository, with its tags and all that belongs to it; return the change number.

        No byte is copied: the blobs are named by both. Raises ManifestUnknown, ProjectUnknown, NameInvalid, TagImmutable,
        ManifestBlobUnknown for an index of which not all is here, or Conflict when it is there already.
        """
        parse_repository(copy.target)

        def change() -> int:
            with refusals_told(self._store, copy.target), self._store.write() as transaction:
                _copy_whole(transaction, copy)
            return transaction.seq

        return await asyncio.get_running_loop().run_in_executor(self._executor, change)


def _copy_whole(transaction: Transaction, copy: Copy) -> None:
    project = project_of(copy.target)
    content.require_pushable(transaction.connection, project)
    if transaction.values(MANIFEST, content_key(copy.source, copy.digest)) is None:
        raise ManifestUnknown(f"artifact {copy.source}@{copy.digest} not found")
    if transaction.values(MANIFEST, content_key(copy.target, copy.digest)) is not None:
        raise Conflict(f"the artifact {copy.target}@{copy.digest} already exists")
    keep_repository(transaction, copy.target)
    rules = rules_for_writing(transaction, copy.target)
    for digest in _with_its_own(transaction, copy.source, copy.digest):
        _copy_one(transaction, rules, copy, digest)
    for tag in content.tags_of(transaction.connection, copy.source, copy.digest):
        put_tag(transaction, rules, copy.target, tag, digest=copy.digest, pushed_by=copy.copied_by)
    tag = next(iter(content.tags_of(transaction.connection, copy.source, copy.digest)), "")
    note_artifact(transaction, "create", copy.target, copy.digest, tag=tag)


def _with_its_own(transaction: Transaction, repository: str, digest: str) -> list[str]:
    """Return an artifact, what it lists as an index, and what belongs to any of them."""
    connection = transaction.connection
    found = {digest: None}
    waiting = [digest]
    while waiting:
        current = waiting.pop()
        its_own = children_of(connection, repository, current) + accessories_of(connection, repository, current)
        new = [each for each in its_own if each not in found]
        found.update(dict.fromkeys(new))
        waiting += new
    return list(found)


def _require_room(transaction: Transaction, repository: str, digest: str, facts: Mapping[str, Value]) -> None:
    """Raise QuotaExceeded unless the project has room for a manifest and what it names."""
    named = facts.get("blobs")
    sizes = {str(blob): int(str(size)) for blob, size, required in (named if isinstance(named, list) else []) if required}
    own = facts.get("manifest_bytes")
    require_room_for(transaction, project_of(repository), {**sizes, digest: own if isinstance(own, int) else 0})


def _copy_one(transaction: Transaction, rules: Immutability, copy: Copy, digest: str) -> None:
    facts = transaction.values(MANIFEST, content_key(copy.source, digest))
    key = content_key(copy.target, digest)
    if transaction.values(MANIFEST, key) is not None:
        # Renewed, it outlives a delete that has not seen what lists it now.
        transaction.put(MANIFEST, key, {})
    elif facts is None:
        # In a project that stands for another registry an index is kept with what was pulled of it; elsewhere it must be whole.
        raise ManifestBlobUnknown(
            f"the index {copy.source}@{copy.digest} lists {digest}, which is not here", hint="pull that first, by its digest"
        )
    else:
        _require_room(transaction, copy.target, digest, facts)
        fields = {**facts, "pushed_ms": transaction.now_ms(), "pushed_by": copy.copied_by}
        fields.pop("ids", None)
        transaction.create(MANIFEST, key, fields, number=transaction.next_id(MANIFEST))
    for tag in content.tags_of(transaction.connection, copy.source, digest):
        # A signature is found by its tag.
        if tag.startswith("sha256-"):
            put_tag(transaction, rules, copy.target, tag, digest=digest, pushed_by=copy.copied_by)
