"""Notes, while records become rows, which blobs may have become garbage; see metadata/tables/garbage.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection

from twinhull.metadata.statement import Statement

# Time is not known here: a collector fills it in, so a blob's grace begins when one has seen it.
_NOTE_UNNAMED: Final = Statement(
    "INSERT INTO garbage_candidates (digest, repository, since_ms) SELECT blob, repository, 0 FROM manifest_blobs"
    " WHERE repository = :repository AND manifest = :manifest"
    " ON CONFLICT (digest, repository) DO UPDATE SET since_ms = 0"
)
_NOTE: Final = Statement(
    "INSERT INTO garbage_candidates (digest, repository, since_ms) VALUES (:digest, :repository, 0)"
    " ON CONFLICT (digest, repository) DO UPDATE SET since_ms = 0"
)
_FORGET: Final = Statement("DELETE FROM garbage_candidates WHERE digest = :digest AND repository = :repository")
# The bytes have been without a name for as long as this repository's link was of no use, unless another was lost later.
_MOVE: Final = Statement(
    "INSERT INTO garbage_candidates (digest, repository, since_ms) SELECT digest, '', since_ms FROM garbage_candidates"
    " WHERE digest = :digest AND repository = :repository"
    " ON CONFLICT (digest, repository) DO UPDATE SET since_ms = CASE"
    " WHEN garbage_candidates.since_ms = 0 OR excluded.since_ms = 0 THEN 0"
    " WHEN garbage_candidates.since_ms > excluded.since_ms THEN garbage_candidates.since_ms ELSE excluded.since_ms END"
)
_NOTE_BYTES: Final = Statement(
    "INSERT INTO garbage_candidates (digest, repository, since_ms) VALUES (:digest, '', 0)"
    " ON CONFLICT (digest, repository) DO NOTHING"
)


def manifest_went(connection: Connection, repository: str, manifest: str) -> None:
    """Note that a manifest, whose rows are still there, names its blobs no more."""
    _NOTE_UNNAMED.run(connection, {"repository": repository, "manifest": manifest})


def manifest_came(connection: Connection, repository: str, blobs: Iterable[str]) -> None:
    """Note that a manifest of the repository names these blobs."""
    _FORGET.run_for_each(connection, [{"digest": blob, "repository": repository} for blob in blobs])


def link_came(connection: Connection, repository: str, digest: str) -> None:
    """Note that the blob is in the repository, and that nothing may name it there yet."""
    _NOTE.run(connection, {"digest": digest, "repository": repository})


def link_went(connection: Connection, repository: str, digest: str) -> None:
    """Note that the blob is in the repository no more, unless a manifest names it."""
    row = {"digest": digest, "repository": repository}
    _MOVE.run(connection, row)
    _NOTE_BYTES.run(connection, {"digest": digest})
    _FORGET.run(connection, row)
