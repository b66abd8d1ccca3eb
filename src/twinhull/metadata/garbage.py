"""Queries about what may be garbage: links that no manifest needs, and bytes that nothing names. For the collector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Final, NamedTuple

from sqlalchemy import Connection, TextClause, bindparam, text

from twinhull.kit.digest import Digest
from twinhull.metadata.projections.garbage import link_went
from twinhull.metadata.statement import Statement

# As many digests as one statement asks for; SQLite takes at most 32,766 parameters.
BATCH: Final = 500

_STAMP: Final = text("UPDATE garbage_candidates SET since_ms = :now_ms WHERE since_ms = 0")
_HAS_NEW: Final = text("SELECT 1 FROM garbage_candidates WHERE since_ms = 0 LIMIT 1")
_IN_REPOSITORIES: Final = text(
    "SELECT candidate.digest, candidate.repository, link.linked_ms, EXISTS (SELECT 1 FROM manifest_blobs"
    " WHERE manifest_blobs.repository = candidate.repository AND manifest_blobs.blob = candidate.digest) AS named"
    " FROM garbage_candidates AS candidate LEFT JOIN blob_links AS link"
    " ON link.repository = candidate.repository AND link.digest = candidate.digest"
    " WHERE candidate.repository <> '' AND candidate.since_ms > 0 AND candidate.since_ms <= :due_ms"
    " AND (candidate.digest, candidate.repository) > (:digest, :repository)"
    " ORDER BY candidate.digest, candidate.repository LIMIT :limit"
)
_ON_DISK: Final = text(
    "SELECT digest FROM garbage_candidates WHERE repository = '' AND since_ms > 0 AND since_ms <= :due_ms"
    " AND digest > :after ORDER BY digest LIMIT :limit"
)
_NAMED: Final = text(
    "SELECT blob FROM manifest_blobs WHERE blob IN :digests UNION SELECT digest FROM blob_links WHERE digest IN :digests"
).bindparams(bindparam("digests", expanding=True))
_IN_MANIFESTS: Final = text("SELECT DISTINCT blob FROM manifest_blobs WHERE blob IN :digests").bindparams(
    bindparam("digests", expanding=True)
)
_LINKS: Final = text("SELECT digest, repository FROM blob_links WHERE digest IN :digests").bindparams(
    bindparam("digests", expanding=True)
)
_YOUNG: Final = text(
    "SELECT DISTINCT digest FROM garbage_candidates WHERE digest IN :digests AND (since_ms = 0 OR since_ms > :quiet_ms)"
).bindparams(bindparam("digests", expanding=True))
_KNOWN: Final = text("SELECT DISTINCT digest FROM garbage_candidates WHERE digest IN :digests").bindparams(
    bindparam("digests", expanding=True)
)
_WAITING: Final = text(
    "SELECT digest FROM garbage_candidates WHERE digest > :after GROUP BY digest ORDER BY digest LIMIT :limit"
)
_COUNT: Final = text("SELECT count(DISTINCT digest) FROM garbage_candidates")
# Each part goes along an index, so that nothing is sorted in memory.
_STORED: Final = text(
    "SELECT sum(blobs), sum(bytes) FROM ("
    "SELECT count(*) AS blobs, coalesce(sum(size), 0) AS bytes FROM"
    " (SELECT max(size) AS size FROM manifest_blobs WHERE required GROUP BY blob) AS in_manifests"
    " UNION ALL SELECT count(*), coalesce(sum(size), 0) FROM"
    " (SELECT max(size) AS size FROM blob_links"
    " WHERE NOT EXISTS (SELECT 1 FROM manifest_blobs WHERE blob = digest AND required) GROUP BY digest) AS linked_only"
    ") AS parts"
)
_UNTAGGED_WHERE: Final = (
    " pushed_ms <= :before_ms"
    " AND NOT EXISTS (SELECT 1 FROM tags WHERE tags.repository = manifests.repository AND tags.digest = manifests.digest)"
    " AND NOT EXISTS (SELECT 1 FROM manifest_children WHERE manifest_children.repository = manifests.repository"
    " AND manifest_children.child = manifests.digest)"
    # What describes a manifest that is there (a signature, an SBOM) goes with it, not before.
    " AND (subject = '' OR NOT EXISTS (SELECT 1 FROM manifests AS subjects WHERE subjects.repository = manifests.repository"
    " AND subjects.digest = manifests.subject))"
)
# Texts put together from constants above.
_UNTAGGED: Final = text(
    "SELECT repository, digest FROM manifests WHERE (repository, digest) > (:repository, :digest) AND"  # noqa: S608
    + _UNTAGGED_WHERE
    + " ORDER BY repository, digest LIMIT :limit"
)
_IS_UNTAGGED: Final = text(
    "SELECT 1 FROM manifests WHERE repository = :repository AND digest = :digest AND" + _UNTAGGED_WHERE  # noqa: S608
)
_ADD: Final = Statement(
    "INSERT INTO garbage_candidates (digest, repository, since_ms) VALUES (:digest, '', :since_ms)"
    " ON CONFLICT (digest, repository) DO NOTHING"
)
_DROP: Final = Statement("DELETE FROM garbage_candidates WHERE digest = :digest AND repository = :repository")
_SEEN_AT: Final = Statement(
    "UPDATE garbage_candidates SET since_ms = :since_ms WHERE digest = :digest AND repository = :repository"
)


class InRepository(NamedTuple):
    """A blob that may be of no use to a repository any more."""

    digest: Digest
    repository: str
    # When it was uploaded, mounted or asked for last; None: it is not linked.
    linked_ms: int | None
    # Whether a manifest of the repository names it after all.
    named: bool


def has_new_candidates(connection: Connection) -> bool:
    """Tell whether there are candidates whose grace has not begun."""
    return connection.execute(_HAS_NEW).first() is not None


def begin_grace(connection: Connection, now_ms: int) -> None:
    """Let the grace of new candidates begin now."""
    connection.execute(_STAMP, {"now_ms": now_ms})


def due_in_repositories(connection: Connection, due_ms: int, after: tuple[str, str], limit: int) -> list[InRepository]:
    """Return candidates whose grace began by then, in the order of (digest, repository), after one of them."""
    values = {"due_ms": due_ms, "digest": after[0], "repository": after[1], "limit": limit}
    rows = connection.execute(_IN_REPOSITORIES, values)
    return [InRepository(Digest(row[0]), row[1], row[2], bool(row[3])) for row in rows]


def due_on_disk(connection: Connection, due_ms: int, after: str, limit: int) -> list[Digest]:
    """Return digests whose bytes may be garbage and whose grace began by then, in order, after one of them."""
    rows = connection.execute(_ON_DISK, {"due_ms": due_ms, "after": after, "limit": limit})
    return [Digest(row[0]) for row in rows]


def named_among(connection: Connection, digests: Sequence[str], unlinked: Set[tuple[str, str]] = frozenset()) -> set[str]:
    """Return those of the digests that a manifest or a link anywhere names, whether their bytes must be here or not.

    Links (digest, repository) that are as good as deleted do not count.
    """
    if not unlinked:
        return _among(connection, _NAMED, digests, {})
    links = (digest for digest, repository in links_among(connection, digests) if (digest, repository) not in unlinked)
    return _among(connection, _IN_MANIFESTS, digests, {}) | set(links)


def links_among(connection: Connection, digests: Sequence[str]) -> list[tuple[str, str]]:
    """Return (digest, repository) of all links to one of the digests."""
    found: list[tuple[str, str]] = []
    for start in range(0, len(digests), BATCH):
        rows = connection.execute(_LINKS, {"digests": list(digests[start : start + BATCH])})
        found.extend((row[0], row[1]) for row in rows)
    return found


def needed_among(
    connection: Connection, digests: Sequence[str], quiet_ms: int | None, unlinked: Set[tuple[str, str]] = frozenset()
) -> set[str]:
    """Return those of the digests that another node must not take for garbage: named here, or named until after then.

    Without a time, those that are named now.
    """
    lately = set() if quiet_ms is None else unnamed_lately_among(connection, digests, quiet_ms)
    return named_among(connection, digests, unlinked) | lately


def unnamed_lately_among(connection: Connection, digests: Sequence[str], quiet_ms: int) -> set[str]:
    """Return those of the digests that lost a name after then, as far as a collector has seen when."""
    return _among(connection, _YOUNG, digests, {"quiet_ms": quiet_ms})


def candidates_among(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Return those of the digests that are candidates, due or not."""
    return _among(connection, _KNOWN, digests, {})


