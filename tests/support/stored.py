"""Pushes whatever a test wants into a repository, as docker, helm and cosign would."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.support.accounts import Api

OCI_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_BINARY: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A blob of an artifact, and what its descriptor says beside digest and size."""

    content: bytes
    media_type: str = OCI_LAYER
    annotations: Mapping[str, str] | None = None

    def descriptor(self) -> dict[str, object]:
        """Return its descriptor."""
        described = {"mediaType": self.media_type, "digest": digest_of(self.content), "size": len(self.content)}
        return {**described, "annotations": dict(self.annotations)} if self.annotations else described


def digest_of(content: bytes) -> str:
    """Return the sha256 digest."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


async def push_blob(api: Api, repository: str, content: bytes) -> str:
    """Push a blob in one go, and return its digest."""
    digest = digest_of(content)
    reply = await api("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", content, content_type=_BINARY)
    assert reply.status == 201, reply
    return digest


async def push_manifest(api: Api, repository: str, document: Mapping[str, object], tag: str = "") -> str:
    """Push a manifest under a tag, or under its digest alone, and return its digest."""
    content = json.dumps(document).encode()
    digest = digest_of(content)
    reply = await api("PUT", f"/v2/{repository}/manifests/{tag or digest}", content, content_type=str(document["mediaType"]))
    assert reply.status == 201, reply
    return digest


async def push(
    api: Api,
    repository: str,
    tag: str = "",
    *,
    config: object = None,
    config_type: str = OCI_CONFIG,
    layers: Sequence[Part] = (),
    **more: object,
) -> str:
    """Push an artifact and return its digest; more is written into its manifest as it is."""
    configuration = Part(content=json.dumps(config if config is not None else {"of": tag}).encode(), media_type=config_type)
    for part in (configuration, *layers):
        await push_blob(api, repository, part.content)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": configuration.descriptor(),
        "layers": [part.descriptor() for part in layers],
        **more,
    }
    return await push_manifest(api, repository, document, tag)


async def push_index(api: Api, repository: str, tag: str, children: Mapping[str, Mapping[str, object]]) -> str:
    """Push an index of manifests that are there, each with more for its descriptor, and return its digest."""
    listed = []
    for digest, more in children.items():
        reply = await api("GET", f"/v2/{repository}/manifests/{digest}", accept=OCI_IMAGE)
        assert reply.status == 200, reply
        listed.append({"mediaType": OCI_IMAGE, "digest": digest, "size": len(reply.body), **more})
    return await push_manifest(api, repository, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}, tag)


def subject(digest: str) -> dict[str, object]:
    """Return the subject of a manifest; its size does not matter."""
    return {"mediaType": OCI_IMAGE, "digest": digest, "size": 2}
