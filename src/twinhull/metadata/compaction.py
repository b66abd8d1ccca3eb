"""Dropping what nobody needs any more: deletions that can't be undone, and changes that every member has applied.

In this order, each step in transactions of its own: `tell` what this node has applied, once other changes came in since;
find with `stable` up to where all members have told the same; `say_dropped` that, before `drop_dead` drops deletions up to
there, and `trim_log` the changes. Why that is safe is told in records/compaction.py.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import Connection, delete, select, text, update

from twinhull.metadata.readers import least_cursor
from twinhull.metadata.statement import Statement
from twinhull.metadata.summaries import is_whole
from twinhull.metadata.tables.accounts import nodes, projects
from twinhull.metadata.tables.content import manifests, repositories
from twinhull.metadata.tables.documents import progress
from twinhull.metadata.tables.log import changes, manifest_contents
from twinhull.metadata.tables.own import origins
from twinhull.metadata.transaction import MERGED, Transaction
from twinhull.records.change import VersionVector, joined
from twinhull.records.compaction import is_droppable, stable_vector
from twinhull.records.kinds import KINDS, MANIFEST, PROGRESS, PROJECT, REPOSITORY, split_content_key
from twinhull.records.merge import decode

# The newest changes stay whoever has them: the caches of this node's processes may not have seen them, and a node that is
# restored from a backup of yesterday comes back by them.
LOG_KEPT: Final = 50_000

_DEAD_PAGE: Final = text(
    "SELECT kind, key, record, summary FROM records WHERE dead AND (kind, key) > (:kind, :key) ORDER BY kind, key LIMIT :limit"
)
_NEWS: Final = text("SELECT 1 FROM changes WHERE position > :position AND kind <> :told LIMIT 1").bindparams(told=PROGRESS.name)
_BETWEEN: Final = text(
    "SELECT 1 FROM changes WHERE origin = :origin AND seq > :low AND seq <= :high AND kind <> :told LIMIT 1"
).bindparams(told=PROGRESS.name)
_DROP: Final = Statement("DELETE FROM records WHERE kind = :kind AND key = :key AND dead")


class Dropped(NamedTuple):
    """What one step has dropped, and after which record the next begins; None: all were looked at."""

    records: int
    after: tuple[str, str] | None


def has_news(connection: Connection, position: int) -> bool:
    """Tell whether the log has anything after a position but what nodes have told."""
    return connection.execute(_NEWS, {"position": position}).first() is not None


def tell(transaction: Transaction) -> None:
    """Say in the log what this node has applied."""
    _say(transaction, dropped_by(transaction.connection, transaction.node))


def stable(connection: Connection, node: str) -> VersionVector:
    """Return up to where every member had applied everything when it last told; empty while one has not told this node."""
    members = [str(row[0]) for row in connection.execute(select(nodes.c.id))]
    told: dict[str, VersionVector] = {}
    for row in connection.execute(select(progress.c.node, progress.c.origin, progress.c.applied)):
        told.setdefault(row.node, {})[row.origin] = row.applied
    applied = {row.origin: row.seq for row in connection.execute(select(origins.c.origin, origins.c.seq))}
    return stable_vector(members, told, applied) if node in members else {}


def say_dropped(transaction: Transaction, upto: VersionVector) -> None:
    """Say in the log that deletions up to this vector may be missing here. Must be committed before any is dropped."""
    connection = transaction.connection
    before = dropped_by(connection, transaction.node)
    # What nodes have told is no reason to tell more: a quiet cluster would never be quiet.
    between = ({"origin": origin, "low": before.get(origin, 0), "high": seq} for origin, seq in upto.items())
    if any(connection.execute(_BETWEEN, one).first() is not None for one in between):
        _say(transaction, joined(before, upto))


def dropped_by(connection: Connection, node: str) -> VersionVector:
    """Return up to where a node has said that deletions may be missing there."""
    query = select(progress.c.origin, progress.c.dropped).where(progress.c.node == node, progress.c.dropped > 0)
    return {row.origin: row.dropped for row in connection.execute(query)}


def drop_dead(transaction: Transaction, upto: VersionVector, *, before_ms: int, after: tuple[str, str], limit: int) -> Dropped:
    """Drop those of the next records that are dead, older than that time, and seen by every member.

    Only up to where this node has said so.
    """
    connection = transaction.connection
    said = dropped_by(connection, transaction.node)
    upto = {origin: min(seq, said.get(origin, 0)) for origin, seq in upto.items()}
    page = connection.execute(_DEAD_PAGE, {"kind": after[0], "key": after[1], "limit": limit}).all()
    count = 0
    for kind, key, encoded, summary in page:
        rules = KINDS.get(kind)
        # What a damaged one covers is not known before it is mended.
        if rules is None or not is_whole(key, encoded, summary):
            continue
        if not is_droppable(rules, decode(encoded), upto, before_ms) or _shows(connection, kind, key):
            continue
        _DROP.run(connection, {"kind": kind, "key": key})
        if kind == MANIFEST.name:
            _forget_content(connection, split_content_key(key)[1])
        count += 1
    return Dropped(count, (page[-1].kind, page[-1].key) if len(page) == limit else None)


def trim_log(transaction: Transaction, upto: VersionVector, *, keep: int = LOG_KEPT, limit: int = 5000) -> int:
    """Take the oldest changes out of the log that every member has applied, and return how many; 0: all are out.

    The newest `keep` of all changes stay, and what a reader of this node's has not seen. What was merged without a place in
    anybody's log goes with them.
    """
    connection = transaction.connection
    # The last one tells where the log is.
    newest = select(changes.c.position).order_by(changes.c.position.desc()).offset(max(1, keep)).limit(1)
    last = connection.execute(newest).scalar()
    if last is None:
        return 0
    seen = least_cursor(connection)
    last = last if seen is None else min(last, seen)
    oldest = select(changes.c.position, changes.c.origin, changes.c.seq).where(changes.c.position <= last)
    found = connection.execute(oldest.order_by(changes.c.position).limit(limit)).all()
    due = [row for row in found if row.origin == MERGED or row.seq <= upto.get(row.origin, 0)]
    if not due:
        return 0
    floors: dict[str, int] = {}
    for row in due:
        floors[row.origin] = max(row.seq, floors.get(row.origin, 0))
    for origin, floor in floors.items():
        connection.execute(update(origins).where(origins.c.origin == origin, origins.c.floor < floor).values(floor=floor))
    connection.execute(delete(changes).where(changes.c.position.in_([row.position for row in due])))
    return len(due)


def _say(transaction: Transaction, dropped: VersionVector) -> None:
    connection = transaction.connection
    applied = {
        row.origin: row.seq for row in connection.execute(select(origins.c.origin, origins.c.seq)) if row.origin != MERGED
    }
    fields = {"applied": applied, "dropped": dropped}
    if transaction.values(PROGRESS, transaction.node) is None:
        transaction.create(PROGRESS, transaction.node, fields)
    else:
        transaction.put(PROGRESS, transaction.node, fields)


def _shows(connection: Connection, kind: str, key: str) -> bool:
    """Tell whether a dead project or repository lives on through what is stored in it: then its record says what it is like."""
    table = {PROJECT.name: projects, REPOSITORY.name: repositories}.get(kind)
    return table is not None and connection.execute(select(table.c.name).where(table.c.name == key)).first() is not None


def _forget_content(connection: Connection, digest: str) -> None:
    """Forget a manifest's bytes, unless another repository has it."""
    if connection.execute(select(manifests.c.id).where(manifests.c.digest == digest).limit(1)).first() is None:
        connection.execute(delete(manifest_contents).where(manifest_contents.c.digest == digest))