def _among(connection: Connection, query: TextClause, digests: Sequence[str], values: dict[str, int]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(digests), BATCH):
        batch = list(digests[start : start + BATCH])
        found.update(row[0] for row in connection.execute(query, {**values, "digests": batch}))
    return found


def candidates_after(connection: Connection, after: str, limit: int) -> list[Digest]:
    """Return the digests that are candidates, due or not, in order, after one of them."""
    return [Digest(row[0]) for row in connection.execute(_WAITING, {"after": after, "limit": limit})]


def count_candidates(connection: Connection) -> int:
    """Return how many blobs may be garbage, due or not."""
    return int(connection.execute(_COUNT).scalar_one())


def stored_blobs(connection: Connection) -> tuple[int, int]:
    """Return how many blobs are named and how many bytes they are, each counted once; reads all that names one."""
    row = connection.execute(_STORED).one()
    return int(row[0]), int(row[1])


def add_strays(connection: Connection, digests: Iterable[str], since_ms: int) -> None:
    """Make candidates of blobs on this node's disk that nothing names, in a writing transaction."""
    _ADD.run_for_each(connection, [{"digest": digest, "since_ms": since_ms} for digest in digests])


def drop_candidates(connection: Connection, rows: Iterable[tuple[str, str]]) -> None:
    """Forget candidates (digest, repository), in a writing transaction."""
    _DROP.run_for_each(connection, [{"digest": digest, "repository": repository} for digest, repository in rows])


def look_at_bytes(connection: Connection, candidate: tuple[str, str]) -> None:
    """Make a candidate in a repository, which has no link there, one of bytes; in a writing transaction."""
    link_went(connection, candidate[1], candidate[0])


def begin_grace_again(connection: Connection, rows: Iterable[tuple[str, str]], since_ms: int) -> None:
    """Let the grace of candidates (digest, repository) begin at that time, in a writing transaction."""
    values = [{"digest": digest, "repository": repository, "since_ms": since_ms} for digest, repository in rows]
    _SEEN_AT.run_for_each(connection, values)


def untagged_manifests(connection: Connection, before_ms: int, after: tuple[str, str], limit: int) -> list[tuple[str, str]]:
    """Return (repository, digest) of manifests pushed by then that no tag, index or subject holds, in order."""
    values = {"before_ms": before_ms, "repository": after[0], "digest": after[1], "limit": limit}
    return [(row[0], row[1]) for row in connection.execute(_UNTAGGED, values)]


def is_untagged(connection: Connection, repository: str, digest: str, before_ms: int) -> bool:
    """Tell whether the manifest is one of those that `untagged_manifests` returns."""
    values = {"repository": repository, "digest": digest, "before_ms": before_ms}
    return connection.execute(_IS_UNTAGGED, values).first() is not None
