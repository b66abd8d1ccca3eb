"""The collections of garbage on this node: asked for by anybody, done by the agent's worker, remembered for a while.

Whoever wants one writes a row, and may ask it to stop by another write; the worker finds both. So any process of the node
can do that, and nothing is forgotten over a restart.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, func, select, update

from twinhull.kit.clock import rfc3339
from twinhull.kit.errors import Conflict, NotFound
from twinhull.metadata.tables.garbage import collections

_KEPT: Final = 200


class Status(StrEnum):
    """How far a collection has come."""

    PENDING = "pending"
    RUNNING = "running"
    # It was asked to stop, and has not done so yet.
    STOPPING = "stopping"
    STOPPED = "stopped"
    DONE = "done"
    # It ended before its end, with an error.
    FAILED = "failed"


_OPEN: Final = (Status.PENDING, Status.RUNNING, Status.STOPPING)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection shall do."""

    # Only count what would go.
    dry_run: bool = False
    # What was pushed, mounted, asked for or unnamed within so many seconds stays; None: as the node is set.
    grace_s: float | None = None
    # Delete manifests that no tag, index or subject holds.
    delete_untagged: bool = False
    # Look at every file on the disk for blobs that no record knows of.
    walk: bool = False
    # Who asked: "manual" or "schedule".
    trigger: str = "manual"


class Outcome(msgspec.Struct, kw_only=True):
    """What a collection did, or would do, so far."""

    manifests: int = 0
    # Blobs that their repositories do not show any more.
    links: int = 0
    # Blobs whose bytes went, and how many bytes they were.
    blobs: int = 0
    freed_bytes: int = 0
    # Blobs without a record that the walk over the disk found.
    strays: int = 0
    # Blobs that stay since another node names them, or a node that might could not be asked.
    kept: int = 0
    # Why some stay although their time has come; empty when nothing of the kind happened.
    note: str = ""


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """One collection. Times are milliseconds since 1970, 0 for not yet."""

    id: int
    status: Status
    order: Order
    outcome: Outcome
    error: str
    asked_ms: int
    started_ms: int
    ended_ms: int

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status not in _OPEN


def report_of(found: Collection) -> str:
    """Return what there is to say of a collection, as lines of a log for people."""
    order, outcome = found.order, found.outcome
    wishes = [
        ("dry run", order.dry_run),
        ("untagged manifests too", order.delete_untagged),
        ("every file looked at", order.walk),
    ]
    grace = "the node's" if order.grace_s is None else f"{order.grace_s:g} s"
    asked = ", ".join([f"trigger: {order.trigger}", f"grace: {grace}", *(wish for wish, is_so in wishes if is_so)])
    lines = [(found.asked_ms, f"collection {found.id} asked for; {asked}")]
    if found.started_ms:
        lines.append((found.started_ms, "began"))
    if found.ended_ms:
        verb = "would remove" if order.dry_run else "removed"
        done = f"{outcome.manifests} manifests, {outcome.links} links, {outcome.blobs} blobs of {outcome.freed_bytes} bytes"
        lines.append((found.ended_ms, f"{verb} {done}; {outcome.strays} without a record found, {outcome.kept} kept"))
        lines.extend([(found.ended_ms, f"some stay: {outcome.note}")] if outcome.note else [])
        lines.append((found.ended_ms, f"ended: {found.status}" + (f", {found.error}" if found.error else "")))
    return "".join(f"{rfc3339(at_ms)} {text}\n" for at_ms, text in lines)


