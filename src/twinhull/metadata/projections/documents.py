"""Documents, labels on artifacts, counts of pulls, executions and tasks, audit records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, Table

from twinhull.metadata.projections.rows import Projection, Values, json_of, number_of, remove, text_of, times_of
from twinhull.metadata.tables.columns import upsert
from twinhull.metadata.tables.documents import artifact_labels, audit_records, documents, executions, progress, pulls, tasks
from twinhull.records import kinds
from twinhull.records.kinds import LIFE, id_and_aliases, number_of_life
from twinhull.records.merge import Value

_OWN_COLUMNS: Final = frozenset({"ids", LIFE, "created_ms", "updated_ms"})


def _document(kind: str) -> Projection:
    def project(connection: Connection, key: str, values: Values | None) -> None:
        if values is None:
            return remove(connection, documents, kind=kind, key=key)
        of_project, name = kinds.split_document_key(key)
        row = {
            "kind": kind,
            "key": key,
            "id": id_and_aliases(values.get("ids"))[0],
            "project": of_project,
            "project_id": number_of_life(values.get(LIFE)),
            "name": name,
            "body": _body(values),
            **times_of(values),
        }
        upsert(documents).run(connection, row)
        return None

    return project


def _body(values: Values, columns: frozenset[str] = frozenset()) -> str:
    # In one order everywhere, so that a rebuilt row is the row that was there.
    fields = {name: values[name] for name in sorted(values) if name not in _OWN_COLUMNS and name not in columns}
    return json_of({name: value for name, value in fields.items() if value is not None})


def _artifact_label(connection: Connection, key: str, values: Values | None) -> None:
    repository, digest, label = kinds.split_artifact_label_key(key)
    if values is None:
        return remove(connection, artifact_labels, repository=repository, digest=digest, label=label)
    row = {
        "repository": repository,
        "digest": digest,
        "label": label,
        "label_id": number_of_life(values.get(LIFE)),
        "created_ms": number_of(values.get("created_ms")),
    }
    upsert(artifact_labels).run(connection, row)
    return None


def _pulls(connection: Connection, key: str, values: Values | None) -> None:
    repository, digest, node = kinds.split_pulls_key(key)
    if values is None:
        return remove(connection, pulls, repository=repository, digest=digest, node=node)
    row = {
        "repository": repository,
        "digest": digest,
        "node": node,
        "pulls": number_of(values.get("count")),
        "last_ms": number_of(values.get("last_ms")),
        "tags": json_of(values.get("tags") or {}),
    }
    upsert(pulls).run(connection, row)
    return None


def _progress(connection: Connection, key: str, values: Values | None) -> None:
    remove(connection, progress, node=key)
    if values is None:
        return
    applied, dropped = (_vector(values.get(name)) for name in ("applied", "dropped"))
    rows = [
        {"node": key, "origin": origin, "applied": applied.get(origin, 0), "dropped": dropped.get(origin, 0)}
        for origin in sorted({*applied, *dropped})
    ]
    if rows:
        upsert(progress).run_for_each(connection, rows)


def _vector(value: Value) -> dict[str, int]:
    items = value.items() if isinstance(value, dict) else ()
    return {origin: number_of(seq) for origin, seq in items if isinstance(origin, str)}


def _owned(table: Table, *, texts: frozenset[str], numbers: frozenset[str]) -> Projection:
    def project(connection: Connection, key: str, values: Values | None) -> None:
        node, number = kinds.split_owned_key(key)
        if values is None:
            return remove(connection, table, node=node, id=number)
        row = {
            "node": node,
            "id": number,
            **{name: text_of(values.get(name)) for name in texts},
            **{name: number_of(values.get(name)) for name in numbers},
            "body": _body(values, texts | numbers),
            **times_of(values),
        }
        upsert(table).run(connection, row)
        return None

    return project


def _audit(connection: Connection, key: str, values: Values | None) -> None:
    node, number = kinds.split_owned_key(key)
    if values is None:
        return remove(connection, audit_records, node=node, id=number)
    texts = ("project", "username", "operation", "resource_type", "resource", "description", "client_address")
    row = {
        "node": node,
        "id": number,
        "at_ms": number_of(values.get("created_ms")),
        **{name: text_of(values.get(name)) for name in texts},
        "succeeded": bool(values.get("succeeded", True)),
    }
    upsert(audit_records).run(connection, row)
    return None


DOCUMENTS: Final[Mapping[str, Projection]] = {
    **{name: _document(name) for name in kinds.DOCUMENTS},
    "artifact_label": _artifact_label,
    "pulls": _pulls,
    "progress": _progress,
    "execution": _owned(executions, texts=frozenset({"vendor_type", "status", "trigger"}), numbers=frozenset({"vendor_id"})),
    "task": _owned(tasks, texts=frozenset({"vendor_type", "status"}), numbers=frozenset({"execution_id"})),
    "audit": _audit,
}
