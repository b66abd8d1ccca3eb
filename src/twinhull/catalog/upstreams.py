"""What the catalog asks of the registries whose content projects stand for (proxy caches). Protocols, and one for none.

What is here of such a project's content is ordinary content of this cluster.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from twinhull.catalog.peers import BlobSource
from twinhull.kit.digest import Digest
from twinhull.kit.errors import BlobUnknown, ManifestUnknown
from twinhull.metadata.content import Referrer


class UpstreamManifest(NamedTuple):
    """What upstream names by a reference."""

    digest: Digest
    media_type: str
    # Empty when it is here.
    content: bytes


class ComingBlob(NamedTuple):
    """A blob on its way from upstream."""

    size: int
    source: BlobSource


class Upstreams(Protocol):
    """The registries that projects stand for, as seen by a request that misses something."""

    async def stands_for(self, project: str) -> bool:
        """Tell whether a project stands for another registry's content; costs next to nothing."""
        ...

    async def serves_deleted(self, project: str) -> bool:
        """Tell whether what upstream has no more is still to be served from here."""
        ...

    async def manifest(
        self, repository: str, reference: str | Digest, have: Digest | None, *, look_only: bool
    ) -> UpstreamManifest:
        """Return what upstream names so; unless somebody only looks, it is kept here from then on, with its blobs.

        `have` is what the reference names here. Raises RegistryLacks, RegistryRefused, RegistryBusy, RegistryUnreachable, or
        PeerUnavailable when this node's agent is not there.
        """
        ...

    async def blob_size(self, repository: str, digest: Digest) -> int:
        """Return the size of a blob that is not here; raises BlobUnknown also when upstream can't be asked, RegistryBusy."""
        ...

    async def blob(self, repository: str, digest: Digest) -> ComingBlob:
        """Return a blob that is not here, to be read while it is stored; fails like blob_size."""
        ...

    async def tags(self, repository: str) -> list[str]:
        """Return the tags that upstream has; none when it can't be asked."""
        ...

    async def referrers(self, repository: str, subject: Digest) -> list[Referrer]:
        """Return the manifests upstream whose subject is this digest; none when it can't be asked, or lists none."""
        ...


class NoUpstreams:
    """A node whose projects stand for nothing but themselves."""

    async def stands_for(self, project: str) -> bool:
        """Return False."""
        del project
        return False

    async def serves_deleted(self, project: str) -> bool:
        """Return False."""
        del project
        return False

    async def manifest(
        self, repository: str, reference: str | Digest, have: Digest | None, *, look_only: bool
    ) -> UpstreamManifest:
        """Raise ManifestUnknown."""
        del have, look_only
        raise ManifestUnknown(detail={"name": repository, "reference": str(reference)})

    async def blob_size(self, repository: str, digest: Digest) -> int:
        """Raise BlobUnknown."""
        raise BlobUnknown(detail={"name": repository, "digest": digest})

    async def blob(self, repository: str, digest: Digest) -> ComingBlob:
        """Raise BlobUnknown."""
        raise BlobUnknown(detail={"name": repository, "digest": digest})

    async def tags(self, repository: str) -> list[str]:
        """Return none."""
        del repository
        return []

    async def referrers(self, repository: str, subject: Digest) -> list[Referrer]:
        """Return none."""
        del repository, subject
        return []
