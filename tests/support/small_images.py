"""Small manifests, and pushes of them into a composed node."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.support.composed import Client, Reply
from twinhull.catalog.media import OCI_IMAGE, OCI_INDEX
from twinhull.kit.digest import digest_of

REPOSITORY: Final = "team/app"
SCOPE: Final = f"repository:{REPOSITORY}:pull,push,delete"


def manifest(config: bytes = b"{}", layers: tuple[bytes, ...] = (), **more: object) -> bytes:
    """Return an image manifest that names these blobs."""

    def descriptor(blob: bytes, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": digest_of(blob), "size": len(blob)}

    document = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers],
        **more,
    }
    return json.dumps(document).encode()


def index(*children: bytes) -> bytes:
    """Return an index that lists these image manifests."""
    listed = [{"mediaType": OCI_IMAGE, "digest": digest_of(child), "size": len(child)} for child in children]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode()


async def push_blob(client: Client, blob: bytes, repository: str = REPOSITORY) -> Reply:
    """Push a blob in one request, and see that it is taken."""
    reply = await client("POST", f"/v2/{repository}/blobs/uploads/?digest={digest_of(blob)}", blob)
    assert reply.status == 201, reply
    return reply


async def push(client: Client, pushed: bytes, reference: str = "", repository: str = REPOSITORY) -> Reply:
    """Push a manifest, by its digest unless a reference is given, and return the answer."""
    media_type = json.loads(pushed)["mediaType"]
    url = f"/v2/{repository}/manifests/{reference or digest_of(pushed)}"
    return await client("PUT", url, pushed, content_type=media_type)


async def push_image(client: Client, pushed: bytes, reference: str = "v1") -> Reply:
    """Push a manifest and the empty config that it names, and see that both are taken."""
    await push_blob(client, b"{}")
    reply = await push(client, pushed, reference)
    assert reply.status == 201, reply
    return reply
