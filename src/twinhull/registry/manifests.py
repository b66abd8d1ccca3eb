"""Manifests over HTTP: pull, push, delete. Exact bytes in, exact bytes out."""

from __future__ import annotations

from typing import Final

from twinhull.catalog.artifacts import Artifacts, StoredManifest
from twinhull.catalog.deleting import Deleting
from twinhull.catalog.media import MANIFEST_BYTES_MAX
from twinhull.catalog.peers import Durability
from twinhull.catalog.pulls import Pulls
from twinhull.catalog.pushing import Push, Pushing
from twinhull.kit.digest import Digest
from twinhull.kit.errors import ManifestTooLarge
from twinhull.kit.reference import is_digest, parse_tag
from twinhull.registry.answers import (
    DURABILITY,
    IMMUTABLE,
    NO_CONTENT_LENGTH,
    REVALIDATE,
    digest_header,
    etag,
    known_digest,
    matches_etag,
)
from twinhull.registry.errors import API_VERSION, TooManyTags
from twinhull.registry.target import Target
from twinhull.web.asgi import Answer, Headers, Request
from twinhull.web.identity import Caller

TAGS_PER_PUSH_MAX: Final = 100
# Harbors that copy what is here are no people who use it.
_REPLICATION: Final = "harbor-registry-client"


class ManifestHandlers:
    """The handlers of /v2/<name>/manifests/<reference>."""

    def __init__(
        self, *, artifacts: Artifacts, pushing: Pushing, deleting: Deleting, durability: Durability, pulls: Pulls
    ) -> None:
        """Take what knows the manifests, what tells how safe a write is, and what counts pulls."""
        self._pulls = pulls
        self._artifacts = artifacts
        self._pushing = pushing
        self._deleting = deleting
        self._durability = durability

    async def get(self, request: Request, target: Target, caller: Caller) -> Answer:
        """Answer GET and HEAD with the manifest."""
        repository, reference = target
        found = self._artifacts.remembered(repository, reference)
        if found is None:
            looks = request.scope["method"] == "HEAD"
            found = await self._artifacts.pull(repository, parse_manifest_reference(reference), look_only=looks)
        if request.scope["method"] == "GET" and not request.header(b"user-agent").startswith(_REPLICATION):
            tag = "" if ":" in reference else reference
            self._pulls.count(repository, found.digest, tag, user=caller.name, coming=found.coming)
        if matches_etag(request, found.digest):
            return Answer(304, [API_VERSION, digest_header(found.digest), etag(found.digest)])
        headers = _headers(found)[":" in reference]
        return Answer(200, headers, b"" if request.scope["method"] == "HEAD" else found.content)

    async def put(self, request: Request, target: Target, caller: Caller) -> Answer:
        """Store the manifest under its tag or digest, and answer 201 with its digest."""
        reference = parse_manifest_reference(target.reference)
        tags = [parse_tag(tag) for tag in request.queries("tag")] if is_digest(reference) else []
        if len(tags) > TAGS_PER_PUSH_MAX:
            raise TooManyTags(f"a push takes at most {TAGS_PER_PUSH_MAX} tags")
        content = await request.whole_body(MANIFEST_BYTES_MAX, _too_large)
        pushed = await self._pushing.push(
            Push(
                repository=target.repository,
                reference=reference,
                content=content,
                content_type=request.header(b"content-type"),
                pushed_by=caller.name,
                tags=tags,
            )
        )
        level = await self._durability.reached(
            pushed.seq, repository=target.repository, digest=pushed.digest, wanted=request.header(DURABILITY)
        )
        location = f"/v2/{target.repository}/manifests/{pushed.digest}"
        headers: Headers = [
            API_VERSION,
            (b"location", location.encode("ascii")),
            digest_header(pushed.digest),
            (DURABILITY, level.encode("ascii")),
            NO_CONTENT_LENGTH,
        ]
        if pushed.subject is not None:
            headers.append((b"oci-subject", pushed.subject.encode("ascii")))
        if tags:
            headers.append((b"oci-tag", ", ".join(pushed.tags).encode("ascii")))
        return Answer(201, headers)

    async def delete(self, request: Request, target: Target, _caller: Caller) -> Answer:
        """Delete a tag, or a manifest with all its tags, and answer 202."""
        seq = await self._deleting.delete(target.repository, parse_manifest_reference(target.reference))
        level = await self._durability.reached(seq, repository=target.repository, wanted=request.header(DURABILITY))
        return Answer(202, [API_VERSION, (DURABILITY, level.encode("ascii")), NO_CONTENT_LENGTH])


def parse_manifest_reference(text: str) -> str | Digest:
    """Return the tag or digest, or raise TagInvalid or DigestInvalid."""
    return known_digest(text) if ":" in text else parse_tag(text)


def _too_large() -> Exception:
    return ManifestTooLarge(f"this registry takes manifests of up to {MANIFEST_BYTES_MAX} bytes")


def _headers(manifest: StoredManifest) -> tuple[Headers, Headers]:
    """Return the headers for a pull by tag, and by digest; made once for each manifest that is remembered."""
    if manifest.headers is None:
        common: Headers = [
            (b"content-type", manifest.media_type.encode("ascii")),
            (b"content-length", b"%d" % len(manifest.content)),
            digest_header(manifest.digest),
            etag(manifest.digest),
            API_VERSION,
        ]
        manifest.headers = ([*common, REVALIDATE], [*common, IMMUTABLE])
    return manifest.headers
