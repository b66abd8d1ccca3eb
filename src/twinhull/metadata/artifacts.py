"""Queries for artifacts and tags as people see them: filtered, sorted, in pages, a fixed number of queries for any page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, exists, func, literal, or_, select

from twinhull.kit.errors import Invalid
from twinhull.metadata.filtering import ANYTHING, EVERYTHING, Exact, Fields, Fuzzy, Slice, Wanted, contains, count, equals
from twinhull.metadata.tables.content import manifest_children, manifests, repositories, tags
from twinhull.metadata.tables.log import manifest_contents

_KEYS_MAX: Final = 500

# A digest within its repository.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A manifest as lists show it."""

    repository: str
    repository_id: int
    digest: str
    id: int
    media_type: str
    artifact_type: str
    config_type: str
    config_digest: str
    type: str
    icon: str
    # JSON object, or empty.
    attributes: str
    total_bytes: int
    # JSON object.
    annotations: str
    accessory_type: str
    accessory_of: str
    pushed_ms: int

    @property
    def key(self) -> Key:
        """What tells it apart from all others."""
        return self.repository, self.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A tag as lists show it."""

    repository: str
    name: str
    id: int
    digest: str
    immutable: bool
    pushed_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """What an index lists, as far as it is there."""

    parent: Key
    digest: str
    id: int
    total_bytes: int


_COLUMNS: Final = [manifests.c[name] for name in Artifact.__dataclass_fields__ if name != "repository_id"]
_FIELDS: Final = Fields(
    {
        "id": manifests.c.id,
        "digest": manifests.c.digest,
        "type": manifests.c.type,
        "media_type": manifests.c.config_type,
        "artifact_type": manifests.c.artifact_type,
        "manifest_media_type": manifests.c.media_type,
        "size": manifests.c.total_bytes,
        "icon": manifests.c.icon,
        "push_time": manifests.c.pushed_ms,
        "creation_time": manifests.c.pushed_ms,
        "repository_name": manifests.c.repository,
        "repository_id": repositories.c.id,
    },
    order=(manifests.c.pushed_ms.desc(), manifests.c.id.desc()),
)
_TAG_FIELDS: Final = Fields(
    {"id": tags.c.id, "name": tags.c.name, "push_time": tags.c.pushed_ms, "creation_time": tags.c.pushed_ms},
    order=(tags.c.pushed_ms.desc(), tags.c.id.desc()),
)


# -- artifacts -----------------------------------------------------------------------------------------------------


def find_artifact(connection: Connection, repository: str, reference: str) -> Artifact | None:
    """Return the artifact of that digest, or that the tag names."""
    digest: ColumnElement[bool] = equals(manifests.c.digest, reference)
    if ":" not in reference:
        named = select(tags.c.digest).where(equals(tags.c.repository, repository), equals(tags.c.name, reference))
        digest = manifests.c.digest == named.scalar_subquery()
    query = _whole(select(literal(1)).where(equals(manifests.c.repository, repository), digest))
    row = connection.execute(query).mappings().first()
    return Artifact(**row) if row is not None else None


def list_artifacts(
    connection: Connection,
    *,
    repository: str = "",
    project: str = "",
    latest_only: bool = False,
    wanted: Wanted = ANYTHING,
    part: Slice = EVERYTHING,
) -> tuple[list[Artifact], int]:
    """Return that part of the listed artifacts of a repository, or of a project, newest first, and how many there are in all.

    `latest_only` leaves of each repository the one that was pushed last. Raises Invalid for conditions that make no sense.
    """
    chosen = _chosen(repository, project, wanted)
    if latest_only:
        chosen = chosen.where(_is_latest())
    # The page is found in an index that holds all it takes; only then are the rows read that are in it.
    page = part.of(chosen.order_by(*_FIELDS.ordering(wanted)))
    rows = connection.execute(_whole(page).order_by(*_FIELDS.ordering(wanted))).mappings()
    return [Artifact(**row) for row in rows], count(connection, chosen)


def _chosen(repository: str, project: str, wanted: Wanted) -> Select[Any]:
    query = select(manifests.c.repository, manifests.c.digest)
    if project or "repositoryid" in wanted.conditions or any(key == "repositoryid" for key, _ in wanted.order):
        query = query.join(repositories, repositories.c.name == manifests.c.repository)
    if repository:
        query = query.where(equals(manifests.c.repository, repository))
    if project:
        query = query.where(repositories.c.project == project)
    query = query.where(_base(wanted), *_tag_conditions(wanted))
    return _FIELDS.filtered(query, wanted)


def _base(wanted: Wanted) -> ColumnElement[bool]:
    # Harbor's base=* shows all there is, also what belongs to something else.
    return literal(value=True) if wanted.exact("base") == "*" else manifests.c.listed.is_(True)


def _tag_conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    condition = wanted.get("tags")
    if condition is None:
        return []
    if isinstance(condition, Exact) and condition.value in ("*", "nil"):
        return [manifests.c.tagged.is_(condition.value == "*")]
    if isinstance(condition, Exact):
        named = equals(tags.c.name, condition.value)
    elif isinstance(condition, Fuzzy):
        named = contains(tags.c.name, condition.part)
    else:
        raise Invalid("tags takes *, nil, a name, or ~ and a part of it")
    return [exists().where(tags.c.repository == manifests.c.repository, tags.c.digest == manifests.c.digest, named)]


def _is_latest() -> ColumnElement[bool]:
    newer = manifests.alias("newer")
    later = or_(
        newer.c.pushed_ms > manifests.c.pushed_ms,
        and_(newer.c.pushed_ms == manifests.c.pushed_ms, newer.c.id > manifests.c.id),
    )
    return ~exists().where(newer.c.repository == manifests.c.repository, newer.c.listed.is_(True), later)


def _whole(keys: Select[Any]) -> Select[Any]:
    """Return the query for all columns of what another query chooses of the manifests."""
    chosen = keys.with_only_columns(manifests.c.repository, manifests.c.digest).subquery()
    return (
        select(*_COLUMNS, func.coalesce(repositories.c.id, 0).label("repository_id"))
        .select_from(chosen)
        .join(manifests, and_(manifests.c.repository == chosen.c.repository, manifests.c.digest == chosen.c.digest))
        .outerjoin(repositories, repositories.c.name == manifests.c.repository)
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
        query = _whole(chosen).order_by(manifests.c.pushed_ms, manifests.c.id)
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
    query = fields.select(_whole(chosen), wanted)
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


def find_immutable_tag(connection: Connection, repository: str) -> str | None:
    """Return the name of a tag of the repository that is immutable, or None."""
    query = select(tags.c.name).where(tags.c.repository == repository, tags.c.immutable.is_(True))
    name = connection.execute(query.order_by(tags.c.name).limit(1)).scalar()
    return str(name) if name is not None else None


def decoded(text: str) -> dict[str, Any]:
    """Return the JSON object of a column; an empty one for an empty text."""
    return msgspec.json.decode(text, type=dict[str, Any]) if text else {}
