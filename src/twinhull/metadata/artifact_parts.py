"""Queries for what is shown beside artifacts, for a whole page of them at once, and for their tags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, and_, exists, or_, select

from twinhull.metadata.artifacts import Artifact, Key, whole
from twinhull.metadata.documents import Document, find_by_ids
from twinhull.metadata.filtering import ANYTHING, EVERYTHING, Fields, Slice, Wanted, count
from twinhull.metadata.tables.content import manifest_children, manifests, tags
from twinhull.metadata.tables.documents import artifact_labels, pulls
from twinhull.metadata.tables.log import manifest_contents
from twinhull.records.kinds import LABEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A tag as lists show it."""

    repository: str
    name: str
    id: int
    digest: str
    pushed_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """What an index lists, as far as it is there."""

    parent: Key
    digest: str
    id: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """When an artifact was last pulled, at all and by each of its tags, as far as it was pulled by one."""

    last_ms: int = 0
    tags_ms: Mapping[str, int] = field(default_factory=dict)

    def joined(self, last_ms: int, tags_ms: Mapping[str, int]) -> Pulled:
        """Return the later of both, also for each tag."""
        tags = {name: max(self.tags_ms.get(name, 0), at_ms) for name, at_ms in tags_ms.items()}
        return Pulled(last_ms=max(self.last_ms, last_ms), tags_ms={**self.tags_ms, **tags})


NEVER_PULLED: Final = Pulled()


_TAG_FIELDS: Final = Fields(
    {"id": tags.c.id, "name": tags.c.name, "push_time": tags.c.pushed_ms, "creation_time": tags.c.pushed_ms},
    order=(tags.c.pushed_ms.desc(), tags.c.id.desc()),
)


# -- what belongs to artifacts -------------------------------------------------------------------------------------


