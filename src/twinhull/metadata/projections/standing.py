"""How an artifact stands in its repository: whether a tag names it, what it is an accessory of, whether lists show it.

Lists show what people pushed: not the images of an index, unless they have a tag of their own, and not what belongs to
another artifact that is there (signatures, SBOMs). All of it follows from manifests and tags, in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection

from twinhull.metadata.statement import Statement

# What tells its subject by a tag: `sha256-<hex>.sig`.
_COSIGN: Final = "signature.cosign"
_ALGORITHM: Final = "sha256:"

_CHILDREN: Final = Statement("SELECT child FROM manifest_children WHERE repository = :repository AND parent = :digest")
_ACCESSORIES: Final = Statement("SELECT digest FROM manifests WHERE repository = :repository AND accessory_of = :digest")
_STANDING: Final = Statement(
    "SELECT subject, accessory_type, accessory_of, tagged, listed,"
    " EXISTS (SELECT 1 FROM tags WHERE tags.repository = :repository AND tags.digest = :digest),"
    " EXISTS (SELECT 1 FROM manifest_children WHERE repository = :repository AND child = :digest)"
    " FROM manifests WHERE repository = :repository AND digest = :digest"
)
_SIGNED: Final = Statement(
    "SELECT substr(name, 8, 64) FROM tags WHERE repository = :repository AND digest = :digest AND length(name) = 75"
    " AND substr(name, 1, 7) = 'sha256-' AND substr(name, 72) = '.sig' ORDER BY name LIMIT 1"
)
_IS_THERE: Final = Statement("SELECT 1 FROM manifests WHERE repository = :repository AND digest = :digest")
_SET: Final = Statement(
    "UPDATE manifests SET accessory_of = :accessory_of, tagged = :tagged, listed = :listed"
    " WHERE repository = :repository AND digest = :digest"
)


def children_of(connection: Connection, repository: str, digest: str) -> list[str]:
    """Return the manifests that an index lists."""
    return [row[0] for row in _CHILDREN.all(connection, {"repository": repository, "digest": digest})]


def accessories_of(connection: Connection, repository: str, digest: str) -> list[str]:
    """Return the manifests that belong to this one."""
    return [row[0] for row in _ACCESSORIES.all(connection, {"repository": repository, "digest": digest})]


def settle(connection: Connection, repository: str, digests: Iterable[str]) -> None:
    """Bring the standing of these manifests to match what is there; those that are not there are passed over."""
    for digest in digests:
        _settle(connection, {"repository": repository, "digest": digest})


def _settle(connection: Connection, key: dict[str, str]) -> None:
    row = _STANDING.first(connection, key)
    if row is None:
        return
    subject, accessory_type, *before, tagged, has_parent = row
    accessory_of = subject
    if not subject and accessory_type == _COSIGN and tagged:
        signed = _SIGNED.first(connection, key)
        accessory_of = _ALGORITHM + signed[0] if signed is not None else ""
    belongs = bool(accessory_of) and (
        _IS_THERE.first(connection, {"repository": key["repository"], "digest": accessory_of}) is not None
    )
    after = [accessory_of, bool(tagged), not belongs and bool(tagged or not has_parent)]
    if after != [before[0], bool(before[1]), bool(before[2])]:
        _SET.run(connection, {**key, "accessory_of": after[0], "tagged": after[1], "listed": after[2]})
