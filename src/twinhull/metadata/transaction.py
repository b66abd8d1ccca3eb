"""The one function through which replicated state changes: row, log entry and projections in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection

from twinhull.kit.clock import Clock
from twinhull.kit.errors import ClockAhead, Conflict, Damaged, NotFound, ProtocolError
from twinhull.kit.hlc import Stamp, is_too_far_ahead, next_stamp
from twinhull.metadata.conflicts import keep_conflict
from twinhull.metadata.projections.project import project_record, unproject_record
from twinhull.metadata.statement import Statement
from twinhull.metadata.summaries import bucket_of, from_log, is_content, is_whole, sum_of_change, summary_of
from twinhull.metadata.tables.columns import upsert
from twinhull.metadata.tables.log import records
from twinhull.metadata.tables.own import hybrid_clock, id_counters, origins
from twinhull.records.change import Change, VersionVector
from twinhull.records.compaction import forgotten_as
from twinhull.records.kinds import KINDS, MANIFEST, TAG, new_ids, split_content_key
from twinhull.records.merge import (
    Kind,
    Record,
    Value,
    Version,
    Write,
    conflicts_of,
    created,
    decode,
    deleted,
    encode,
    is_dead,
    merge,
    values_of,
    written,
)

log = structlog.get_logger(__name__)

# Records that came without a log entry of their own (snapshots, repairs) are logged under no origin: this node's readers
# of the log see them, peers are never sent them.
MERGED: Final = ""
# Each node counts its ids in blocks of this size whose number modulo the number of slots is its slot.
ID_BLOCK: Final = 1000
SLOTS: Final = 32

_GET_RECORD: Final = Statement("SELECT record, summary FROM records WHERE kind = :kind AND key = :key")
_DROP_RECORD: Final = Statement("DELETE FROM records WHERE kind = :kind AND key = :key")
_GET_OWN: Final = Statement(
    "SELECT own.origin, own.first_block, (SELECT seq FROM origins WHERE origins.origin = own.origin), clock.ms, clock.counter"
    " FROM (SELECT 1) AS one LEFT JOIN incarnations AS own ON own.node = :node"
    " LEFT JOIN hybrid_clock AS clock ON clock.node = :node"
)
_GET_ORIGIN: Final = Statement("SELECT seq FROM origins WHERE origin = :origin")
_SET_SEQ: Final = Statement(
    "INSERT INTO origins (origin, seq, floor) VALUES (:origin, :seq, 0) ON CONFLICT (origin) DO UPDATE SET seq = excluded.seq"
)
_APPEND: Final = Statement(
    "INSERT INTO changes (origin, seq, kind, key, record, summary)"
    " VALUES (:origin, :seq, :kind, :key, :record, :summary) RETURNING position"
)
_PUT_CONTENT: Final = Statement(
    "INSERT INTO manifest_contents (digest, content) VALUES (:digest, :content)"
    # They differ only when they were changed behind the node's back.
    " ON CONFLICT (digest) DO UPDATE SET content = excluded.content WHERE manifest_contents.content <> excluded.content"
)
_DROPPED: Final = Statement("SELECT origin, max(dropped) FROM progress WHERE dropped > 0 GROUP BY origin")
_GET_ID: Final = Statement("SELECT last_id FROM id_counters WHERE kind = :kind")


class Transaction:
    """What may be done inside one writing transaction. Made by Store.write; not kept beyond it."""

    def __init__(self, connection: Connection, *, node: str, slot: int, clock: Clock) -> None:
        """Start with the node's clock and sequence number as the database has them."""
        self.connection = connection
        self.node = node
        # This node's own change number after the last write in this transaction; 0 while nothing was written.
        self.seq = 0
        # The log's position after the last write; 0 while nothing was written.
        self.position = 0
        # Under which name this node writes: its id, or after a restore another; see begin_incarnation.
        self._origin = node
        self._first_block = 0
        self._slot = slot
        self._clock = clock
        self._last_stamp: Stamp | None = None
        self._clock_moved = False
        self._vector: VersionVector = {}
        # The origins of which something was applied here.
        self._advanced: set[str] = set()
        # What was read or written so far; nobody else writes meanwhile.
        self._records: dict[tuple[str, str], Record | None] = {}

    # -- local reads and writes ------------------------------------------------------------------------------------

    def get(self, kind: Kind, key: str) -> Record | None:
        """Return the record, dead or alive, or None.

        Raises Damaged when it was changed behind the node's back and the log does not hold all of it any more.
        """
        named = kind.name, key
        if named not in self._records:
            self._records[named] = _read(self.connection, kind, key)
        return self._records[named]

    def values(self, kind: Kind, key: str) -> dict[str, Value] | None:
        """Return the fields of the thing, or None if it does not live."""
        record = self.get(kind, key)
        return None if record is None or is_dead(kind, record) else values_of(kind, record)

    def now_ms(self) -> int:
        """Return the time by the node's clock, for fields such as created_ms."""
        return self._clock.unix_ms()

    def create(self, kind: Kind, key: str, fields: Mapping[str, Value], *, number: int | None = None) -> None:
        """Make a thing with just these fields; `number` becomes its integer id. Raises Conflict if it lives already."""
        before = self.get(kind, key)
        if before is not None and not is_dead(kind, before):
            message = f"{kind.name} {key!r} already exists"
            raise Conflict(message)
        stamp = self._next_stamp()
        complete = fields if number is None else {**fields, "ids": new_ids(number, stamp)}
        known = before if before is not None else forgotten_as(dict(_DROPPED.all(self.connection, {})))
        self._write(kind, key, created(known, stamp, self._next_seq(), complete), before)

    def put(self, kind: Kind, key: str, changed: Mapping[str, Value], *, said: Stamp | None = None) -> None:
        """Change some fields (none: renew it, so that it outlives a concurrent delete). Raises NotFound if it does not live.

        What only says in another form what was `said` then is as old as that was: a newer value from elsewhere still wins.
        """
        before = self.get(kind, key)
        if before is None or is_dead(kind, before):
            message = f"{kind.name} {key!r} not found"
            raise NotFound(message)
        stamp = self._next_stamp() if said is None else Stamp(said.ms, said.counter, self._origin)
        self._write(kind, key, written(kind, before, stamp, self._next_seq(), changed), before)

    def delete(self, kind: Kind, key: str) -> bool:
        """Mark the thing deleted; return False if it did not live."""
        before = self.get(kind, key)
        if before is None or is_dead(kind, before):
            return False
        self._write(kind, key, deleted(kind, before, self._next_stamp(), self._next_seq()), before)
        return True

    def put_content(self, digest: str, content: bytes) -> None:
        """Keep a manifest's exact bytes; the caller has hashed them."""
        _PUT_CONTENT.run(self.connection, {"digest": digest, "content": content})

    def next_id(self, kind: Kind) -> int:
        """Return an integer id that no node has given to this kind: blocks of 1,000, one block in 32 is ours."""
        last = _GET_ID.first(self.connection, {"kind": kind.name})
        self._clock_now()
        following = _first_of_block(self._first_block + self._slot) if last is None else last[0] + 1
        block = (following - 1) // ID_BLOCK
        if block % SLOTS != self._slot:
            following = _first_of_block(block - block % SLOTS + self._slot + (SLOTS if block % SLOTS > self._slot else 0))
        upsert(id_counters).run(self.connection, {"kind": kind.name, "last_id": following})
        return following

    # -- what comes from peers -------------------------------------------------------------------------------------

    def apply(self, change: Change) -> bool:
        """Merge a peer's change and append it to the log under its own origin and seq; False if it was here already.

        Raises ProtocolError for a gap, an unknown kind or what can't be true, ClockAhead for a stamp from the far future. On an
        exception nothing of this change was done.
        """
        have = self.applied(change.origin)
        if change.seq <= have:
            return False
        if change.seq != have + 1:
            message = f"change {change.seq} of node {change.origin} arrived, but {have + 1} was due"
            raise ProtocolError(message)
        self._merge(change)
        self._append(change.origin, change.seq, change.kind, change.key, change.record)
        return True

    def merge_record(self, change: Change) -> bool:
        """Merge a peer's record that is no step of its log (snapshots, repairs, answers); tell whether anything changed."""
        if not self._merge(change):
            return False
        self._append(MERGED, self.applied(MERGED) + 1, change.kind, change.key, change.record)
        return True

    def _merge(self, change: Change) -> bool:
        kind = KINDS.get(change.kind)
        if kind is None:
            message = f"records of kind {change.kind[:32]!r} are unknown to this release"
            raise ProtocolError(message, hint="upgrade this node")
        try:
            theirs = decode(change.record)
        except (ValueError, msgspec.DecodeError) as error:
            message = f"record of {change.kind} {change.key[:200]!r} cannot be read"
            raise ProtocolError(message) from error
        self._observe(theirs)
        if theirs.context.get(self._origin, 0) > self.applied(self._origin) and change.origin != self._origin:
            # Whatever this node writes next would be taken for seen already, and be lost.
            message = f"{change.kind} {change.key[:200]!r} is said to have seen changes that this node has not made yet"
            raise ProtocolError(message)
        if kind is MANIFEST and change.content is not None:
            self.put_content(_checked_digest(change.key, change.content), change.content)
        is_damaged = False
        try:
            ours = self.get(kind, change.key)
        except Damaged:
            # What is left of it is better than to take nothing any more; comparing with the peers finds what it lacks.
            ours, is_damaged = _read(self.connection, kind, change.key, is_partial_enough=True), True
        merged = theirs if ours is None else merge(ours, theirs)
        if merged == ours and not is_damaged:
            return False
        self._store(kind, change.key, merged, ours)
        return True

    def replace(self, kind: Kind, key: str, record: Record) -> None:
        """Put the record in the place of a damaged one, and make the rows anew that tell of it."""
        encoded = self._store(kind, key, record, None)
        unproject_record(self.connection, kind.name, key)
        project_record(self.connection, kind.name, key, None if is_dead(kind, record) else values_of(kind, record))
        self._append(MERGED, self.applied(MERGED) + 1, kind.name, key, encoded)

    def forget(self, kind: Kind, key: str) -> None:
        """Remove a record if there is one, and the rows that tell of it; this node's readers of the log see a deletion."""
        _DROP_RECORD.run(self.connection, {"kind": kind.name, "key": key})
        self._records[kind.name, key] = None
        unproject_record(self.connection, kind.name, key)
        never = Version(Write(Stamp(0, 0, MERGED), 0, {}), deleted=True, fields={})
        self._append(MERGED, self.applied(MERGED) + 1, kind.name, key, encode(Record((never,), {})))

    def applied(self, origin: str) -> int:
        """Return the highest change of that origin that is applied here."""
        if origin not in self._vector:
            row = _GET_ORIGIN.first(self.connection, {"origin": origin})
            self._vector[origin] = row[0] if row is not None else 0
        return self._vector[origin]

    def reached(self, vector: VersionVector) -> None:
        """Record that a snapshot brought everything up to this version vector."""
        for origin, seq in vector.items():
            if seq > self.applied(origin):
                self._vector[origin] = seq
                self._advanced.discard(origin)
                upsert(origins).run(self.connection, {"origin": origin, "seq": seq, "floor": seq})

    # -- inside ----------------------------------------------------------------------------------------------------

    def _write(self, kind: Kind, key: str, after: Record, before: Record | None) -> None:
        encoded = self._store(kind, key, after, before)
        # Counted only now: a write that failed half-way must not leave a gap, whoever catches its exception.
        seq = self._next_seq()
        self._append(self._origin, seq, kind.name, key, encoded)
        self.seq = seq

    def _store(self, kind: Kind, key: str, record: Record, before: Record | None) -> bytes:
        encoded = encode(record)
        dead = is_dead(kind, record)
        row = {
            "kind": kind.name,
            "key": key,
            "record": encoded,
            "dead": dead,
            "bucket": bucket_of(key),
            "summary": summary_of(key, encoded),
        }
        upsert(records).run(self.connection, row)
        if len(record.versions) > 1:
            _note_conflicts(self.connection, kind, key, record, self._clock.unix_ms())
        ids_before = None if before is None or is_dead(kind, before) else values_of(kind, before).get("ids")
        project_record(self.connection, kind.name, key, None if dead else values_of(kind, record), ids_before=ids_before)
        self._records[kind.name, key] = record
        return encoded

    def _append(self, origin: str, seq: int, kind: str, key: str, encoded: bytes) -> None:
        summary = sum_of_change(origin, seq, kind, key, encoded)
        row = {"origin": origin, "seq": seq, "kind": kind, "key": key, "record": encoded, "summary": summary}
        appended = _APPEND.first(self.connection, row)
        assert appended is not None
        self.position = appended[0]
        self._vector[origin] = seq
        self._advanced.add(origin)

    def _next_seq(self) -> int:
        self._clock_now()
        return self.applied(self._origin) + 1

    def _clock_now(self) -> Stamp:
        if self._last_stamp is None:
            row = _GET_OWN.first(self.connection, {"node": self.node})
            assert row is not None
            origin, first_block, seq, ms, counter = row
            if origin is not None:
                self._origin, self._first_block = origin, first_block
            self._last_stamp = Stamp(ms or 0, counter or 0, self._origin)
            if seq is not None:
                self._vector.setdefault(self._origin, seq)
        return self._last_stamp

    def _next_stamp(self) -> Stamp:
        self._last_stamp = next_stamp(self._clock_now(), self._clock.unix_ms(), self._origin)
        self._clock_moved = True
        return self._last_stamp

    def _observe(self, record: Record) -> None:
        """Let the clock follow what was seen, unless it comes from a clock that must be broken."""
        latest = max(write.stamp for version in record.versions for write in _writes(version))
        if is_too_far_ahead(latest, self._clock.unix_ms()):
            message = f"node {latest.origin}'s clock is more than 5 minutes ahead; its changes are held back"
            raise ClockAhead(message, hint="set the clocks right (NTP)")
        if latest[:2] > self._clock_now()[:2]:
            self._last_stamp = Stamp(latest.ms, latest.counter, self._origin)
            self._clock_moved = True

    def finish(self) -> None:
        """Persist the sequence numbers and the clock; called once by Store.write before the commit."""
        for origin in self._advanced:
            _SET_SEQ.run(self.connection, {"origin": origin, "seq": self._vector[origin]})
        if self._clock_moved and self._last_stamp is not None:
            row = {"node": self.node, "ms": self._last_stamp.ms, "counter": self._last_stamp.counter}
            upsert(hybrid_clock).run(self.connection, row)


