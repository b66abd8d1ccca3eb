"""From records to the tables that requests query: one function a kind, and nothing else writes those tables.

Each function is given the record's resolved values, or None when the record is dead, and brings its rows to match.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from sqlalchemy import Connection, Table, delete, text

from twinhull.kit.reference import project_of
from twinhull.metadata import schema
from twinhull.metadata.schema import upsert
from twinhull.metadata.statement import Statement
from twinhull.records import kinds
from twinhull.records.kinds import id_and_aliases, split_content_key, split_member_key, split_tag_key
from twinhull.records.merge import Value, decode, is_dead, values_of

# No column holds a larger number.
_NUMBER_MAX: Final = 2**63 - 1
# As many records as a rebuild reads at once.
_PAGE: Final = 1000

_IS_DEAD: Final = Statement("SELECT 1 FROM records WHERE kind = :kind AND key = :key AND dead")
_RECORD: Final = Statement("SELECT record FROM records WHERE kind = :kind AND key = :key")
_RECORDS_PAGE: Final = text(
    "SELECT kind, key, record FROM records WHERE (kind, key) > (:kind, :key) ORDER BY kind, key LIMIT :limit"
)
_FORGET_ALIAS: Final = Statement("DELETE FROM id_aliases WHERE kind = :kind AND id = :id")
_ANY_IN_REPOSITORY: Final = Statement("SELECT 1 FROM manifests WHERE repository = :name LIMIT 1")
_ANY_IN_PROJECT: Final = Statement(
    "SELECT 1 FROM repositories WHERE project = :name"
    " AND EXISTS (SELECT 1 FROM manifests WHERE manifests.repository = repositories.name) LIMIT 1"
)

Values = Mapping[str, Value]
Projection = Callable[[Connection, str, Values | None], None]


def project_record(connection: Connection, kind: str, key: str, values: Values | None, *, ids_before: Value = None) -> None:
    """Bring the tables of this kind to match the record; `values` is None when the record is dead.

    `ids_before` is the field of that name as it was projected last.
    """
    _PROJECTIONS[kind](connection, key, values)
    earlier = id_and_aliases(ids_before)[1]
    aliases = id_and_aliases(values.get("ids"))[1] if values is not None else []
    for alias in earlier:
        if alias not in aliases:
            _FORGET_ALIAS.run(connection, {"kind": kind, "id": alias})
    for alias in aliases:
        upsert(schema.id_aliases).run(connection, {"kind": kind, "id": alias, "key": key})


def rebuild_projections(connection: Connection) -> None:
    """Make all derived tables anew from the records, inside a writing transaction."""
    for table in schema.metadata.sorted_tables:
        if table.info == schema.DERIVED:
            connection.execute(delete(table))
    kind, key = "", ""
    while page := connection.execute(_RECORDS_PAGE, {"kind": kind, "key": key, "limit": _PAGE}).all():
        for kind, key, encoded in page:
            record = decode(encoded)
            rules = kinds.KINDS[kind]
            project_record(connection, kind, key, None if is_dead(rules, record) else values_of(rules, record))


def _text(value: Value) -> str:
    # PostgreSQL takes no NUL in a text; one node's must not stop the replication to another.
    return value.replace("\x00", "") if isinstance(value, str) else ""


def _number(value: Value, default: int = 0) -> int:
    return min(value, _NUMBER_MAX) if isinstance(value, int) else default


def _json(value: Value) -> str:
    return msgspec.json.encode(value).decode()


def _times(values: Values) -> dict[str, int]:
    created = _number(values.get("created_ms"))
    return {"created_ms": created, "updated_ms": _number(values.get("updated_ms"), created)}


def _remove(connection: Connection, table: Table, **key: str) -> None:
    connection.execute(delete(table).where(*(table.c[name] == value for name, value in key.items())))


def _node(connection: Connection, key: str, values: Values | None) -> None:
    if values is None:
        return _remove(connection, schema.nodes, id=key)
    row = {
        "id": key,
        "name": _text(values.get("name")),
        "slot": _number(values.get("slot")),
        "address": _text(values.get("address")),
        "url": _text(values.get("url")),
        "token_keys": _json(values.get("token_keys", [])),
        "joined_ms": _number(values.get("joined_ms")),
    }
    upsert(schema.nodes).run(connection, row)
    return None


def _setting(connection: Connection, key: str, values: Values | None) -> None:
    if values is None:
        return _remove(connection, schema.settings, name=key)
    upsert(schema.settings).run(connection, {"name": key, "value": _json(values.get("value"))})
    return None


def _user(connection: Connection, key: str, values: Values | None) -> None:
    if values is None:
        return _remove(connection, schema.users, name=key)
    row = {
        "name": key,
        "id": id_and_aliases(values.get("ids"))[0],
        "email": _text(values.get("email")),
        "realname": _text(values.get("realname")),
        "comment": _text(values.get("comment")),
        "password_hash": _text(values.get("password_hash")),
        "sysadmin": bool(values.get("sysadmin")),
        "disabled": bool(values.get("disabled")),
        **_times(values),
    }
    upsert(schema.users).run(connection, row)
    return None


def _member(connection: Connection, key: str, values: Values | None) -> None:
    project, entity_type, entity = split_member_key(key)
    if values is None:
        return _remove(connection, schema.members, project=project, entity_type=entity_type, entity=entity)
    row = {
        "project": project,
        "entity_type": entity_type,
        "entity": entity,
        "id": id_and_aliases(values.get("ids"))[0],
        "role": _number(values.get("role")),
        **_times(values),
    }
    upsert(schema.members).run(connection, row)
    return None


def _robot(connection: Connection, key: str, values: Values | None) -> None:
    if values is None:
        return _remove(connection, schema.robots, name=key)
    row = {
        "name": key,
        "id": id_and_aliases(values.get("ids"))[0],
        "level": _text(values.get("level")),
        "project": _text(values.get("project")),
        "description": _text(values.get("description")),
        "permissions": _json(values.get("permissions", [])),
        "disable": bool(values.get("disable")),
        "secret_hash": _text(values.get("secret_hash")),
        "duration_days": _number(values.get("duration_days"), -1),
        "expires_at_s": _number(values.get("expires_at_s"), -1),
        **_times(values),
    }
    upsert(schema.robots).run(connection, row)
    return None


# -- containers: they live while any artifact in them does ----------------------------------------------------------


def _project(connection: Connection, key: str, values: Values | None) -> None:
    if values is None:
        if _ANY_IN_PROJECT.first(connection, {"name": key}) is None:
            return _remove(connection, schema.projects, name=key)
        values = _last_values(connection, kinds.PROJECT.name, key)
    described = values.get("metadata")
    # Each metadata item is a field of its own ("metadata.public"), so that different items merge one by one.
    items = {name[9:]: value for name, value in values.items() if name.startswith("metadata.") and value is not None}
    items.update(described if isinstance(described, dict) else {})
    row = {
        "name": key,
        "id": id_and_aliases(values.get("ids"))[0],
        "owner": _text(values.get("owner")),
        "metadata": _json(dict(sorted(items.items()))),
        "public": items.get("public") == "true",
        **_times(values),
    }
    upsert(schema.projects).run(connection, row)
    return None


def _repository(connection: Connection, key: str, values: Values | None) -> None:
    project = project_of(key)
    if values is None:
        if _ANY_IN_REPOSITORY.first(connection, {"name": key}) is None:
            _remove(connection, schema.repositories, name=key)
            return _touch(connection, kinds.PROJECT.name, project)
        values = _last_values(connection, kinds.REPOSITORY.name, key)
    row = {
        "name": key,
        "project": project,
        "id": id_and_aliases(values.get("ids"))[0],
        "description": _text(values.get("description")),
        **_times(values),
    }
    upsert(schema.repositories).run(connection, row)
    # Its artifacts may have come before it.
    return _touch(connection, kinds.PROJECT.name, project)


def _last_values(connection: Connection, kind: str, key: str) -> Values:
    row = _RECORD.first(connection, {"kind": kind, "key": key})
    return values_of(kinds.KINDS[kind], decode(row[0])) if row is not None else {}


def _touch_containers(connection: Connection, repository: str) -> None:
    """Bring back, or let go, a repository and project whose records are dead, now that an artifact came or went."""
    _touch(connection, kinds.REPOSITORY.name, repository)
    _touch(connection, kinds.PROJECT.name, project_of(repository))


def _touch(connection: Connection, kind: str, key: str) -> None:
    if _IS_DEAD.first(connection, {"kind": kind, "key": key}) is not None:
        _PROJECTIONS[kind](connection, key, None)


# -- content -------------------------------------------------------------------------------------------------------


def _manifest(connection: Connection, key: str, values: Values | None) -> None:
    repository, digest = split_content_key(key)
    if values is None:
        _remove(connection, schema.manifests, repository=repository, digest=digest)
        _remove(connection, schema.manifest_blobs, repository=repository, manifest=digest)
        _remove(connection, schema.manifest_children, repository=repository, parent=digest)
        return _touch_containers(connection, repository)
    row = {
        "repository": repository,
        "digest": digest,
        "id": id_and_aliases(values.get("ids"))[0],
        "media_type": _text(values.get("media_type")),
        "artifact_type": _text(values.get("artifact_type")),
        "config_digest": _text(values.get("config_digest")),
        "subject": _text(values.get("subject")),
        "manifest_bytes": _number(values.get("manifest_bytes")),
        "total_bytes": _number(values.get("total_bytes")),
        "annotations": _json(values.get("annotations", {})),
        "pushed_ms": _number(values.get("pushed_ms")),
        "pushed_by": _text(values.get("pushed_by")),
    }
    upsert(schema.manifests).run(connection, row)
    # What a manifest names never changes, since its digest names its bytes: the rows are made once.
    blobs, children = values.get("blobs"), values.get("children")
    named = [
        {"repository": repository, "manifest": digest, "blob": blob, "size": _number(size), "required": bool(required)}
        for blob, size, required in (blobs if isinstance(blobs, list) else [])
    ]
    if named:
        upsert(schema.manifest_blobs).run_for_each(connection, named)
    held = [
        {"repository": repository, "parent": digest, "child": child}
        for child in (children if isinstance(children, list) else [])
    ]
    if held:
        upsert(schema.manifest_children).run_for_each(connection, held)
    return _touch_containers(connection, repository)


def _tag(connection: Connection, key: str, values: Values | None) -> None:
    repository, name = split_tag_key(key)
    target = values.get("target") if values is not None else None
    if values is None or not isinstance(target, dict):
        return _remove(connection, schema.tags, repository=repository, name=name)
    row = {
        "repository": repository,
        "name": name,
        "id": id_and_aliases(values.get("ids"))[0],
        "digest": _text(target.get("digest")),
        "immutable": bool(target.get("immutable")),
        "pushed_ms": _number(target.get("pushed_ms")),
        "pushed_by": _text(target.get("pushed_by")),
    }
    upsert(schema.tags).run(connection, row)
    return None


def _blob(connection: Connection, key: str, values: Values | None) -> None:
    repository, digest = split_content_key(key)
    if values is None:
        return _remove(connection, schema.blob_links, repository=repository, digest=digest)
    row = {
        "repository": repository,
        "digest": digest,
        "size": _number(values.get("size")),
        "linked_ms": _number(values.get("linked_ms")),
    }
    upsert(schema.blob_links).run(connection, row)
    return None


_PROJECTIONS: Final[Mapping[str, Projection]] = {
    "node": _node,
    "setting": _setting,
    "user": _user,
    "project": _project,
    "member": _member,
    "robot": _robot,
    "repository": _repository,
    "manifest": _manifest,
    "tag": _tag,
    "blob": _blob,
}
