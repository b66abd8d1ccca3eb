"""Executions and their tasks: what this node runs, written down where every node can read it. Only this node writes its own."""

from __future__ import annotations

from collections.abc import Mapping

from twinhull.kit.errors import NotFound
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import EXECUTION, TASK, owned_key
from twinhull.records.merge import Kind, Value


def begin_execution(
    transaction: Transaction, *, vendor_type: str, vendor_id: int, trigger: str, status: str, fields: Mapping[str, Value]
) -> int:
    """Write down an execution and return its id. `fields` is all else that Harbor's API shows of it."""
    told = {**fields, "vendor_type": vendor_type, "vendor_id": vendor_id, "trigger": trigger, "status": status}
    return _begin(transaction, EXECUTION, told)


def note_not_run(
    transaction: Transaction, *, vendor_type: str, vendor_id: int, reason: str, fields: Mapping[str, Value] | None = None
) -> int:
    """Write down an execution that somebody asked for and that is not carried out, with the reason why; return its id."""
    told = {**(fields or {}), "status_message": reason, "ended_ms": transaction.now_ms()}
    return begin_execution(
        transaction, vendor_type=vendor_type, vendor_id=vendor_id, trigger="MANUAL", status="Error", fields=told
    )


def begin_task(transaction: Transaction, execution: int, *, vendor_type: str, status: str, fields: Mapping[str, Value]) -> int:
    """Write down a task of an execution and return its id."""
    return _begin(transaction, TASK, {**fields, "execution_id": execution, "vendor_type": vendor_type, "status": status})


def tell_of(transaction: Transaction, kind: Kind, number: int, fields: Mapping[str, Value]) -> None:
    """Change what is written of this node's own execution or task; raises NotFound, also for another node's."""
    key = owned_key(transaction.node, number)
    if transaction.values(kind, key) is None:
        raise NotFound(f"{kind.name} {number} not found on node {transaction.node}")
    transaction.put(kind, key, {**fields, "updated_ms": transaction.now_ms()})


def _begin(transaction: Transaction, kind: Kind, fields: Mapping[str, Value]) -> int:
    number = transaction.next_id(kind)
    now_ms = transaction.now_ms()
    key = owned_key(transaction.node, number)
    transaction.create(kind, key, {"created_ms": now_ms, "updated_ms": now_ms, **fields}, number=number)
    return number
