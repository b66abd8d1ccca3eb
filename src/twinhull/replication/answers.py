"""What this node answers other masters: its stream of changes, single records, and its state in short."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from twinhull.kit.errors import NotFound, ProtocolError, Unavailable
from twinhull.metadata import garbage, members
from twinhull.records.change import Change, VersionVector, covers
from twinhull.records.kinds import BLOB, KINDS, MANIFEST, NODE, PROJECT, TAG, content_key, split_content_key, split_tag_key
from twinhull.records.merge import decode, is_dead, values_of
from twinhull.replication.comparing import SUMMARY_FORM, roots_of
from twinhull.replication.engine import Engine
from twinhull.replication.feed import Feed, SubscriberLink
from twinhull.replication.protocol import (
    Hello,
    KeptAnswer,
    KeptQuery,
    PresenceAnswer,
    PresenceQuery,
    RecordQuery,
    SummaryAnswer,
    check_greeting,
)
from twinhull.replication.threads import in_thread
from twinhull.replication.whereabouts import present

# Who collects garbage is not kept waiting longer by a peer that is behind.
_CATCH_UP_S: Final = 10.0
_CATCH_UP_STEP_S: Final = 0.05
_PASSED_ON_S: Final = 15.0


class Answers:
    """Answers members; who may ask is another's business."""

    def __init__(self, engine: Engine) -> None:
        """Take what knows the peers, and what they are told."""
        self._engine = engine

    async def stream(self, link: SubscriberLink, node: str) -> None:
        """Feed a subscriber until it leaves; raises ProtocolError for one that does not greet as it should."""
        engine = self._engine
        hello = await link.receive()
        if not isinstance(hello, Hello):
            raise ProtocolError("the stream began without a greeting")
        check_greeting(hello, cluster=engine.identity.cluster, node=node)
        feed = Feed(
            link,
            hello,
            cluster=engine.identity.cluster,
            store=engine.store,
            acknowledgements=engine.acknowledgements,
            executor=engine.executor,
            clock=engine.clock,
            linked=engine.linked,
        )
        await engine.serve_feed(feed)

    async def find(self, query: RecordQuery) -> list[Change]:
        """Return a record, and those it is of no use without."""
        return await in_thread(self._engine.executor, self._find, query)

    def _find(self, query: RecordQuery) -> list[Change]:
        store = self._engine.store
        wanted = [(query.kind, query.key)]
        if query.kind == BLOB.name:
            repository, digest = split_content_key(query.key)
            with store.read() as connection:
                manifest = members.a_manifest_naming(connection, repository, digest)
            if manifest is not None:
                wanted.append((MANIFEST.name, content_key(repository, manifest)))
        found = []
        for kind, key in wanted:
            record = store.record(kind, key)
            if record is None:
                continue
            found.append(record)
            if kind == TAG.name:
                target = values_of(KINDS[kind], decode(record.record)).get("target")
                repository, _ = split_tag_key(key)
                digest = str(target.get("digest", "")) if isinstance(target, dict) else ""
                manifest_record = store.record(MANIFEST.name, content_key(repository, digest))
                found.extend([manifest_record] if manifest_record is not None else [])
        # A project that this side does not know yet would hide everything in it.
        if found and query.kind in (TAG.name, MANIFEST.name, BLOB.name):
            project = store.record(PROJECT.name, query.key.partition("/")[0])
            found.extend([project] if project is not None else [])
        return found

    async def summary(self, *, is_brief: bool = False) -> SummaryAnswer:
        """Return this node's state in short."""

        def read() -> SummaryAnswer:
            vector, buckets = self._engine.store.state_root()
            return SummaryAnswer(
                vector=vector,
                buckets={} if is_brief else buckets,
                kinds=roots_of(buckets),
                form=SUMMARY_FORM,
                missing_blobs=self._engine.missing_blobs(),
                missing_bytes=self._engine.missing_bytes(),
            )

        return await in_thread(self._engine.executor, read)

    async def vector(self) -> VersionVector:
        """Return what this node has applied: a restored node learns from it what it has forgotten."""
        return await in_thread(self._engine.executor, self._engine.store.vector)

    async def presence(self, query: PresenceQuery) -> PresenceAnswer:
        """Return what this node lacks of these records and blobs."""
        return await in_thread(self._engine.executor, present, self._engine.store, self._engine.blobs, query)

    async def removal(self, node: str) -> list[Change]:
        """Return the record of a node that was removed, for itself to learn of it; nothing of a member."""
        record = await in_thread(self._engine.executor, self._engine.store.record, NODE.name, node)
        return [record] if record is not None and is_dead(NODE, decode(record.record)) else []

    async def kept(self, query: KeptQuery) -> KeptAnswer:
        """Return which of the blobs this node names, or named until lately, once its state covers the query's vector.

        A question for another member is passed on to it. Raises Unavailable when this node is behind for too long, or the
        other member does not answer either.
        """
        engine = self._engine
        if query.node and query.node != engine.identity.node:
            neighbour = engine.neighbours.get(query.node)
            if neighbour is None:
                raise NotFound(f"node {query.node[:64]!r} is no peer of this node")
            return await neighbour.client.kept(msgspec.structs.replace(query, node=""), timeout_s=_PASSED_ON_S)
        end_s = engine.clock.monotonic_s() + _CATCH_UP_S
        while not covers(vector := await in_thread(engine.executor, engine.store.vector), query.vector):
            if engine.clock.monotonic_s() > end_s:
                raise Unavailable("this node is behind, and cannot say yet which blobs it needs")
            await asyncio.sleep(_CATCH_UP_STEP_S)

        def read() -> list[str]:
            quiet_ms = engine.clock.unix_ms() - int(query.quiet_s * 1000) if query.quiet_s else None
            with engine.store.read() as connection:
                return sorted(garbage.needed_among(connection, query.digests, quiet_ms, set(query.unlinked)))

        return KeptAnswer(kept=await in_thread(engine.executor, read), vector=vector)

    async def bucket(self, kind: str, bucket: int) -> dict[str, int]:
        """Return the keys of one bucket of this node's state, each with the hash of its record."""
        return await in_thread(self._engine.executor, self._engine.store.bucket, kind, bucket)
