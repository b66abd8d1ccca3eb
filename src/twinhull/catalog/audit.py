"""Who did what: audit records, written in the transaction of what they tell."""

from __future__ import annotations

from dataclasses import dataclass

from twinhull.auth.acting import actor
from twinhull.kit.reference import project_of
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import AUDIT, owned_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What somebody did, in the words of Harbor's audit log."""

    username: str
    # create, delete, pull, update, …
    operation: str
    # artifact, tag, repository, project, …
    resource_type: str
    # What it was done to, by name: library/app:v1.
    resource: str
    # The project that it belongs to; empty for what belongs to none.
    project: str = ""
    description: str = ""
    succeeded: bool = True
    client_address: str = ""


def record_deed(transaction: Transaction, deed: Deed) -> int:
    """Append an audit record and return its id. It is there if and only if the rest of the transaction is."""
    number = transaction.next_id(AUDIT)
    fields = {
        "username": deed.username,
        "operation": deed.operation,
        "resource_type": deed.resource_type,
        "resource": deed.resource,
        "project": deed.project,
        "description": deed.description,
        "succeeded": deed.succeeded,
        "client_address": deed.client_address,
        "created_ms": transaction.now_ms(),
    }
    transaction.create(AUDIT, owned_key(transaction.node, number), fields)
    return number


def note(
    transaction: Transaction, operation: str, resource_type: str, resource: str, *, project: str = "", description: str = ""
) -> None:
    """Append that the one who acts did this."""
    record_deed(
        transaction,
        Deed(
            username=actor(),
            operation=operation,
            resource_type=resource_type,
            resource=resource,
            project=project,
            description=description or f"{operation} {resource_type}: {resource}",
        ),
    )


def note_content(transaction: Transaction, operation: str, resource_type: str, repository: str, reference: str = "") -> None:
    """Append that the one who acts did this to an artifact or tag (`repository:reference`), or to a whole repository."""
    resource = f"{repository}:{reference}" if reference else repository
    note(transaction, operation, resource_type, resource, project=project_of(repository))