def order_collection(connection: Connection, order: Order, now_ms: int, *, behind: int = 0) -> int:
    """Ask for a collection and return its id; while writing.

    Raises Conflict while more than `behind` others are asked for or under way: they are done one after the other.
    """
    is_open = collections.c.status.in_(_OPEN)
    if connection.execute(select(func.count()).select_from(collections).where(is_open)).scalar_one() > behind:
        raise Conflict("a collection is under way", hint="wait for it, or stop it with `twinhull gc --stop`")
    number = int(connection.execute(select(func.max(collections.c.id))).scalar() or 0) + 1
    row = {
        "id": number,
        "status": Status.PENDING,
        "wanted": _text(order),
        "outcome": _text(Outcome()),
        "error": "",
        "asked_ms": now_ms,
        "started_ms": 0,
        "ended_ms": 0,
    }
    connection.execute(collections.insert().values(row))
    connection.execute(delete(collections).where(collections.c.id <= number - _KEPT))
    return number


def stop_collection(connection: Connection, number: int, now_ms: int) -> None:
    """Ask a collection to stop, without harm if it has ended; raises NotFound. While writing."""
    found = collection(connection, number)
    if found.status is Status.PENDING:
        end_collection(connection, number, Status.STOPPED, found.outcome, now_ms=now_ms)
    elif found.status is Status.RUNNING:
        connection.execute(update(collections).where(collections.c.id == number).values(status=Status.STOPPING))


def begin_collection(connection: Connection, now_ms: int) -> Collection | None:
    """Return the collection that is asked for, which counts as under way from now on, or None; while writing."""
    pending = select(func.min(collections.c.id)).where(collections.c.status == Status.PENDING)
    number = connection.execute(pending).scalar()
    if number is None:
        return None
    values = {"status": Status.RUNNING, "started_ms": now_ms}
    connection.execute(update(collections).where(collections.c.id == number).values(values))
    return collection(connection, number)


def end_collection(
    connection: Connection, number: int, status: Status, outcome: Outcome, *, now_ms: int, error: str = ""
) -> None:
    """Note how a collection has ended; while writing."""
    values = {"status": status, "outcome": _text(outcome), "error": error, "ended_ms": now_ms}
    connection.execute(update(collections).where(collections.c.id == number).values(values))


def fail_unfinished(connection: Connection, now_ms: int) -> None:
    """Note that collections which were under way when the agent died have failed; while writing."""
    under_way = collections.c.status.in_((Status.RUNNING, Status.STOPPING))
    values = {"status": Status.FAILED, "error": "the node was stopped meanwhile", "ended_ms": now_ms}
    connection.execute(update(collections).where(under_way).values(values))


def has_order(connection: Connection) -> bool:
    """Tell whether a collection is asked for."""
    return connection.execute(select(collections.c.id).where(collections.c.status == Status.PENDING)).first() is not None


def is_stopping(connection: Connection, number: int) -> bool:
    """Tell whether the collection was asked to stop."""
    return bool(connection.execute(select(collections.c.status).where(collections.c.id == number)).scalar() == Status.STOPPING)


def collection(connection: Connection, number: int) -> Collection:
    """Return one collection, or raise NotFound."""
    row = connection.execute(select(collections).where(collections.c.id == number)).first()
    if row is None:
        raise NotFound(f"there is no collection {number}")
    return _collection(row)


def latest_collections(connection: Connection, limit: int, *, offset: int = 0) -> list[Collection]:
    """Return the collections, the newest first."""
    query = select(collections).order_by(collections.c.id.desc()).limit(limit).offset(offset)
    return [_collection(row) for row in connection.execute(query)]


def count_collections(connection: Connection) -> int:
    """Return how many collections are remembered."""
    return int(connection.execute(select(func.count()).select_from(collections)).scalar_one())


def _collection(row: object) -> Collection:
    values = row._mapping  # type: ignore[attr-defined]  # noqa: SLF001 - SQLAlchemy's public way to a row's names
    return Collection(
        id=values["id"],
        status=Status(values["status"]),
        order=msgspec.json.decode(values["wanted"], type=Order),
        outcome=msgspec.json.decode(values["outcome"], type=Outcome),
        error=values["error"],
        asked_ms=values["asked_ms"],
        started_ms=values["started_ms"],
        ended_ms=values["ended_ms"],
    )


def _text(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()
