"""Executions and their tasks: what this node runs, written down where every node can read it. Only this node writes its own.

Two things others may write: the wish that an execution stops, and the end of what a node has left behind that was removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from twinhull.jobs.job import NewTask
from twinhull.kit.errors import NotFound
from twinhull.metadata.executions import ERROR, PENDING, RUNNING, STOP_ASKED, STOPPED, SUCCESS, UNFINISHED, unfinished_tasks
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import EXECUTION, TASK, owned_key
from twinhull.records.merge import Kind, Value

MANUAL: Final = "MANUAL"
EVENT: Final = "EVENT"
# By how its tasks ended, the execution's figures: `running` are those that have not.
_RUNNING: Final = "running"
_ENDS: Final = {SUCCESS: "success", ERROR: "error", STOPPED: "stopped"}
# Of an execution whose tasks are still to be found out.
PLANNING: Final = "planning"


def begin(
    transaction: Transaction,
    *,
    vendor_type: str,
    vendor_id: int,
    trigger: str,
    tasks: Sequence[NewTask] | None,
    fields: Mapping[str, Value] | None = None,
) -> int:
    """Begin an execution and return its id: this node's agent sees it in the log, and does its tasks.

    With None for the tasks, the job of this vendor type is asked for them first. `fields` is all else to be known of it.
    """
    told = dict(fields or {}) | {"metrics": {_RUNNING: len(tasks or ())}}
    if tasks is None:
        told[PLANNING] = True
    number = begin_execution(
        transaction, vendor_type=vendor_type, vendor_id=vendor_id, trigger=trigger, status=RUNNING, fields=told
    )
    _begin_tasks(transaction, number, vendor_type, tasks or ())
    if tasks is not None and not tasks:
        _settle(transaction, number, {})
    return number


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
    return begin_execution(transaction, vendor_type=vendor_type, vendor_id=vendor_id, trigger=MANUAL, status=ERROR, fields=told)


def begin_task(transaction: Transaction, execution: int, *, vendor_type: str, status: str, fields: Mapping[str, Value]) -> int:
    """Write down a task of an execution and return its id."""
    return _begin(transaction, TASK, {**fields, "execution_id": execution, "vendor_type": vendor_type, "status": status})


def tell_of(transaction: Transaction, kind: Kind, number: int, fields: Mapping[str, Value]) -> None:
    """Change what is written of this node's own execution or task; raises NotFound, also for another node's."""
    key = owned_key(transaction.node, number)
    if transaction.values(kind, key) is None:
        raise NotFound(f"{kind.name} {number} not found on node {transaction.node}")
    transaction.put(kind, key, {**fields, "updated_ms": transaction.now_ms()})


# -- what the runner writes ----------------------------------------------------------------------------------------


def plan_made(transaction: Transaction, execution: int, tasks: Sequence[NewTask], fields: Mapping[str, Value]) -> bool:
    """Write down the tasks of an execution that had none; False, and nothing is done, if it has them or has ended meanwhile."""
    values = transaction.values(EXECUTION, owned_key(transaction.node, execution))
    if values is None or values["status"] not in UNFINISHED or not values.get(PLANNING):
        return False
    _begin_tasks(transaction, execution, str(values["vendor_type"]), tasks)
    told = {**fields, PLANNING: None, "metrics": {_RUNNING: len(tasks)}}
    if tasks:
        tell_of(transaction, EXECUTION, execution, told)
    else:
        _settle(transaction, execution, told)
    return True


def end_task(transaction: Transaction, number: int, status: str, fields: Mapping[str, Value], *, node: str = "") -> bool:
    """End a task, and with its last one the execution; False, and nothing is done, if it has ended or is gone."""
    key = owned_key(node or transaction.node, number)
    values = transaction.values(TASK, key)
    if values is None or values["status"] not in UNFINISHED:
        return False
    now_ms = transaction.now_ms()
    transaction.put(TASK, key, {**fields, "status": status, "due_ms": None, "ended_ms": now_ms, "updated_ms": now_ms})
    execution = _number(values.get("execution_id"))
    held = transaction.values(EXECUTION, owned_key(node or transaction.node, execution))
    if held is not None and held["status"] in UNFINISHED:
        counts = _counts(held)
        counts[_RUNNING] = max(0, counts.get(_RUNNING, 0) - 1)
        counts[_ENDS[status]] = counts.get(_ENDS[status], 0) + 1
        _settle(transaction, execution, {"metrics": counts}, node=node)
    return True


def end_execution(transaction: Transaction, number: int, status: str, fields: Mapping[str, Value], *, node: str = "") -> bool:
    """End an execution as it is, with all of its tasks that have not ended; False, and nothing is done, if it has ended."""
    owner = node or transaction.node
    key = owned_key(owner, number)
    values = transaction.values(EXECUTION, key)
    if values is None or values["status"] not in UNFINISHED:
        return False
    now_ms = transaction.now_ms()
    ended = {"status": status, "ended_ms": now_ms, "updated_ms": now_ms}
    counts = _counts(values)
    for task in unfinished_tasks(transaction.connection, owner, number):
        transaction.put(TASK, owned_key(owner, task.id), {**ended, **fields, "due_ms": None})
        counts[_ENDS[status]] = counts.get(_ENDS[status], 0) + 1
    counts[_RUNNING] = 0
    transaction.put(EXECUTION, key, {**ended, **fields, PLANNING: None, "metrics": counts})
    return True


# -- what any node may write ---------------------------------------------------------------------------------------


def ask_to_stop(transaction: Transaction, node: str, number: int) -> bool:
    """Ask the node that an execution belongs to to stop it; False if it has ended, or is gone."""
    key = owned_key(node, number)
    values = transaction.values(EXECUTION, key)
    if values is None or values["status"] not in UNFINISHED:
        return False
    if not values.get(STOP_ASKED):
        transaction.put(EXECUTION, key, {STOP_ASKED: True})
    return True


# -- inside --------------------------------------------------------------------------------------------------------


def _begin(transaction: Transaction, kind: Kind, fields: Mapping[str, Value]) -> int:
    number = transaction.next_id(kind)
    now_ms = transaction.now_ms()
    key = owned_key(transaction.node, number)
    transaction.create(kind, key, {"created_ms": now_ms, "updated_ms": now_ms, **fields}, number=number)
    return number


def _begin_tasks(transaction: Transaction, execution: int, vendor_type: str, tasks: Sequence[NewTask]) -> None:
    for task in tasks:
        lane = {"lane": task.lane} if task.lane else {}
        begin_task(transaction, execution, vendor_type=vendor_type, status=PENDING, fields={**task.fields, **lane})


def _settle(transaction: Transaction, execution: int, fields: Mapping[str, Value], *, node: str = "") -> None:
    """Write these fields of an execution, and if none of its tasks is left, that it has ended, and how."""
    key = owned_key(node or transaction.node, execution)
    values = {**(transaction.values(EXECUTION, key) or {}), **fields}
    counts = _counts(values)
    now_ms = transaction.now_ms()
    told: dict[str, Any] = {**fields, "updated_ms": now_ms}
    if not counts.get(_RUNNING) and not values.get(PLANNING):
        told |= {"ended_ms": now_ms, "status": _outcome(counts)}
    transaction.put(EXECUTION, key, told)


def _outcome(counts: Mapping[str, int]) -> str:
    return next((status for status in (ERROR, STOPPED) if counts.get(_ENDS[status])), SUCCESS)


def _counts(values: Mapping[str, Value]) -> dict[str, int]:
    counted = values.get("metrics")
    return {name: _number(count) for name, count in counted.items()} if isinstance(counted, dict) else {}


def _number(value: Value) -> int:
    return value if isinstance(value, int) else 0
