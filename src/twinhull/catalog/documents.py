"""Documents: labels, rules, policies, endpoints and the like. How they are written is here; what may be in them is not.

The functions work inside the caller's transaction, so that several writes, and the audit record of them, become one;
`Documents` runs such a change in a thread and returns what to wait for. Each face validates first, in Harbor's words.

A document is found by its integer id or by its natural key: project and name. Without a project it is the whole cluster's.
Where a project, or the cluster, has only one of a kind, its name is empty; where Harbor gives it no name, `NUMBERED` names
it by its id. Secret values are sealed by whoever hands them in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Final

from twinhull.catalog.accounts import Written, changed_only, written
from twinhull.catalog.lives import life_of_project
from twinhull.kit.errors import Conflict, NotFound
from twinhull.metadata import documents as queries
from twinhull.metadata.documents import Document
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import (
    ARTIFACT_LABEL,
    DOCUMENTS,
    LABEL,
    LIFE,
    artifact_label_key,
    document_key,
    life_of,
)
from twinhull.records.merge import Kind, Value, values_of

# Asks create_document to name a document by its id.
NUMBERED: Final = None


def create_document(
    transaction: Transaction, kind: Kind, fields: Mapping[str, Value], *, project: str = "", name: str | None = ""
) -> int:
    """Make a document and return its id, or raise Conflict for a name that is taken, ProjectUnknown for no project."""
    life = life_of_project(transaction, project)
    number = transaction.next_id(kind)
    key = document_key(project, str(number) if name is NUMBERED else name)
    if queries.find(transaction.connection, kind, key) is not None:
        raise Conflict(f"{kind.name} {key.strip('/')!r} already exists", hint="choose another name, or change that one")
    # One that lives and can't be found hung on an earlier project of the name.
    transaction.delete(kind, key)
    now_ms = transaction.now_ms()
    complete = {"created_ms": now_ms, "updated_ms": now_ms, **fields}
    transaction.create(kind, key, {**complete, **life}, number=number)
    return number


def set_document(
    transaction: Transaction, kind: Kind, fields: Mapping[str, Value], *, project: str = "", name: str = ""
) -> int:
    """Change these fields of the document with that natural key, or make it with them, and return its id.

    Raises ProjectUnknown for no project.
    """
    found = queries.find(transaction.connection, kind, document_key(project, name))
    if found is None:
        return create_document(transaction, kind, fields, project=project, name=name)
    return change_document(transaction, kind, found.id, fields)


def change_document(transaction: Transaction, kind: Kind, number: int, fields: Mapping[str, Value]) -> int:
    """Change these fields of a document, where they differ, and return its id; raises NotFound. A None takes a field away."""
    found = existing_document(transaction, kind, number)
    changed = changed_only(found.fields, fields)
    if changed:
        transaction.put(kind, found.key, {"updated_ms": transaction.now_ms(), **changed})
    return found.id


def rename_document(transaction: Transaction, kind: Kind, number: int, name: str) -> int:
    """Give a document another name, under which it keeps its ids and fields; raises NotFound, or Conflict if that is taken."""
    found = existing_document(transaction, kind, number)
    key = document_key(found.project, name)
    if name == found.name:
        return found.id
    if queries.find(transaction.connection, kind, key) is not None:
        raise Conflict(f"{kind.name} {key.strip('/')!r} already exists", hint="choose another name")
    values = transaction.values(kind, found.key) or {}
    transaction.delete(kind, key)
    transaction.delete(kind, found.key)
    transaction.create(kind, key, {**values, "updated_ms": transaction.now_ms()})
    return found.id


def delete_document(transaction: Transaction, kind: Kind, number: int) -> int:
    """Delete a document and return its id; raises NotFound. What is attached to it goes out of sight with it."""
    found = existing_document(transaction, kind, number)
    transaction.delete(kind, found.key)
    return found.id


def existing_document(transaction: Transaction, kind: Kind, number: int) -> Document:
    """Return the document with that id, or raise NotFound."""
    found = queries.find_by_id(transaction.connection, kind, number)
    if found is None:
        raise NotFound(f"{kind.name} {number} not found")
    return found


def delete_documents_of(transaction: Transaction, project: str) -> None:
    """Delete all that hung on a project of this name, before another is made."""
    for kind, key in queries.keys_of_project(transaction.connection, project):
        transaction.delete(DOCUMENTS[kind], key)


def attach_label(transaction: Transaction, repository: str, digest: str, label: Document) -> None:
    """Put a label on an artifact, which the caller knows to be there; raises Conflict if it is on it already."""
    numbers = queries.ids_of(transaction.connection, label)
    if queries.label_keys(transaction.connection, repository, digest, numbers=numbers):
        raise Conflict(f"label {label.id} is already added to the artifact {digest}")
    key = artifact_label_key(repository, digest, label.key)
    # A label of that name which was deleted may have been on it.
    transaction.delete(ARTIFACT_LABEL, key)
    record = transaction.get(LABEL, label.key)
    assert record is not None
    fields = {"created_ms": transaction.now_ms(), LIFE: life_of(values_of(LABEL, record).get("ids"))}
    transaction.create(ARTIFACT_LABEL, key, fields)


def detach_label(transaction: Transaction, repository: str, digest: str, label: Document) -> bool:
    """Take a label off an artifact; return False if it was not on it."""
    numbers = queries.ids_of(transaction.connection, label)
    held = queries.label_keys(transaction.connection, repository, digest, numbers=numbers)
    for key in held:
        transaction.delete(ARTIFACT_LABEL, artifact_label_key(repository, digest, key))
    return bool(held)


def detach_all_labels(transaction: Transaction, repository: str, digest: str) -> None:
    """Take off all labels of an artifact that is being deleted."""
    for key in queries.label_keys(transaction.connection, repository, digest):
        transaction.delete(ARTIFACT_LABEL, artifact_label_key(repository, digest, key))


class Documents:
    """Carries out changes made of the functions above, each in a transaction of its own, in a thread."""

    def __init__(self, *, store: Store, executor: Executor) -> None:
        """Take the metadata, and threads to write in."""
        self._store = store
        self._executor = executor

    async def write(self, change: Callable[[Transaction], int]) -> Written:
        """Make the change, which returns an id, and return that with the change number to wait for; raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, written, self._store, change)

    async def create(self, kind: Kind, fields: Mapping[str, Value], *, project: str = "", name: str | None = "") -> Written:
        """Make a document; raises what create_document raises."""
        return await self.write(lambda inside: create_document(inside, kind, fields, project=project, name=name))

    async def set(self, kind: Kind, fields: Mapping[str, Value], *, project: str = "", name: str = "") -> Written:
        """Change the document with that natural key, or make it; raises ProjectUnknown."""
        return await self.write(lambda inside: set_document(inside, kind, fields, project=project, name=name))

    async def change(self, kind: Kind, number: int, fields: Mapping[str, Value]) -> Written:
        """Change fields of a document; raises NotFound."""
        return await self.write(lambda inside: change_document(inside, kind, number, fields))

    async def delete(self, kind: Kind, number: int) -> Written:
        """Delete a document; raises NotFound."""
        return await self.write(lambda inside: delete_document(inside, kind, number))
