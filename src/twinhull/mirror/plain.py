"""A foreign registry as one side of a replication, by what the OCI distribution specification gives: /v2/ and no more."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

from twinhull.catalog.foreign import Endpoint
from twinhull.catalog.media import OCI_INDEX, ParsedManifest, parse_manifest
from twinhull.kit.digest import Digest, algorithm_of, digest_of, hex_of, is_known
from twinhull.kit.errors import RegistryBusy, RegistryLacks, RegistryRefused, RegistryRejected
from twinhull.kit.reference import is_digest
from twinhull.mirror.registry_client import RegistryClient
from twinhull.mirror.registry_writer import CHUNK_BYTES, RegistryWriter
from twinhull.mirror.selection import Candidate, Selection
from twinhull.mirror.sides import Manifest, Pieces

# Beyond so many blobs it is forgotten in which repository they were seen: then they are sent once more.
_SEEN_MAX: Final = 50_000
# How what belongs to a manifest is tagged: by OCI's fallback `sha256-<hex>`, and by cosign with an ending.
_TAG_FORM: Final = "{}-{}"
_LIST_TAG: Final = re.compile(r"sha(?:256-[0-9a-f]{64}|512-[0-9a-f]{128})")
_USUAL: Final = "sha256"
_SHOWN: Final = 19
_COSIGN_ENDINGS: Final = (".sig", ".att", ".sbom")


class PlainRegistry:
    """Source and destination. Lives on the agent's event loop, for one task or plan; has to be closed."""

    def __init__(self, endpoint: Endpoint, *, by_chunk: bool = False, homes: dict[Digest, str] | None = None) -> None:
        """Take where it is, and whether blobs are sent in chunks. `homes` remembers in which repository there blobs are."""
        self._client = RegistryClient(endpoint)
        self._writer = RegistryWriter(self._client, chunk_bytes=CHUNK_BYTES if by_chunk else None)
        self._homes = homes if homes is not None else {}
        self._lists_referrers = True
        # Of the repository that was asked for last: tags by which what belongs to others is found.
        self._found_by_tag: tuple[str, frozenset[str]] = ("", frozenset())

    @property
    def url(self) -> str:
        """Where it answers."""
        return self._client.url

    async def close(self) -> None:
        """Hang up."""
        await self._client.close()

    # -- source ----------------------------------------------------------------------------------------------------

    async def repositories(self, selection: Selection) -> AsyncIterator[str]:
        """Yield the repositories that the filters name, else those of its catalog that they take."""
        if selection.repositories is not None:
            for name in selection.repositories:
                yield name
            return
        try:
            async for page in self._client.repositories():
                for name in page:
                    if selection.takes(name):
                        yield name
        except (RegistryLacks, RegistryRefused) as error:
            raise RegistryRejected(str(error), hint="it lists no repositories: name them in the filter, without `*`") from error

    async def candidates(self, repository: str) -> AsyncIterator[Candidate]:
        """Yield a candidate for each tag; which digest it names is left open. A repository that is not there has none."""
        try:
            async for page in self._client.tags(repository):
                for tag in page:
                    # A list of referrers comes with what it is the list for.
                    if not _LIST_TAG.fullmatch(tag):
                        yield Candidate(digest="", tags=(tag,), type="IMAGE")
        except RegistryLacks:
            return

    async def is_public(self, repository: str) -> bool:
        """Return False: nothing is known of it."""
        del repository
        return False

    async def digest(self, repository: str, reference: str) -> Digest | None:
        """Return the digest that a tag names, or the digest itself; None when it is not there."""
        try:
            return (await self._client.head(repository, reference)).digest
        except RegistryLacks:
            return None

    async def manifest(self, repository: str, digest: Digest) -> Manifest | None:
        """Return a manifest, or None when it is not there."""
        try:
            found = await self._client.manifest(repository, digest)
        except RegistryLacks:
            return None
        return Manifest(digest=found.digest, media_type=found.media_type, content=found.content)

    async def accessories(self, repository: str, digest: Digest) -> Sequence[Candidate]:
        """Return what belongs to a manifest: by the list of its referrers, by the tag in its stead, and by cosign's tags."""
        found = {own: Candidate(digest=own) for own in await self._referrers(repository, digest)}
        for tag in await self._tags_of_accessories(repository, digest):
            own = await self.digest(repository, tag)
            if own is not None:
                found[own] = Candidate(digest=own, tags=(tag,))
        return list(found.values())

    def blob(self, repository: str, digest: Digest, size: int) -> Pieces:
        """Return what gives the bytes of a blob; whether they are those of its digest is for who stores it to see."""
        del size

        async def pieces(start: int) -> AsyncGenerator[bytes]:
            async with self._client.blob(repository, digest, start) as blob:
                async for piece in blob.pieces():
                    yield piece

        return pieces

    # -- destination -----------------------------------------------------------------------------------------------

    async def prepare(self, repository: str, *, public: bool) -> None:
        """Do nothing: a repository is there once something is pushed to it."""

    async def has_blob(self, repository: str, digest: Digest) -> bool:
        """Tell whether a blob is there, or could be mounted from a repository in which it was seen before."""
        there = await self._writer.has_blob(repository, digest)
        home = self._homes.get(digest)
        if not there and home not in (None, repository):
            there = await self._writer.mount(repository, digest, str(home))
        if there:
            self._remember(repository, digest)
        return there

    async def put_blob(self, repository: str, digest: Digest, size: int, pieces: Pieces) -> None:
        """Store a blob."""
        await self._writer.put_blob(repository, digest, size, pieces)
        self._remember(repository, digest)

    async def put_manifest(self, repository: str, manifest: Manifest, tag: str = "") -> None:
        """Store a manifest, and let the tag name it; where it has a subject, let it be found by that."""
        if tag and algorithm_of(manifest.digest) != _USUAL:
            # By a tag alone it would be another manifest: a registry works out its digest, by the usual algorithm.
            knows = await self._writer.put_manifest(repository, manifest, manifest.digest, tag=tag)
            if await self.digest(repository, tag) != manifest.digest:
                raise RegistryRejected(f"registry {self.url} lets no tag name a digest like {manifest.digest[:_SHOWN]}")
        else:
            knows = await self._writer.put_manifest(repository, manifest, tag or manifest.digest)
        parsed = parse_manifest(manifest.content, manifest.media_type)
        if parsed.subject is not None and not knows:
            await self._list_by_tag(repository, manifest, parsed, parsed.subject.digest)

    async def delete(self, repository: str, reference: str) -> bool:
        """Delete a tag alone, or the manifest of a digest with its tags; False when it was not there."""
        if await self.digest(repository, reference) is None:
            return False
        try:
            return await self._writer.delete(repository, reference)
        except RegistryRejected as error:
            hint = "" if is_digest(reference) else "older registries delete no tag alone"
            raise RegistryRejected(error.message, hint=hint) from error

    # -- inside ----------------------------------------------------------------------------------------------------

    def _remember(self, repository: str, digest: Digest) -> None:
        if len(self._homes) >= _SEEN_MAX:
            self._homes.clear()
        self._homes[digest] = repository

    async def _referrers(self, repository: str, digest: Digest) -> list[Digest]:
        if self._lists_referrers:
            try:
                return [own async for page in self._client.referrers(repository, digest) for own in page]
            except (RegistryLacks, RegistryRefused):
                # OCI distribution 1.1, "Unavailable Referrers API": then a tag has the list.
                self._lists_referrers = False
        listed = await self._listed_by_tag(repository, digest)
        return [Digest(str(one["digest"])) for one in listed if is_known(str(one.get("digest", "")))]

    async def _tags_of_accessories(self, repository: str, digest: Digest) -> list[str]:
        """Return those of cosign's tags for a manifest that are there, by one list of tags for all manifests."""
        prefix = _TAG_FORM.format("sha256", "")
        if self._found_by_tag[0] != repository:
            pages = [tag async for one in self.candidates(repository) for tag in one.tags]
            self._found_by_tag = (repository, frozenset(tag for tag in pages if tag.startswith(prefix)))
        tags = (_TAG_FORM.format("sha256", hex_of(digest)) + ending for ending in _COSIGN_ENDINGS)
        return [tag for tag in tags if tag in self._found_by_tag[1]]

    async def _listed_by_tag(self, repository: str, subject: Digest) -> list[dict[str, object]]:
        """Return the descriptors in the index that stands for the list of referrers where a registry has none."""
        tag = _TAG_FORM.format(*subject.split(":"))
        try:
            found = await self._client.manifest(repository, tag)
            document = json.loads(found.content)
        except (RegistryLacks, ValueError):
            return []
        listed = document.get("manifests") if isinstance(document, dict) else None
        return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []

    async def _list_by_tag(self, repository: str, manifest: Manifest, parsed: ParsedManifest, subject: Digest) -> None:
        # OCI distribution 1.1, "Pushing Manifests with Subject": a client does it for a registry that does not.
        listed = await self._listed_by_tag(repository, subject)
        if any(one.get("digest") == manifest.digest for one in listed):
            return
        own = {"mediaType": manifest.media_type, "digest": manifest.digest, "size": len(manifest.content)}
        own |= {"artifactType": parsed.artifact_type} if parsed.artifact_type else {}
        own |= {"annotations": dict(parsed.annotations)} if parsed.annotations else {}
        content = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*listed, own]}).encode()
        index = Manifest(digest=digest_of(content), media_type=OCI_INDEX, content=content)
        await self._writer.put_manifest(repository, index, _TAG_FORM.format(*subject.split(":")))


async def check_answers(endpoint: Endpoint) -> None:
    """Return if a registry answers, whatever; raises RegistryUnreachable."""
    async with RegistryClient(endpoint) as client:
        # What an account may not even ask here it may still do elsewhere.
        with suppress(RegistryRefused, RegistryLacks, RegistryBusy):
            await client.check()
