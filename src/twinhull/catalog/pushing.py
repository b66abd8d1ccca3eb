"""Pushing a manifest: everything that it names must be here, then record and tags are written in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from twinhull.blobs.store import BlobStore
from twinhull.catalog.audit import note_artifact
from twinhull.catalog.describing import CONFIG_BYTES_MAX, Described, describe
from twinhull.catalog.immutability import Immutability, rules_for_writing
from twinhull.catalog.media import ParsedManifest, parse_manifest
from twinhull.catalog.peers import Peers
from twinhull.catalog.quotas import refusals_told, require_room, tell_if_nearly_full
from twinhull.kit.digest import Digest, algorithm_of, digest_of
from twinhull.kit.errors import BlobUnknown, DigestInvalid, ManifestBlobUnknown, TagImmutable
from twinhull.kit.reference import is_digest, project_of
from twinhull.metadata import content as queries
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import BLOB, MANIFEST, REPOSITORY, TAG, content_key, tag_key
from twinhull.records.merge import Value

# So many of the missing are named in the answer, and asked of the peers.
MISSING_NAMED_MAX: Final = 50
# An index that lists more than this does not renew what it lists; see _renew_children.
CHILDREN_RENEWED_MAX: Final = 1000
_SIZE_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A manifest that somebody wants to push."""

    repository: str
    # Where to: a tag, or the digest that the client has worked out.
    reference: str | Digest
    content: bytes
    content_type: str
    pushed_by: str
    # Further tags that shall name it.
    tags: Sequence[str] = ()
    # The version, where it is pushed as a chart.
    chart: str = ""
    # It comes from the registry that the project stands for: what an index lists need not be here then, since it can be had
    # from there.
    from_upstream: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What came of it: the digest, the tags that name it now, its subject, and this node's change number."""

    digest: Digest
    tags: tuple[str, ...]
    subject: Digest | None
    seq: int


class _Missing(Exception):
    """Some of what a manifest names is not here."""

    def __init__(self, blobs: Sequence[str], manifests: Sequence[str]) -> None:
        super().__init__()
        self.blobs = list(blobs)
        self.manifests = list(manifests)


