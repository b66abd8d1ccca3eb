"""The metadata of one node: records, the change log and the query tables, behind two context managers."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, text

from twinhull.kit.clock import Clock
from twinhull.kit.fail_points import fail_point
from twinhull.metadata.database import Database
from twinhull.metadata.incarnation import begin_incarnation, current_origin, is_copy, move
from twinhull.metadata.summaries import is_content, is_whole, is_whole_change
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import Change, VersionVector
from twinhull.records.kinds import MANIFEST, split_content_key

_POSITION = text("SELECT max(position) FROM changes")
_CHANGED_SINCE = text("SELECT position, kind, key FROM changes WHERE position > :position ORDER BY position LIMIT :limit")
_CHANGES_SINCE = text(
    "SELECT position, origin, seq, kind, key, record FROM changes WHERE position > :position ORDER BY position LIMIT :limit"
)
_CHANGES_OF = text(
    "SELECT position, origin, seq, kind, key, record, summary FROM changes"
    " WHERE origin = :origin AND seq > :seq ORDER BY seq LIMIT :limit"
)
_CUT = text("UPDATE origins SET floor = :seq WHERE origin = :origin AND floor < :seq")
_VECTOR = text("SELECT origin, seq FROM origins WHERE origin <> ''")
_FLOORS = text("SELECT origin, floor FROM origins WHERE origin <> ''")
_CONTENT = text("SELECT content FROM manifest_contents WHERE digest = :digest")
# What is dead is left out: each node drops it in its own time, and what one has deleted and another has not shows anyway.
# Both along records_by_bucket and in its order: SQLite sorts in memory otherwise, and that is as much as there are records.
_SUMMARY = text("SELECT kind, bucket, sum(summary), count(*) FROM records WHERE NOT dead GROUP BY kind, dead, bucket")
_RECORDS_PAGE = text(
    "SELECT kind, key, record, summary FROM records WHERE (kind, key) > (:kind, :key) ORDER BY kind, key LIMIT :limit"
)
_RECORDS_OF_BUCKET = text("SELECT key, summary FROM records WHERE kind = :kind AND dead = :dead AND bucket = :bucket")
_RECORD = text("SELECT record, summary FROM records WHERE kind = :kind AND key = :key")

_UNPREDICTABLE: Final = secrets.SystemRandom()


class RecordsPage(NamedTuple):
    """Some of all records, as changes without origin and seq."""

    records: list[Change]
    # Kind and key of those that are damaged, between these and behind them; they are somewhere else, or will be mended.
    damaged: list[tuple[str, str]]


class Store:
    """Everything this node knows but the blobs' bytes. Synchronous; async callers use a thread."""

    def __init__(
        self, database: Database, *, node: str, slot: int, clock: Clock, chance: random.Random = _UNPREDICTABLE
    ) -> None:
        """Take the database, who writes into it (the node's id and slot), and where names are drawn that nobody has had."""
        self._database = database
        self._node = node
        self._slot = slot
        self._clock = clock
        self._chance = chance
        self._origin = ""

    @property
    def node(self) -> str:
        """This node's id."""
        return self._node

    @property
    def clock(self) -> Clock:
        """The clock by which this node stamps its writes."""
        return self._clock

    @property
    def origin(self) -> str:
        """The origin under which this node writes; read once, and kept right by whoever begins another in this process."""
        if not self._origin:
            with self._database.read() as connection:
                self._origin = current_origin(connection, self._node)
        return self._origin

    def is_copy(self) -> bool:
        """Tell whether the database may be an old copy: it was opened last at another place, or its log was longer.

        To be asked before `refresh_position`: until then the published position is that of the database's last life.
        """
        with self._database.read() as connection:
            is_elsewhere = is_copy(connection, self._node, self._database.place())
        return is_elsewhere or (self._database.position() or 0) > self.position()

    def settle(self) -> None:
        """Note where the database is now, so that a copy of it can be told from it."""
        with self._database.write() as connection:
            move(connection, self._node, self._database.place())

    def begin_incarnation(self, *, instead_of: str = "", place: str | None = None) -> str:
        """Write under a new origin from now on, in all processes of the node, and return it: the log went back in time.

        With an origin, only if that is still the one: whoever found out first has begun the new life already.
        """
        with self._database.write() as connection:
            current = current_origin(connection, self._node)
            if instead_of in ("", current):
                lies_at = self._database.place() if place is None else place
                current = begin_incarnation(connection, self._node, lies_at, self._chance)
        self._origin = current
        return current

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one consistent state; for the query functions of this folder."""
        with self._database.read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Give a transaction; leaving the block commits durably, an exception undoes all of it.

        Afterwards the transaction's `seq` is this node's change number to wait for, or 0 if nothing was written.
        """
        with self._database.write() as connection:
            transaction = Transaction(connection, node=self._node, slot=self._slot, clock=self._clock)
            yield transaction
            transaction.finish()
            if transaction.seq:
                fail_point("write-before-commit")
            if transaction.position:
                self._database.publish(transaction.position)
        if transaction.seq:
            fail_point("write-committed")

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    # -- the log ---------------------------------------------------------------------------------------------------

    def position_hint(self) -> int | None:
        """Return the log's position if that costs no I/O, else None."""
        return self._database.position()

    def position(self) -> int:
        """Return the position of the last change in the log; 0 when there is none."""
        with self._database.read() as connection:
            return int(connection.execute(_POSITION).scalar() or 0)

    def refresh_position(self) -> int:
        """Publish the position again and return it: a process that died between commit and publishing left it behind."""
        with self._database.write() as connection:
            position = int(connection.execute(_POSITION).scalar() or 0)
            self._database.publish(position)
        return position

    def changed_since(self, position: int, limit: int) -> list[tuple[int, str, str]]:
        """Return (position, kind, key) of the changes after a position, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(_CHANGED_SINCE, {"position": position, "limit": limit})
            return [(row[0], row[1], row[2]) for row in rows]

    def changes_since(self, position: int, limit: int) -> list[tuple[int, Change]]:
        """Return the changes after a position with their positions, oldest first, whole."""
        with self._database.read() as connection:
            rows = connection.execute(_CHANGES_SINCE, {"position": position, "limit": limit}).all()
            return [_change(connection, row) for row in rows]

    def changes_of(self, origin: str, seq: int, limit: int) -> list[tuple[int, Change]]:
        """Return an origin's changes after a seq with their positions, whole.

        They end before one that was damaged, or taken out, behind the node's back: that one must not be passed on.
        """
        found: list[tuple[int, Change]] = []
        with self._database.read() as connection:
            for row in connection.execute(_CHANGES_OF, {"origin": origin, "seq": seq, "limit": limit}).all():
                if row.seq != seq + len(found) + 1 or not is_whole_change(row):
                    break
                found.append(_change(connection, row))
        return found

    def cut_log(self, origin: str, seq: int) -> None:
        """Serve an origin's changes up to this one no more one by one: whoever lacks it is sent all records instead."""
        with self._database.write() as connection:
            connection.execute(_CUT, {"origin": origin, "seq": seq})

    def vector(self) -> VersionVector:
        """Return, per origin, the highest change applied here."""
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(_VECTOR)}

    def floors(self) -> VersionVector:
        """Return, per origin, up to which change this node can no longer serve single changes."""
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(_FLOORS)}

    # -- whole state: snapshots and summaries ----------------------------------------------------------------------

    def records_after(self, kind: str, key: str, limit: int) -> RecordsPage:
        """Return records in the order of (kind, key) after one of them; no records: that was the last whole one."""
        page = RecordsPage([], [])
        with self._database.read() as connection:
            while rows := connection.execute(_RECORDS_PAGE, {"kind": kind, "key": key, "limit": limit}).all():
                for row in rows:
                    if is_whole(row.key, row.record, row.summary):
                        page.records.append(_snapshot(connection, row.kind, row.key, row.record))
                    else:
                        page.damaged.append((row.kind, row.key))
                kind, key = rows[-1].kind, rows[-1].key
                if page.records:
                    break
        return page

    def record(self, kind: str, key: str) -> Change | None:
        """Return one record as a change without origin and seq, or None when it is not here whole."""
        with self._database.read() as connection:
            row = connection.execute(_RECORD, {"kind": kind, "key": key}).first()
            if row is None or not is_whole(key, row.record, row.summary):
                return None
            return _snapshot(connection, kind, key, row.record)

    def state_root(self) -> tuple[VersionVector, dict[str, dict[int, tuple[int, int]]]]:
        """Return the version vector and, for just that state, per kind and bucket a hash and the number of records.

        The hash does not depend on any order: nodes that have exchanged all changes have equal ones.
        """
        root: dict[str, dict[int, tuple[int, int]]] = {}
        with self._database.read() as connection:
            vector = {row[0]: row[1] for row in connection.execute(_VECTOR)}
            for kind, bucket, total, count in connection.execute(_SUMMARY):
                root.setdefault(kind, {})[bucket] = (int(total), int(count))
        return vector, root

    def bucket(self, kind: str, bucket: int) -> dict[str, int]:
        """Return the keys of one bucket with the hash of each record."""
        with self._database.read() as connection:
            rows = connection.execute(_RECORDS_OF_BUCKET, {"kind": kind, "dead": False, "bucket": bucket})
            return {row[0]: int(row[1]) for row in rows}


def _snapshot(connection: Connection, kind: str, key: str, record: bytes) -> Change:
    return Change(origin="", seq=0, kind=kind, key=key, record=record, content=content_of(connection, kind, key))


def _change(connection: Connection, row: Row[Any]) -> tuple[int, Change]:
    content = content_of(connection, row.kind, row.key)
    change = Change(origin=row.origin, seq=row.seq, kind=row.kind, key=row.key, record=row.record, content=content)
    return row.position, change


def content_of(connection: Connection, kind: str, key: str) -> bytes | None:
    """Return the bytes that travel with a record: a manifest's content, if it is right; None for every other kind."""
    if kind != MANIFEST.name:
        return None
    _, digest = split_content_key(key)
    content = connection.execute(_CONTENT, {"digest": digest}).scalar()
    return content if is_content(digest, content) else None