def _by_repository(keys: Iterable[Key]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for repository, digest in keys:
        found.setdefault(repository, []).append(digest)
    return found


def _of_keys(repository: ColumnElement[str], digest: ColumnElement[str], keys: Sequence[Key]) -> ColumnElement[bool]:
    pairs = [and_(repository == name, digest.in_(digests)) for name, digests in _by_repository(keys).items()]
    return or_(*pairs)


def tags_of_artifacts(connection: Connection, keys: Sequence[Key]) -> dict[Key, list[Tag]]:
    """Return the tags of these artifacts, newest first; those without are left out."""
    found: dict[Key, list[Tag]] = {}
    if keys:
        query = select(*_tag_columns()).where(_of_keys(tags.c.repository, tags.c.digest, keys))
        for row in connection.execute(query.order_by(*_TAG_FIELDS.ordering(ANYTHING))).mappings():
            tag = _tag(row)
            found.setdefault((tag.repository, tag.digest), []).append(tag)
    return found


def children_of_artifacts(connection: Connection, keys: Sequence[Key]) -> dict[Key, list[Child]]:
    """Return the manifests that these indexes list and that are there; what lists none is left out."""
    found: dict[Key, list[Child]] = {}
    if keys:
        query = (
            select(manifest_children, manifests.c.id, manifests.c.total_bytes)
            .join(
                manifests,
                and_(
                    manifests.c.repository == manifest_children.c.repository,
                    manifests.c.digest == manifest_children.c.child,
                ),
            )
            .where(_of_keys(manifest_children.c.repository, manifest_children.c.parent, keys))
        )
        for row in connection.execute(query):
            parent = row.repository, row.parent
            child = Child(parent=parent, digest=row.child, id=row.id, total_bytes=row.total_bytes)
            found.setdefault(parent, []).append(child)
    return found


def accessories_of_artifacts(connection: Connection, keys: Sequence[Key]) -> dict[Key, list[Artifact]]:
    """Return what belongs to these artifacts, oldest first; those without are left out."""
    found: dict[Key, list[Artifact]] = {}
    if keys:
        chosen = select(manifests.c.repository).where(_of_keys(manifests.c.repository, manifests.c.accessory_of, keys))
        query = whole(chosen).order_by(manifests.c.pushed_ms, manifests.c.id)
        for row in connection.execute(query).mappings():
            accessory = Artifact(**row)
            found.setdefault((accessory.repository, accessory.accessory_of), []).append(accessory)
    return found


def list_accessories(
    connection: Connection, repository: str, digest: str, *, wanted: Wanted = ANYTHING, part: Slice = EVERYTHING
) -> tuple[list[Artifact], int]:
    """Return that part of what belongs to an artifact, newest first, and how many there are in all."""
    fields = Fields(
        {
            "id": manifests.c.id,
            "artifact_id": manifests.c.id,
            "digest": manifests.c.digest,
            "size": manifests.c.total_bytes,
            "type": manifests.c.accessory_type,
            "creation_time": manifests.c.pushed_ms,
        },
        order=(manifests.c.pushed_ms.desc(), manifests.c.id.desc()),
    )
    chosen = select(manifests.c.repository).where(manifests.c.repository == repository, manifests.c.accessory_of == digest)
    query = fields.select(whole(chosen), wanted)
    rows = connection.execute(part.of(query)).mappings()
    return [Artifact(**row) for row in rows], count(connection, query)


def parents_of(connection: Connection, repository: str, digest: str) -> list[str]:
    """Return the digests of the indexes that list a manifest."""
    query = select(manifest_children.c.parent).where(
        manifest_children.c.repository == repository, manifest_children.c.child == digest
    )
    return [str(row[0]) for row in connection.execute(query.order_by(manifest_children.c.parent))]


def outermost(connection: Connection, repository: str, limit: int) -> list[str]:
    """Return digests that no index of the repository lists, at most so many."""
    listed = exists().where(
        manifest_children.c.repository == manifests.c.repository, manifest_children.c.child == manifests.c.digest
    )
    query = select(manifests.c.digest).where(manifests.c.repository == repository, ~listed)
    return [str(row[0]) for row in connection.execute(query.order_by(manifests.c.digest).limit(limit))]


def contents_of(connection: Connection, digests: Iterable[str]) -> dict[str, bytes]:
    """Return the exact bytes of these manifests."""
    query = select(manifest_contents).where(manifest_contents.c.digest.in_(list(digests)))
    return {row.digest: bytes(row.content) for row in connection.execute(query)}


def labels_of_artifacts(connection: Connection, keys: Sequence[Key]) -> dict[Key, list[Document]]:
    """Return the labels of these artifacts, by name; those without are left out."""
    if not keys:
        return {}
    of_keys = _of_keys(artifact_labels.c.repository, artifact_labels.c.digest, keys)
    query = select(artifact_labels.c.repository, artifact_labels.c.digest, artifact_labels.c.label_id).where(of_keys)
    attached = [((str(row.repository), str(row.digest)), int(row.label_id)) for row in connection.execute(query)]
    labels = find_by_ids(connection, LABEL, {number for _, number in attached})
    found: dict[Key, dict[str, Document]] = {}
    for key, number in attached:
        if number in labels:
            found.setdefault(key, {})[labels[number].key] = labels[number]
    return {key: sorted(held.values(), key=lambda label: (label.name, label.key)) for key, held in found.items()}


def pulls_of_artifacts(connection: Connection, keys: Sequence[Key]) -> dict[Key, Pulled]:
    """Return when these artifacts were last pulled, by whatever node; those that never were are left out."""
    found: dict[Key, Pulled] = {}
    if keys:
        query = select(pulls.c.repository, pulls.c.digest, pulls.c.last_ms, pulls.c.tags)
        for row in connection.execute(query.where(_of_keys(pulls.c.repository, pulls.c.digest, keys))):
            before = found.get((row.repository, row.digest), NEVER_PULLED)
            found[row.repository, row.digest] = before.joined(row.last_ms, msgspec.json.decode(row.tags, type=dict[str, int]))
    return found


# -- tags ----------------------------------------------------------------------------------------------------------


def _tag_columns() -> list[ColumnElement[Any]]:
    return [tags.c[name] for name in Tag.__dataclass_fields__]


def _tag(row: RowMapping) -> Tag:
    return Tag(**row)


def list_tags(
    connection: Connection, repository: str, digest: str, *, wanted: Wanted = ANYTHING, part: Slice = EVERYTHING
) -> tuple[list[Tag], int]:
    """Return that part of an artifact's tags, newest first, and how many there are in all."""
    query = select(*_tag_columns()).where(tags.c.repository == repository, tags.c.digest == digest)
    query = _TAG_FIELDS.select(query, wanted)
    return [_tag(row) for row in connection.execute(part.of(query)).mappings()], count(connection, query)
