"""Queries for artifacts and tags as people see them: filtered, sorted, in pages, a fixed number of queries for any page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, and_, exists, false, func, literal, or_, select

from twinhull.kit.errors import Invalid
from twinhull.metadata.documents import Document, find_by_ids, ids_of
from twinhull.metadata.filtering import (
    ANYTHING,
    EVERYTHING,
    AllOf,
    AnyOf,
    Exact,
    Fields,
    Fuzzy,
    Slice,
    Wanted,
    contains,
    count,
    equals,
)
from twinhull.metadata.tables.content import manifest_blobs, manifests, repositories, tags
from twinhull.metadata.tables.documents import artifact_labels
from twinhull.records.kinds import LABEL

_ID_LENGTH_MAX: Final = 18

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


# -- artifacts -----------------------------------------------------------------------------------------------------


def find_artifact(connection: Connection, repository: str, reference: str) -> Artifact | None:
    """Return the artifact of that digest, or that the tag names."""
    digest: ColumnElement[bool] = equals(manifests.c.digest, reference)
    if ":" not in reference:
        named = select(tags.c.digest).where(equals(tags.c.repository, repository), equals(tags.c.name, reference))
        digest = manifests.c.digest == named.scalar_subquery()
    query = whole(select(literal(1)).where(equals(manifests.c.repository, repository), digest))
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
    chosen = _chosen(repository, project, wanted).where(*_label_conditions(connection, wanted))
    if latest_only:
        chosen = chosen.where(_is_latest())
    # The page is found in an index that holds all it takes; only then are the rows read that are in it.
    page = part.of(chosen.order_by(*_FIELDS.ordering(wanted)))
    rows = connection.execute(whole(page).order_by(*_FIELDS.ordering(wanted))).mappings()
    return [Artifact(**row) for row in rows], count(connection, chosen)


def _chosen(repository: str, project: str, wanted: Wanted) -> Select[Any]:
    query = select(manifests.c.repository, manifests.c.digest)
    if project or "repositoryid" in wanted.conditions or any(key == "repositoryid" for key, _ in wanted.order):
        query = query.join(repositories, repositories.c.name == manifests.c.repository)
    if repository:
        query = query.where(equals(manifests.c.repository, repository))
    if project:
        query = query.where(repositories.c.project == project)
    query = query.where(_base(wanted), *_tag_conditions(repository, wanted))
    return _FIELDS.filtered(query, wanted)


def _base(wanted: Wanted) -> ColumnElement[bool]:
    # Harbor's base=* shows all there is, also what belongs to something else.
    return literal(value=True) if wanted.exact("base") == "*" else manifests.c.listed.is_(True)


def _tag_conditions(repository: str, wanted: Wanted) -> list[ColumnElement[bool]]:
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
    if repository:
        # Looked for among the repository's tags once, not artifact by artifact.
        held = select(tags.c.digest).where(equals(tags.c.repository, repository), named)
        return [manifests.c.digest.in_(held)]
    return [exists().where(tags.c.repository == manifests.c.repository, tags.c.digest == manifests.c.digest, named)]


def _label_conditions(connection: Connection, wanted: Wanted) -> list[ColumnElement[bool]]:
    condition = wanted.get("labels")
    if condition is None:
        return []
    if not isinstance(condition, AllOf | AnyOf | Exact):
        raise Invalid("labels takes the ids of labels that all are on an artifact: labels=(1 2)")
    texts = [condition.value] if isinstance(condition, Exact) else condition.values
    if not all(text.isascii() and text.isdecimal() and len(text) <= _ID_LENGTH_MAX for text in texts):
        raise Invalid("labels takes ids of labels")
    found = find_by_ids(connection, LABEL, {int(text) for text in texts})
    held = [_holds(connection, found[int(text)]) if int(text) in found else false() for text in texts]
    return [or_(false(), *held)] if isinstance(condition, AnyOf) else held


def _holds(connection: Connection, label: Document) -> ColumnElement[bool]:
    numbers = ids_of(connection, label)
    return exists().where(
        artifact_labels.c.repository == manifests.c.repository,
        artifact_labels.c.digest == manifests.c.digest,
        # Not by its name: it may have had another when it was put there.
        artifact_labels.c.label_id.in_(numbers),
    )


def _is_latest() -> ColumnElement[bool]:
    newer = manifests.alias("newer")
    later = or_(
        newer.c.pushed_ms > manifests.c.pushed_ms,
        and_(newer.c.pushed_ms == manifests.c.pushed_ms, newer.c.id > manifests.c.id),
    )
    return ~exists().where(newer.c.repository == manifests.c.repository, newer.c.listed.is_(True), later)


def whole(keys: Select[Any]) -> Select[Any]:
    """Return the query for all columns of what another query chooses of the manifests."""
    chosen = keys.with_only_columns(manifests.c.repository, manifests.c.digest).subquery()
    return (
        select(*_COLUMNS, func.coalesce(repositories.c.id, 0).label("repository_id"))
        .select_from(chosen)
        .join(manifests, and_(manifests.c.repository == chosen.c.repository, manifests.c.digest == chosen.c.digest))
        .outerjoin(repositories, repositories.c.name == manifests.c.repository)
    )


def repositories_with_icon(connection: Connection, icon: str, *, in_projects: Iterable[str] | None) -> list[str]:
    """Return repositories, of these projects or of all, with an artifact that has this icon."""
    query = (
        select(manifests.c.repository)
        .join(
            manifest_blobs,
            and_(manifest_blobs.c.repository == manifests.c.repository, manifest_blobs.c.manifest == manifests.c.digest),
        )
        # By the index over blobs: few artifacts name one.
        .where(manifest_blobs.c.blob == icon, manifests.c.icon == icon)
    )
    if in_projects is not None:
        query = query.join(repositories, repositories.c.name == manifests.c.repository)
        query = query.where(repositories.c.project.in_(list(in_projects)))
    return [str(row[0]) for row in connection.execute(query.order_by(manifests.c.repository).limit(1))]


def decoded(text: str) -> dict[str, Any]:
    """Return the JSON object of a column; an empty one for an empty text."""
    return msgspec.json.decode(text, type=dict[str, Any]) if text else {}
