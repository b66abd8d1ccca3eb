"""The two sides of a replication: what a registry has to be able to do to be copied from, or to. Protocols only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from twinhull.kit.digest import Digest
from twinhull.mirror.selection import Candidate, Selection

# Gives the bytes of a blob from an offset on, and can be asked again where a transfer broke.
Pieces = Callable[[int], AsyncGenerator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest's exact bytes, which hash to its digest."""

    digest: Digest
    media_type: str
    content: bytes


class Source(Protocol):
    """A registry that is copied from. What it is asked may raise Unavailable, Denied and their like."""

    def repositories(self, selection: Selection) -> AsyncIterator[str]:
        """Yield the repositories from which a policy may pick."""
        ...

    def candidates(self, repository: str) -> AsyncIterator[Candidate]:
        """Yield what can be picked from a repository: artifacts, without those that belong to others."""
        ...

    async def is_public(self, repository: str) -> bool:
        """Tell whether everybody may pull from the repository's project; False where there are no projects."""
        ...

    async def digest(self, repository: str, reference: str) -> Digest | None:
        """Return the digest that a tag names, or the digest itself; None when it is not there."""
        ...

    async def manifest(self, repository: str, digest: Digest) -> Manifest | None:
        """Return a manifest, or None when it is not there, any more or yet."""
        ...

    async def accessories(self, repository: str, digest: Digest) -> Sequence[Candidate]:
        """Return what belongs to a manifest: signatures and the like, with the tags by which they are found."""
        ...

    def blob(self, repository: str, digest: Digest, size: int) -> Pieces:
        """Return what gives the bytes of a blob."""
        ...


class Destination(Protocol):
    """A registry that is copied to. What it is asked may raise Unavailable, Denied and their like."""

    async def prepare(self, repository: str, *, public: bool) -> None:
        """Make what has to be there before something is pushed: the repository's project, say."""
        ...

    async def digest(self, repository: str, reference: str) -> Digest | None:
        """Return the digest that a tag names, or the digest itself; None when it is not there."""
        ...

    async def has_blob(self, repository: str, digest: Digest) -> bool:
        """Tell whether a blob is there, or could be made visible there without its bytes, and now is."""
        ...

    async def put_blob(self, repository: str, digest: Digest, size: int, pieces: Pieces) -> None:
        """Store a blob."""
        ...

    async def put_manifest(self, repository: str, manifest: Manifest, tag: str = "") -> None:
        """Store a manifest, and let the tag name it if there is one."""
        ...

    async def delete(self, repository: str, reference: str) -> bool:
        """Delete a tag alone, or the manifest of a digest with its tags; False when it was not there."""
        ...
