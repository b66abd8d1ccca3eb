"""The referrers API: which manifests name this one as their subject (OCI distribution 1.1, "Listing Referrers")."""

from __future__ import annotations

from typing import Final

import msgspec

from twinhull.catalog.artifacts import Artifacts
from twinhull.catalog.media import MANIFEST_BYTES_MAX, OCI_INDEX
from twinhull.metadata.content import Referrer
from twinhull.registry.answers import known_digest
from twinhull.registry.errors import API_VERSION
from twinhull.registry.target import Target
from twinhull.web.asgi import Answer, Headers, Request
from twinhull.web.identity import Caller
from twinhull.web.paging import next_link, parse_page

PAGE_MAX: Final = 500
_INDEX_TYPE: Final = (b"content-type", OCI_INDEX.encode("ascii"))


class ReferrerHandlers:
    """The handler of /v2/<name>/referrers/<digest>."""

    def __init__(self, *, artifacts: Artifacts) -> None:
        """Take what knows the manifests."""
        self._artifacts = artifacts

    async def referrers(self, request: Request, target: Target, _caller: Caller) -> Answer:
        """Answer with an index of the referrers, an empty one if there are none."""
        subject = known_digest(target.reference)
        artifact_type = request.query("artifactType") or ""
        page = parse_page(request.query("n"), request.query("last"), size_max=PAGE_MAX)
        found = await self._artifacts.referrers(
            target.repository, subject, artifact_type=artifact_type, last=page.last, limit=page.size + 1
        )
        entries = _entries_that_fit(found[: page.size])
        body = msgspec.json.encode(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [msgspec.Raw(entry) for entry in entries]}
        )
        headers: Headers = [API_VERSION, _INDEX_TYPE, (b"content-length", b"%d" % len(body))]
        if artifact_type:
            headers.append((b"oci-filters-applied", b"artifactType"))
        if len(found) > len(entries) and entries:
            parameters: dict[str, str | int] = {"n": page.size, "last": found[len(entries) - 1].digest}
            if artifact_type:
                parameters["artifactType"] = artifact_type
            headers.append(next_link(f"/v2/{target.repository}/referrers/{subject}", **parameters))
        return Answer(200, headers, b"" if request.method == "HEAD" else body)


def _entries_that_fit(referrers: list[Referrer]) -> list[bytes]:
    """Return descriptors in JSON, as many as make a manifest that every client takes; at least one if there is any."""
    entries: list[bytes] = []
    size = 0
    for referrer in referrers:
        entry = msgspec.json.encode(_descriptor(referrer))
        size += len(entry)
        if entries and size > MANIFEST_BYTES_MAX // 2:
            break
        entries.append(entry)
    return entries


def _descriptor(referrer: Referrer) -> dict[str, object]:
    descriptor: dict[str, object] = {
        "mediaType": referrer.media_type,
        "digest": referrer.digest,
        "size": referrer.size,
    }
    if referrer.artifact_type:
        descriptor["artifactType"] = referrer.artifact_type
    if referrer.annotations:
        descriptor["annotations"] = referrer.annotations
    return descriptor
