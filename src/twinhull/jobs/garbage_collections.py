"""Collections of garbage: executions that every node shows. Each node does its own, by its agent's worker.

Whoever wants one writes it down, and may ask it to stop by another write, on any node; the worker finds both. So any process
can do that, and nothing is forgotten over a restart.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec
from sqlalchemy import Connection

from twinhull.jobs.executions import ask_to_stop, begin_execution, tell_of
from twinhull.kit.clock import rfc3339
from twinhull.kit.errors import Conflict, NotFound
from twinhull.metadata import executions
from twinhull.metadata.executions import STOP_ASKED, Execution
from twinhull.metadata.filtering import Slice
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import EXECUTION

VENDOR: Final = "GARBAGE_COLLECTION"
# There is no policy by which they are told apart.
_VENDOR_ID: Final = -1


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


# As an execution has it; one that is stopping is still running.
_STATUSES: Final = {
    Status.PENDING: executions.PENDING,
    Status.RUNNING: executions.RUNNING,
    Status.STOPPED: executions.STOPPED,
    Status.DONE: executions.SUCCESS,
    Status.FAILED: executions.ERROR,
}
_READ: Final = {theirs: ours for ours, theirs in _STATUSES.items()}


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
    # Whose garbage it is, or was.
    node: str
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
        return self.status not in (Status.PENDING, Status.RUNNING, Status.STOPPING)


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


def order_collection(transaction: Transaction, order: Order, *, behind: int = 0) -> int:
    """Ask for a collection on this node and return its id.

    Raises Conflict while more than `behind` others are asked for or under way: they are done one after the other.
    """
    if len(_open(transaction.connection, transaction.node)) > behind:
        raise Conflict("a collection is under way", hint="wait for it, or stop it with `twinhull gc --stop`")
    return begin_execution(
        transaction,
        vendor_type=VENDOR,
        vendor_id=_VENDOR_ID,
        trigger=order.trigger.upper(),
        status=executions.PENDING,
        fields={"order": msgspec.to_builtins(order)},
    )


def stop_collection(transaction: Transaction, number: int) -> None:
    """Ask a collection to stop, without harm if it has ended; raises NotFound."""
    found = collection(transaction.connection, number)
    if found.status is Status.PENDING and found.node == transaction.node:
        end_collection(transaction, number, Status.STOPPED, found.outcome)
    else:
        # Its node ends it.
        ask_to_stop(transaction, found.node, number)


def begin_collection(transaction: Transaction) -> Collection | None:
    """Return the collection that is asked for on this node, which counts as under way from now on, or None."""
    for one in _open(transaction.connection, transaction.node):
        if one.status is Status.STOPPING:
            end_collection(transaction, one.id, Status.STOPPED, one.outcome)
        elif one.status is Status.PENDING:
            begun = {"status": executions.RUNNING, "started_ms": transaction.now_ms()}
            tell_of(transaction, EXECUTION, one.id, begun)
            return collection(transaction.connection, one.id)
    return None


def end_collection(transaction: Transaction, number: int, status: Status, outcome: Outcome, *, error: str = "") -> None:
    """Note how a collection of this node has ended."""
    fields = {
        "status": _STATUSES[status],
        "outcome": msgspec.to_builtins(outcome),
        "status_message": error,
        "ended_ms": transaction.now_ms(),
    }
    tell_of(transaction, EXECUTION, number, fields)


def fail_unfinished(transaction: Transaction) -> None:
    """Note that collections of this node which were under way when the agent died have failed."""
    for one in _open(transaction.connection, transaction.node):
        if one.started_ms:
            end_collection(transaction, one.id, Status.FAILED, one.outcome, error="the node was stopped meanwhile")


def has_order(connection: Connection, node: str) -> bool:
    """Tell whether a collection of that node is asked for, or asked to stop before it has begun."""
    return any(not one.started_ms for one in _open(connection, node))


def is_stopping(connection: Connection, node: str, number: int) -> bool:
    """Tell whether a collection of that node was asked to stop."""
    return any(one.status is Status.STOPPING for one in _open(connection, node) if one.id == number)


def collection(connection: Connection, number: int) -> Collection:
    """Return one collection, of whichever node, or raise NotFound."""
    found = executions.find_execution(connection, number)
    if found is None or found.vendor_type != VENDOR:
        raise NotFound(f"there is no collection {number}")
    return _collection(found)


def latest_collections(connection: Connection, node: str, limit: int) -> list[Collection]:
    """Return a node's collections, the newest first."""
    found = executions.latest_of_node(connection, VENDOR, node, limit)
    return [_collection(one) for one in found]


def list_collections(connection: Connection, part: Slice) -> tuple[list[Collection], int]:
    """Return that part of all nodes' collections, the newest first, and how many there are."""
    found, total = executions.list_executions(connection, vendor_type=VENDOR, part=part)
    return [_collection(one) for one in found], total


def _open(connection: Connection, node: str) -> list[Collection]:
    """Return the collections of a node that are asked for or under way, oldest first."""
    found = executions.unfinished_executions(connection, node, VENDOR)
    return [_collection(one) for one in found]


def _collection(found: Execution) -> Collection:
    fields = found.fields
    status = _READ.get(found.status, Status.FAILED)
    is_stopping = fields.get(STOP_ASKED) and not found.has_ended
    return Collection(
        id=found.id,
        node=found.node,
        status=Status.STOPPING if is_stopping else status,
        order=msgspec.convert(fields.get("order") or {}, Order),
        outcome=msgspec.convert(fields.get("outcome") or {}, Outcome),
        error=str(fields.get("status_message") or ""),
        asked_ms=found.created_ms,
        started_ms=int(fields.get("started_ms") or 0),
        ended_ms=int(fields.get("ended_ms") or 0),
    )