class Pushing:
    """Takes manifests in."""

    def __init__(self, *, store: Store, blobs: BlobStore, executor: Executor, peers: Peers) -> None:
        """Take the metadata, the bytes, threads to write in, and the peers to ask for what seems to be missing."""
        self._store = store
        self._blobs = blobs
        self._executor = executor
        self._peers = peers

    async def push(self, push: Push) -> Pushed:
        """Store the manifest and point the tags at it.

        Raises ManifestInvalid, ManifestTooLarge, DigestInvalid (the bytes are not those of the digest),
        ManifestBlobUnknown (it names what is not in the repository), ProjectUnknown, or TagImmutable.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._write, push)
        except _Missing as missing:
            # The blobs of one push may have been sent to different nodes.
            await self._find(push.repository, missing)
        try:
            return await loop.run_in_executor(self._executor, self._write, push)
        except _Missing as missing:
            named = (missing.blobs + missing.manifests)[:MISSING_NAMED_MAX]
            raise ManifestBlobUnknown(
                f"manifest names {named[0]}, which is unknown to this repository",
                detail=[{"digest": each} for each in named],
            ) from None

    async def _find(self, repository: str, missing: _Missing) -> None:
        wanted = [(BLOB.name, digest) for digest in missing.blobs] + [(MANIFEST.name, digest) for digest in missing.manifests]
        asked = wanted[:MISSING_NAMED_MAX]
        await asyncio.gather(*(self._peers.find(kind, content_key(repository, digest)) for kind, digest in asked))

    def _write(self, push: Push) -> Pushed:
        digest, parsed = _checked(push)
        described = describe(parsed, self._config_of(parsed))
        repository = push.repository
        tags = tuple(dict.fromkeys((*(() if is_digest(push.reference) else (push.reference,)), *push.tags)))
        with refusals_told(self._store, repository), self._store.write() as transaction:
            connection = transaction.connection
            require_project = queries.require_proxied if push.from_upstream else queries.require_pushable
            require_project(connection, project_of(repository))
            rules = rules_for_writing(transaction, repository)
            _check_movable(transaction, rules, repository, tags, digest)
            sizes = queries.visible_blobs(connection, repository, parsed.blobs)
            missing_blobs = [blob for blob in parsed.required_blobs if blob not in sizes]
            children = queries.visible_manifests(connection, repository, parsed.manifests)
            missing_manifests = [child for child in parsed.manifests if child not in children and not push.from_upstream]
            if missing_blobs or missing_manifests:
                raise _Missing(missing_blobs, missing_manifests)
            require_room(transaction, project_of(repository), digest, parsed.size)
            keep_repository(transaction, repository)
            _note(transaction, repository, digest, tags, push.chart)
            _renew_children(transaction, repository, children)
            _put_manifest(transaction, push, digest, _facts_of(parsed, described, sizes))
            for tag in tags:
                put_tag(transaction, rules, repository, tag, digest=digest, pushed_by=push.pushed_by)
            tell_if_nearly_full(transaction, repository)
        subject = parsed.subject.digest if parsed.subject is not None else None
        return Pushed(digest=digest, tags=tags, subject=subject, seq=transaction.seq)

    def _config_of(self, parsed: ParsedManifest) -> bytes | None:
        """Return the configuration if its bytes are here already; whether it may be named is seen later."""
        if parsed.config is None or parsed.config.size > CONFIG_BYTES_MAX:
            return None
        try:
            return self._blobs.read(parsed.config.digest, 0, CONFIG_BYTES_MAX)
        except BlobUnknown:
            return None


def _note(transaction: Transaction, repository: str, digest: str, tags: tuple[str, ...], chart: str) -> None:
    """Append what a push brings that was not there: an artifact under each new name, or under its digest alone."""
    targets = {tag: transaction.values(TAG, tag_key(repository, tag)) or {} for tag in tags}
    for tag, held in targets.items():
        target = held.get("target")
        if not isinstance(target, dict) or target.get("digest") != digest:
            note_artifact(transaction, "create", repository, digest, named=tag, tag=tag, chart=chart)
    if not tags and transaction.values(MANIFEST, content_key(repository, digest)) is None:
        note_artifact(transaction, "create", repository, digest)


def _checked(push: Push) -> tuple[Digest, ParsedManifest]:
    parsed = parse_manifest(push.content, push.content_type)
    if not is_digest(push.reference):
        return digest_of(push.content), parsed
    wanted = Digest(push.reference)
    actual = digest_of(push.content, algorithm_of(wanted))
    if actual != wanted:
        raise DigestInvalid(f"the manifest's digest is {actual}, not {wanted}")
    return wanted, parsed


def keep_repository(transaction: Transaction, repository: str) -> None:
    """Make the repository if it is not there."""
    if transaction.values(REPOSITORY, repository) is None:
        now_ms = transaction.now_ms()
        fields = {"description": "", "created_ms": now_ms, "updated_ms": now_ms}
        transaction.create(REPOSITORY, repository, fields, number=transaction.next_id(REPOSITORY))


def _renew_children(transaction: Transaction, repository: str, children: Collection[str]) -> None:
    # While nodes are apart, another may be deleting what this index lists, since it does not know of the index. A write
    # outlives a delete that had not seen it.
    if len(children) <= CHILDREN_RENEWED_MAX:
        for child in children:
            transaction.put(MANIFEST, content_key(repository, child), {})


def _facts_of(parsed: ParsedManifest, described: Described, sizes: Mapping[str, int]) -> dict[str, Value]:
    required = parsed.required_blobs
    # What a client writes of sizes is not believed where they are known.
    blobs = [(blob, sizes.get(blob, size), blob in required) for blob, size in parsed.blobs.items()]
    return {
        "media_type": parsed.media_type,
        "artifact_type": parsed.artifact_type,
        "config_type": described.media_type,
        "type": described.type,
        "icon": described.icon,
        "accessory_type": described.accessory_type,
        "attributes": described.attributes,
        "config_digest": parsed.config.digest if parsed.config is not None else "",
        "subject": parsed.subject.digest if parsed.subject is not None else "",
        "manifest_bytes": parsed.size,
        # What foreign layers claim to weigh is nobody's to check; the column holds 64 bits.
        "total_bytes": min(parsed.size + sum(size for _, size, _ in blobs), _SIZE_MAX),
        "annotations": dict(parsed.annotations),
        "blobs": blobs,
        "children": list(parsed.manifests),
    }


def _put_manifest(transaction: Transaction, push: Push, digest: Digest, facts: Mapping[str, Value]) -> None:
    key = content_key(push.repository, digest)
    there = transaction.values(MANIFEST, key)
    if there is not None:
        # It may be going away elsewhere right now: renewed, it stays. What was pushed first holds: who and when.
        learnt = {} if there.get("attributes") or not facts["attributes"] else {"attributes": facts["attributes"]}
        transaction.put(MANIFEST, key, learnt)
        return
    transaction.put_content(digest, push.content)
    fields = {**facts, "pushed_ms": transaction.now_ms(), "pushed_by": push.pushed_by}
    transaction.create(MANIFEST, key, fields, number=transaction.next_id(MANIFEST))


def _check_movable(transaction: Transaction, rules: Immutability, repository: str, tags: Sequence[str], digest: Digest) -> None:
    """Raise TagImmutable if a tag names something else and must not be moved; a push that says the same once more is none."""
    for tag in tags if rules.rules else ():
        before = queries.digest_of_tag(transaction.connection, repository, tag)
        if before not in (None, digest) and rules.holds(repository, tag):
            raise TagImmutable(f"Failed to process request due to '{repository}:{tag}' configured as immutable.")


def put_tag(transaction: Transaction, rules: Immutability, repository: str, tag: str, *, digest: str, pushed_by: str) -> None:
    """Let a tag, new or not, name this manifest of its repository, whose project has these rules; raises TagImmutable."""
    _check_movable(transaction, rules, repository, [tag], Digest(digest))
    key = tag_key(repository, tag)
    # Marked where a rule holds it: when two nodes that do not hear each other name it at once, the first to do so wins.
    immutable = rules.holds(repository, tag)
    target = {"digest": digest, "immutable": immutable, "pushed_ms": transaction.now_ms(), "pushed_by": pushed_by}
    if transaction.values(TAG, key) is None:
        transaction.create(TAG, key, {"target": target}, number=transaction.next_id(TAG))
    else:
        transaction.put(TAG, key, {"target": target})
