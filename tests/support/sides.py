"""A registry in memory, both sides of a replication in one, with a book of what was asked of it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

from twinhull.catalog.media import OCI_IMAGE, OCI_INDEX, parse_manifest
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import TwinhullError, Unavailable
from twinhull.mirror.selection import Candidate, Selection
from twinhull.mirror.sides import Manifest, Pieces

_PIECE = 4


class MemoryRegistry:
    """Source and destination: repositories of manifests, tags and blobs; fails where it is told to."""

    def __init__(self) -> None:
        """Begin empty."""
        self.manifests: dict[tuple[str, str], Manifest] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.blobs: dict[tuple[str, str], bytes] = {}
        # What was written, in order: "blob DIGEST", "manifest DIGEST TAG", "delete REFERENCE".
        self.book: list[str] = []
        self.prepared: list[tuple[str, bool]] = []
        # Raised when this digest is put.
        self.failing: dict[str, TwinhullError] = {}
        self.is_public_here = False

    # -- filling it ------------------------------------------------------------------------------------------------

    def push(self, repository: str, document: Mapping[str, object], *tags: str, media_type: str = OCI_IMAGE) -> Digest:
        """Store a manifest as it is, and let the tags name it."""
        content = json.dumps({"schemaVersion": 2, "mediaType": media_type, **document}).encode()
        digest = digest_of(content)
        self.manifests[repository, digest] = Manifest(digest=digest, media_type=media_type, content=content)
        self.tags.update({(repository, tag): digest for tag in tags})
        return digest

    def push_image(self, repository: str, text: str, *tags: str, subject: Digest | None = None) -> Digest:
        """Store an image with one layer and a configuration."""
        layers = [self.push_blob(repository, f"layer of {text}"), self.push_blob(repository, f"second layer of {text}")]
        document: dict[str, object] = {
            "config": _descriptor(self.push_blob(repository, f"config of {text}"), "application/vnd.oci.image.config.v1+json"),
            "layers": [_descriptor(blob, "application/vnd.oci.image.layer.v1.tar") for blob in layers],
        }
        if subject is not None:
            document["subject"] = _descriptor(self.manifests[repository, subject].content, OCI_IMAGE)
        return self.push(repository, document, *tags)

    def push_index(self, repository: str, children: Sequence[Digest], *tags: str) -> Digest:
        """Store an index of these images."""
        listed = [_descriptor(self.manifests[repository, child].content, OCI_IMAGE) for child in children]
        return self.push(repository, {"manifests": listed}, *tags, media_type=OCI_INDEX)

    def push_blob(self, repository: str, text: str) -> bytes:
        """Store a blob."""
        content = text.encode()
        self.blobs[repository, digest_of(content)] = content
        return content

    # -- source ----------------------------------------------------------------------------------------------------

    async def repositories(self, selection: Selection) -> AsyncIterator[str]:
        """Yield all that are taken."""
        for repository in sorted({name for name, _ in self.manifests}):
            if selection.takes(repository):
                yield repository

    async def candidates(self, repository: str) -> AsyncIterator[Candidate]:
        """Yield all manifests."""
        for name, digest in list(self.manifests):
            if name == repository:
                tags = tuple(tag for (owner, tag), named in self.tags.items() if (owner, named) == (repository, digest))
                yield Candidate(digest=digest, tags=tags)

    async def is_public(self, repository: str) -> bool:
        """Tell what was set."""
        del repository
        return self.is_public_here

    async def digest(self, repository: str, reference: str) -> Digest | None:
        """Look it up."""
        digest = self.tags.get((repository, reference), reference)
        return Digest(digest) if (repository, digest) in self.manifests else None

    async def manifest(self, repository: str, digest: Digest) -> Manifest | None:
        """Look it up."""
        return self.manifests.get((repository, digest))

    async def accessories(self, repository: str, digest: Digest) -> Sequence[Candidate]:
        """Return what names it as its subject."""
        found: list[Candidate] = []
        for (name, own), manifest in self.manifests.items():
            subject = parse_manifest(manifest.content, manifest.media_type).subject
            if name == repository and subject is not None and subject.digest == digest:
                tags = tuple(tag for (owner, tag), named in self.tags.items() if (owner, named) == (repository, own))
                found.append(Candidate(digest=own, tags=tags))
        return found

    def blob(self, repository: str, digest: Digest, size: int) -> Pieces:
        """Give small pieces."""
        content = self.blobs[repository, digest]
        assert len(content) == size

        async def pieces(start: int) -> AsyncGenerator[bytes]:
            for at in range(start, len(content), _PIECE):
                yield content[at : at + _PIECE]

        return pieces

    # -- destination -----------------------------------------------------------------------------------------------

    async def prepare(self, repository: str, *, public: bool) -> None:
        """Note it."""
        self.prepared.append((repository, public))

    async def has_blob(self, repository: str, digest: Digest) -> bool:
        """Look it up."""
        return (repository, digest) in self.blobs

    async def put_blob(self, repository: str, digest: Digest, size: int, pieces: Pieces) -> None:
        """Store it if its bytes are right."""
        if digest in self.failing:
            raise self.failing[digest]
        content = b"".join([piece async for piece in pieces(0)])
        assert (digest_of(content), len(content)) == (digest, size)
        self.blobs[repository, digest] = content
        self.book.append(f"blob {digest}")

    async def put_manifest(self, repository: str, manifest: Manifest, tag: str = "") -> None:
        """Store it if all that it names is here, as registries do."""
        parsed = parse_manifest(manifest.content, manifest.media_type)
        if not all((repository, blob) in self.blobs for blob in parsed.required_blobs):
            raise Unavailable("a blob is missing")
        if not all((repository, child) in self.manifests for child in parsed.manifests):
            raise Unavailable("a child is missing")
        self.manifests[repository, manifest.digest] = manifest
        if tag:
            self.tags[repository, tag] = manifest.digest
        self.book.append(f"manifest {manifest.digest} {tag}".rstrip())

    async def delete(self, repository: str, reference: str) -> bool:
        """Delete it."""
        self.book.append(f"delete {reference}")
        if ":" in reference:
            self.tags = {key: digest for key, digest in self.tags.items() if (key[0], digest) != (repository, reference)}
            return self.manifests.pop((repository, reference), None) is not None
        return self.tags.pop((repository, reference), None) is not None


def _descriptor(content: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}
