"""In which life of a project, a user or a group something is hung on it: what is hung on an old one stays out of a new one."""

from __future__ import annotations

from twinhull.kit.errors import ProjectUnknown
from twinhull.metadata.accounts import find_project
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import PROJECT, USER, USER_GROUP, document_key, life_of
from twinhull.records.merge import Kind, Value, values_of


def life_of_project(transaction: Transaction, project: str) -> dict[str, Value]:
    """Return the fields of something that is made in a project now; none without a project. Raises ProjectUnknown."""
    if not project:
        return {}
    # It may be dead by its record, and live through what is stored in it.
    if find_project(transaction.connection, project) is None:
        raise ProjectUnknown(f"project {project} not found")
    return {"life": _life(transaction, PROJECT, project)}


def lives_of_member(transaction: Transaction, project: str, entity_type: str, entity: str) -> dict[str, Value]:
    """Return the fields of a user or group that becomes a member of a project now. Raises ProjectUnknown."""
    kind, key = (USER, entity) if entity_type == "u" else (USER_GROUP, document_key("", entity))
    return {**life_of_project(transaction, project), "entity_life": _life(transaction, kind, key)}


def _life(transaction: Transaction, kind: Kind, key: str) -> Value:
    record = transaction.get(kind, key)
    return life_of(values_of(kind, record).get("ids")) if record is not None else None