def _writes(version: Version) -> Iterator[Write]:
    yield version.write
    for field in version.fields.values():
        yield field.write


def _read(connection: Connection, kind: Kind, key: str, *, is_partial_enough: bool = False) -> Record | None:
    row = _GET_RECORD.first(connection, {"kind": kind.name, "key": key})
    if row is None:
        return None
    if is_whole(key, row[0], row[1]):
        return decode(row[0])
    found = from_log(connection, kind.name, key)
    if is_partial_enough or (found is not None and is_whole(key, encode(found), row[1])):
        return found
    raise Damaged(f"the record of {kind.name} {key[:200]!r} is damaged on this node")


def _note_conflicts(connection: Connection, kind: Kind, key: str, record: Record, now_ms: int) -> None:
    for conflict in conflicts_of(kind, record):
        if keep_conflict(connection, kind, key, conflict, now_ms) and kind is TAG:
            log.warning("tag conflict", tag=key, holds=conflict.winner)


def _checked_digest(key: str, content: bytes) -> str:
    _, digest = split_content_key(key)
    if not is_content(digest, content):
        message = f"the bytes sent for manifest {key[:300]!r} do not match its digest"
        raise ProtocolError(message)
    return digest


def _first_of_block(block: int) -> int:
    return block * ID_BLOCK + 1
