"""A node's own records, manifests and query tables, looked through for what was changed behind its back. Reads only."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, RowMapping, Table, create_engine, event, insert, select, text

from twinhull.metadata import schema
from twinhull.metadata.names import Name
from twinhull.metadata.projections.owners import record_of_row
from twinhull.metadata.projections.project import rebuild_projections
from twinhull.metadata.summaries import bucket_of, is_content, is_whole, is_whole_change
from twinhull.metadata.tables.columns import DERIVED
from twinhull.metadata.tables.log import records
from twinhull.metadata.tables.usage import project_usage
from twinhull.records.kinds import KINDS, MANIFEST, PROJECT, content_key
from twinhull.records.merge import decode, is_dead

_PAGE: Final = 1000
# Manifests may have 4 MiB each.
_CONTENTS_PAGE: Final = 100
_ROWS_AT_ONCE: Final = 1000

_RECORDS: Final = text(
    "SELECT kind, key, record, bucket, summary FROM records WHERE (kind, key) > (:kind, :key) ORDER BY kind, key LIMIT :limit"
)
# Those that peers may be sent. What is under the floor of its origin is never read again but for mending.
_CHANGES: Final = text(
    "SELECT changes.position, changes.origin, changes.seq, changes.kind, changes.key, changes.record, changes.summary"
    " FROM changes JOIN origins ON origins.origin = changes.origin"
    " WHERE changes.origin <> '' AND changes.seq > origins.floor AND changes.position > :position"
    " ORDER BY changes.position LIMIT :limit"
)
_GAPS: Final = text(
    "SELECT origin, seq FROM origins WHERE origin <> '' AND seq - floor <>"
    " (SELECT count(*) FROM changes WHERE changes.origin = origins.origin AND changes.seq > origins.floor)"
)
# As they lie there, also where they are not what the columns are made for.
_ALL_RECORDS: Final = text("SELECT kind, key, record, dead, bucket, summary FROM records ORDER BY kind, key")
_CONTENTS: Final = text(
    "SELECT manifests.repository, manifests.digest, manifest_contents.content FROM manifests"
    " LEFT JOIN manifest_contents ON manifest_contents.digest = manifests.digest"
    " WHERE (manifests.repository, manifests.digest) > (:repository, :digest)"
    " ORDER BY manifests.repository, manifests.digest LIMIT :limit"
)


class Looked(NamedTuple):
    """What one step of a look through everything has found."""

    faulty: list[Name]
    # Where the next step goes on; None: this was the last.
    after: Name | None


def damaged_records(connection: Connection, after: Name) -> Looked:
    """Return those of the next thousand records whose bytes are not those that were stored."""
    rows = connection.execute(_RECORDS, {"kind": after[0], "key": after[1], "limit": _PAGE}).all()
    faulty = [
        (row.kind, row.key)
        for row in rows
        if not is_whole(row.key, row.record, row.summary) or row.bucket != bucket_of(row.key)
    ]
    return Looked(faulty, (rows[-1].kind, rows[-1].key) if len(rows) == _PAGE else None)


def damaged_changes(connection: Connection, after: Name) -> Looked:
    """Return origin and seq, as a name, of those of the next thousand changes in the log that are not what was written.

    The last step names, of an origin whose changes are not all there, the last one too.
    """
    rows = connection.execute(_CHANGES, {"position": int(after[0] or 0), "limit": _PAGE}).all()
    faulty = [(str(row.origin), str(row.seq)) for row in rows if not is_whole_change(row)]
    if len(rows) == _PAGE:
        return Looked(faulty, (str(rows[-1].position), ""))
    return Looked([*faulty, *((row.origin, str(row.seq)) for row in connection.execute(_GAPS))], None)


def wrong_contents(connection: Connection, after: Name) -> Looked:
    """Return those of the next hundred manifests whose bytes are not here, or not those of their digest."""
    repository, digest = after
    rows = connection.execute(_CONTENTS, {"repository": repository, "digest": digest, "limit": _CONTENTS_PAGE}).all()
    faulty = [
        (MANIFEST.name, content_key(row.repository, row.digest)) for row in rows if not is_content(row.digest, row.content)
    ]
    return Looked(faulty, (rows[-1].repository, rows[-1].digest) if len(rows) == _CONTENTS_PAGE else None)


def differing_rows(connection: Connection, scratch: Path, breathe: Callable[[], None]) -> list[Name]:
    """Return the records of which the query tables do not tell what their projections would make of them now.

    All of them are made anew beside the real ones, in a scratch file, and compared row by row. `breathe` is called every
    thousand records, so that others get the processor too. Damaged records are left out.
    """
    scratch.unlink(missing_ok=True)
    engine = create_engine(f"sqlite:///{scratch}")
    event.listen(engine, "connect", _do_not_sync)
    try:
        with engine.begin() as beside:
            schema.metadata.create_all(beside)
            unreadable = _copy_records(connection, beside, breathe)
            rebuild_projections(beside, breathe)
            found = dict.fromkeys(unreadable.dead_wrong)
            for table in schema.metadata.sorted_tables:
                if table.info == DERIVED:
                    for row in _differences(connection, beside, table):
                        found[record_of_row(table, row)] = None
                    breathe()
            for project in _miscounted(connection, beside):
                found[PROJECT.name, project] = None
        return [name for name in found if name not in unreadable.damaged]
    finally:
        engine.dispose()
        scratch.unlink(missing_ok=True)


class _Copied(NamedTuple):
    damaged: set[Name]
    # Their column `dead` says otherwise than their bytes.
    dead_wrong: list[Name]


def _do_not_sync(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=OFF")
    connection.execute("PRAGMA synchronous=OFF")


def _copy_records(connection: Connection, beside: Connection, breathe: Callable[[], None]) -> _Copied:
    copied = _Copied(set(), [])
    rows = connection.execute(_ALL_RECORDS.execution_options(yield_per=_ROWS_AT_ONCE)).mappings()
    for page in rows.partitions(_ROWS_AT_ONCE):
        whole = []
        for row in page:
            name = row["kind"], row["key"]
            dead = _is_dead(row)
            if dead is None:
                copied.damaged.add(name)
                continue
            if dead != bool(row["dead"]):
                copied.dead_wrong.append(name)
            whole.append({**row, "dead": dead})
        if whole:
            beside.execute(insert(records), whole)
        breathe()
    return copied


def _is_dead(row: RowMapping) -> bool | None:
    """Tell what the column `dead` should say; None when the record can't be read."""
    kind = KINDS.get(row["kind"])
    if kind is None or not is_whole(row["key"], row["record"], row["summary"]):
        return None
    try:
        return is_dead(kind, decode(row["record"]))
    except (ValueError, msgspec.DecodeError):
        return None


