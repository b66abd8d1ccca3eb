"""Who did what: audit records, written in the transaction of what they tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from twinhull.auth.acting import actor
from twinhull.kit.reference import project_of
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import AUDIT, owned_key

# Of an artifact with more than these tags they are not written down.
TAGS_NOTED_MAX: Final = 100


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
    # What else readers of the log want to know of it, by name; lists of audit records do not show it.
    facts: Mapping[str, str] = field(default_factory=dict)


def record_deed(transaction: Transaction, deed: Deed) -> int:
    """Append an audit record and return its id. It is there if and only if the rest of the transaction is."""
    number = transaction.next_id(AUDIT)
    fields = {
        **deed.facts,
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
    transaction: Transaction,
    operation: str,
    resource_type: str,
    resource: str,
    *,
    project: str = "",
    description: str = "",
    facts: Mapping[str, str] | None = None,
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
            facts=facts or {},
        ),
    )


def note_content(
    transaction: Transaction, operation: str, resource_type: str, repository: str, reference: str = "", *, digest: str = ""
) -> None:
    """Append that the one who acts did this to a tag (`repository:reference`), or to a whole repository.

    `digest` is what the tag names, or named until then.
    """
    resource = f"{repository}:{reference}" if reference else repository
    facts = {"digest": digest} if digest else {}
    note(transaction, operation, resource_type, resource, project=project_of(repository), facts=facts)


def note_artifact(
    transaction: Transaction,
    operation: str,
    repository: str,
    digest: str,
    *,
    named: str = "",
    tag: str = "",
    chart: str = "",
    tags: Sequence[str] | None = None,
) -> None:
    """Append that the one who acts did this to an artifact, which the log names by `named`, its digest if that is empty.

    `tag` is one that it has; `chart` its version where it was dealt with as a chart. `tags` are all that it had, where nobody
    can look them up any more.
    """
    facts = {"repository": repository, "digest": digest, "tag": tag, "chart": chart}
    if tags is not None:
        facts["tag"] = tags[0] if tags else ""
        # Never empty: that it had none is worth knowing too.
        facts["tags"] = f" {' '.join(tags)}" if len(tags) <= TAGS_NOTED_MAX else ""
    resource = f"{repository}:{named or digest}"
    note(
        transaction,
        operation,
        "artifact",
        resource,
        project=project_of(repository),
        facts={name: value for name, value in facts.items() if value},
    )
