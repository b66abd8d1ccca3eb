"""Manifests and what they name, tags, and blobs by repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection

from twinhull.metadata.projections.containers import touch_containers
from twinhull.metadata.projections.garbage import link_came, link_went, manifest_came, manifest_went
from twinhull.metadata.projections.rows import Projection, Values, json_of, number_of, remove, text_of
from twinhull.metadata.projections.standing import accessories_of, children_of, settle
from twinhull.metadata.projections.usage import count_link, count_manifest, uncount_manifest
from twinhull.metadata.statement import Statement
from twinhull.metadata.tables.columns import upsert
from twinhull.metadata.tables.content import blob_links, manifest_blobs, manifest_children, manifests, tags
from twinhull.records.kinds import id_and_aliases, split_content_key, split_tag_key

_TARGET: Final = Statement("SELECT digest FROM tags WHERE repository = :repository AND name = :name")


def _manifest(connection: Connection, key: str, values: Values | None) -> None:
    repository, digest = split_content_key(key)
    if values is None:
        listed_by_it = children_of(connection, repository, digest)
        uncount_manifest(connection, repository, digest)
        manifest_went(connection, repository, digest)
        remove(connection, manifests, repository=repository, digest=digest)
        remove(connection, manifest_blobs, repository=repository, manifest=digest)
        remove(connection, manifest_children, repository=repository, parent=digest)
        settle(connection, repository, [*listed_by_it, *accessories_of(connection, repository, digest)])
        return touch_containers(connection, repository)
    row = {
        "repository": repository,
        "digest": digest,
        "id": id_and_aliases(values.get("ids"))[0],
        "media_type": text_of(values.get("media_type")),
        "artifact_type": text_of(values.get("artifact_type")),
        "config_type": text_of(values.get("config_type")),
        "type": text_of(values.get("type")),
        "icon": text_of(values.get("icon")),
        "attributes": text_of(values.get("attributes")),
        "config_digest": text_of(values.get("config_digest")),
        "subject": text_of(values.get("subject")),
        "manifest_bytes": number_of(values.get("manifest_bytes")),
        "total_bytes": number_of(values.get("total_bytes")),
        "annotations": json_of(values.get("annotations", {})),
        "pushed_ms": number_of(values.get("pushed_ms")),
        "pushed_by": text_of(values.get("pushed_by")),
        "accessory_type": text_of(values.get("accessory_type")),
        # As it is for most; settled below.
        "accessory_of": text_of(values.get("subject")),
        "tagged": False,
        "listed": True,
    }
    # What a manifest names never changes, since its digest names its bytes: the rows are made once.
    blobs, children = values.get("blobs"), values.get("children")
    named = [
        {"repository": repository, "manifest": digest, "blob": blob, "size": number_of(size), "required": bool(required)}
        for blob, size, required in (blobs if isinstance(blobs, list) else [])
    ]
    count_manifest(connection, repository, digest, number_of(values.get("manifest_bytes")), named)
    upsert(manifests).run(connection, row)
    if named:
        upsert(manifest_blobs).run_for_each(connection, named)
        manifest_came(connection, repository, [row["blob"] for row in named])
    held = [
        {"repository": repository, "parent": digest, "child": child}
        for child in (children if isinstance(children, list) else [])
    ]
    if held:
        upsert(manifest_children).run_for_each(connection, held)
    affected = [str(row["child"]) for row in held] + accessories_of(connection, repository, digest)
    settle(connection, repository, [digest, *affected])
    return touch_containers(connection, repository)


def _tag(connection: Connection, key: str, values: Values | None) -> None:
    repository, name = split_tag_key(key)
    target = values.get("target") if values is not None else None
    before = _TARGET.first(connection, {"repository": repository, "name": name})
    affected = {before[0]} if before is not None else set()
    if values is None or not isinstance(target, dict):
        remove(connection, tags, repository=repository, name=name)
        return settle(connection, repository, affected)
    row = {
        "repository": repository,
        "name": name,
        "id": id_and_aliases(values.get("ids"))[0],
        "digest": text_of(target.get("digest")),
        "immutable": bool(target.get("immutable")),
        "pushed_ms": number_of(target.get("pushed_ms")),
        "pushed_by": text_of(target.get("pushed_by")),
    }
    upsert(tags).run(connection, row)
    return settle(connection, repository, affected | {text_of(target.get("digest"))})


def _blob(connection: Connection, key: str, values: Values | None) -> None:
    repository, digest = split_content_key(key)
    if values is None:
        count_link(connection, repository, digest, None)
        link_went(connection, repository, digest)
        return remove(connection, blob_links, repository=repository, digest=digest)
    row = {
        "repository": repository,
        "digest": digest,
        "size": number_of(values.get("size")),
        "linked_ms": number_of(values.get("linked_ms")),
    }
    count_link(connection, repository, digest, number_of(values.get("size")))
    upsert(blob_links).run(connection, row)
    return link_came(connection, repository, digest)


CONTENT: Final[Mapping[str, Projection]] = {"manifest": _manifest, "tag": _tag, "blob": _blob}