def _differences(connection: Connection, beside: Connection, table: Table) -> Iterator[Row[Any]]:
    """Yield the rows that only one side has, or has otherwise; both sides come in the order of the table's key."""
    keys = table.primary_key.columns
    query = select(table).order_by(*keys).execution_options(yield_per=_ROWS_AT_ONCE)
    width = [column.name for column in keys]
    real, made = iter(connection.execute(query)), iter(beside.execute(query))
    here, there = next(real, None), next(made, None)
    while here is not None or there is not None:
        ours = _key(here, width)
        theirs = _key(there, width)
        if here is not None and (theirs is None or (ours is not None and ours < theirs)):
            yield here
            here = next(real, None)
        elif there is not None and (ours is None or (theirs is not None and theirs < ours)):
            yield there
            there = next(made, None)
        else:
            if here is not None and there is not None and tuple(here) != tuple(there):
                yield here
            here, there = next(real, None), next(made, None)


def _miscounted(connection: Connection, beside: Connection) -> list[str]:
    """Return the projects of which what is stored was counted otherwise; nothing stored may have a row, or none."""
    ours, theirs = (
        {project: size for project, size in one.execute(select(project_usage)) if size} for one in (connection, beside)
    )
    return sorted(project for project in {*ours, *theirs} if ours.get(project) != theirs.get(project))


def _key(row: Row[Any] | None, names: list[str]) -> tuple[Any, ...] | None:
    return None if row is None else tuple(getattr(row, name) for name in names)
