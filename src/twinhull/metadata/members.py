"""Queries about the cluster: its nodes, what was confirmed, invites, and what the nodes' blobs lack."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, delete, func, select, union_all

from twinhull.kit.digest import Digest
from twinhull.metadata.tables import accounts
from twinhull.metadata.tables.columns import upsert
from twinhull.metadata.tables.content import blob_links, manifest_blobs, manifest_children
from twinhull.metadata.tables.log import records
from twinhull.metadata.tables.own import hybrid_clock, invites
from twinhull.records.kinds import KINDS, NODE
from twinhull.records.merge import decode, values_of


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A member of the cluster as its record says."""

    id: str
    name: str
    slot: int
    # HOST:PORT that peers dial.
    address: str
    # Where clients reach it, for people and links; may be empty.
    url: str
    # JSON web keys that its tokens may be signed with.
    token_keys: list[dict[str, str]]
    joined_ms: int


def nodes(connection: Connection) -> list[Node]:
    """Return the members in the order of their slots."""
    rows = connection.execute(select(accounts.nodes).order_by(accounts.nodes.c.slot))
    return [
        Node(
            id=row.id,
            name=row.name,
            slot=row.slot,
            address=row.address,
            url=row.url,
            token_keys=msgspec.json.decode(row.token_keys, type=list[dict[str, str]]),
            joined_ms=row.joined_ms,
        )
        for row in rows
    ]


def is_member(connection: Connection, node: str) -> bool:
    """Tell whether the node is a member now."""
    return connection.execute(select(accounts.nodes.c.id).where(accounts.nodes.c.id == node)).first() is not None


def was_removed(connection: Connection, node: str) -> bool:
    """Tell whether the node was a member and is none any more."""
    query = select(records.c.dead).where(records.c.kind == NODE.name, records.c.key == node)
    return bool(connection.execute(query).scalar())


def removed_nodes(connection: Connection) -> list[str]:
    """Return who was a member and is none any more; those of long ago are forgotten with their records."""
    query = select(records.c.key).where(records.c.kind == NODE.name, records.c.dead).order_by(records.c.key)
    return [str(row.key) for row in connection.execute(query)]


def slots_ever_used(connection: Connection) -> set[int]:
    """Return the slots of all nodes there are and were: a slot given twice would give ids twice."""
    rows = connection.execute(select(records.c.record).where(records.c.kind == NODE.name))
    slots = set()
    for (encoded,) in rows:
        slot = values_of(KINDS[NODE.name], decode(encoded)).get("slot")
        if isinstance(slot, int):
            slots.add(slot)
    return slots


def add_invite(connection: Connection, secret_hash: str, expires_ms: int) -> None:
    """Remember an invite."""
    upsert(invites).run(connection, {"secret_hash": secret_hash, "expires_ms": expires_ms})


def use_invite(connection: Connection, secret_hash: str, now_ms: int) -> bool:
    """Forget an invite, and tell whether it was there and has not expired: it opens the door once."""
    connection.execute(delete(invites).where(invites.c.expires_ms < now_ms))
    used = connection.execute(delete(invites).where(invites.c.secret_hash == secret_hash))
    return used.rowcount == 1


def blobs_of_manifest(connection: Connection, repository: str, digest: str) -> list[tuple[Digest, int]]:
    """Return digest and size of the blobs that a manifest must have."""
    query = select(manifest_blobs.c.blob, manifest_blobs.c.size).where(
        manifest_blobs.c.repository == repository,
        manifest_blobs.c.manifest == digest,
        manifest_blobs.c.required.is_(True),
    )
    return [(Digest(row.blob), int(row.size)) for row in connection.execute(query)]


def children_of_manifest(connection: Connection, repository: str, digest: str) -> list[str]:
    """Return the manifests that an index names."""
    query = select(manifest_children.c.child).where(
        manifest_children.c.repository == repository, manifest_children.c.parent == digest
    )
    return [row.child for row in connection.execute(query)]


def all_blobs_of(connection: Connection, repository: str, digest: str) -> list[tuple[str, int]]:
    """Return digest and size of the blobs that a manifest, and all that it names, must have."""
    found: dict[str, int] = {}
    seen, due = {digest}, [digest]
    while due:
        manifest = due.pop()
        found.update(dict(blobs_of_manifest(connection, repository, manifest)))
        for child in children_of_manifest(connection, repository, manifest):
            if child not in seen:
                seen.add(child)
                due.append(child)
    return sorted(found.items())


def a_manifest_naming(connection: Connection, repository: str, blob: str) -> str | None:
    """Return a manifest of the repository that names the blob."""
    query = select(manifest_blobs.c.manifest).where(manifest_blobs.c.repository == repository, manifest_blobs.c.blob == blob)
    return connection.execute(query.limit(1)).scalar()


def named_blobs_page(connection: Connection, after: str, limit: int) -> list[tuple[Digest, int]]:
    """Return digest and size of blobs that some manifest or link names, in the order of digests, after one of them."""
    in_manifests = select(manifest_blobs.c.blob.label("digest"), func.max(manifest_blobs.c.size).label("size")).where(
        manifest_blobs.c.required.is_(True), manifest_blobs.c.blob > after
    )
    linked = select(blob_links.c.digest, func.max(blob_links.c.size).label("size")).where(blob_links.c.digest > after)
    # Each part of its own is read along an index no further than it must be; together they would be read whole for each page.
    parts = (
        part.group_by(digest).order_by(digest).limit(limit).subquery()
        for part, digest in ((in_manifests, manifest_blobs.c.blob), (linked, blob_links.c.digest))
    )
    named = union_all(*map(select, parts)).subquery()
    query = select(named.c.digest, func.max(named.c.size)).group_by(named.c.digest).order_by(named.c.digest).limit(limit)
    return [(Digest(row[0]), int(row[1])) for row in connection.execute(query)]


def clock_ms(connection: Connection) -> int:
    """Return the latest time (unix) in a stamp of this node's, or one that it has seen."""
    return int(connection.execute(select(func.max(hybrid_clock.c.ms))).scalar() or 0)
