"""Images that stand for those of the recording, of which only digests are known: the same sizes and shapes."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from typing import Final

CONFIG: Final = "application/vnd.docker.container.image.v1+json"
LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
_CREATED: Final = "2026-01-01T00:00:00Z"


def digest_of(content: bytes) -> str:
    """Return the digest of some bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def noise(size: int) -> bytes:
    """Return that many bytes, always the same."""
    return random.Random(size).randbytes(size)  # noqa: S311 - nothing is kept secret by it


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One manifest, and what has to be pushed before it."""

    media_type: str
    manifest: bytes
    blobs: tuple[bytes, ...] = ()
    children: tuple[Image, ...] = ()

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return digest_of(self.manifest)


def _image(config: dict[str, object], *layers: bytes) -> Image:
    described = json.dumps(config).encode()
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "size": len(described), "digest": digest_of(described)},
        "layers": [{"mediaType": LAYER, "size": len(layer), "digest": digest_of(layer)} for layer in layers],
    }
    return Image(media_type=MANIFEST, manifest=json.dumps(content).encode(), blobs=(described, *layers))


def _seeded(seed: str, architecture: str, size: int) -> Image:
    inner = {"Env": [f"SEED={seed}"], "Labels": {"seed": seed}}
    return _image({"architecture": architecture, "os": "linux", "created": _CREATED, "config": inner}, noise(size))


def _index(*platforms: str) -> Image:
    children = tuple(_seeded(platform, platform, 750_000 + place) for place, platform in enumerate(platforms))
    listed = [
        {
            "mediaType": MANIFEST,
            "size": len(child.manifest),
            "digest": child.digest,
            "platform": {"architecture": platform, "os": "linux"},
        }
        for platform, child in zip(platforms, children, strict=True)
    ]
    content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
    return Image(media_type=INDEX, manifest=json.dumps(content).encode(), children=children)


SMALL: Final = _image(
    {
        "architecture": "amd64",
        "author": "me",
        "config": {"Cmd": ["/x"], "Env": ["A=b"], "Labels": {"maintainer": "z"}},
        "created": _CREATED,
        "history": [{"created_by": "x"}],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": []},
    },
    noise(2000),
)
IMAGES: Final = {
    "small": SMALL,
    "seeded": _seeded("s1", "amd64", 3_000_000),
    # More than the limit that is set later, and less than the one before.
    "large": _seeded("s2", "amd64", 3_012_000),
    "index": _index("amd64", "arm64", "s390x"),
}
_BIG: Final = noise(1_200_000)
_REST: Final = noise(5_000)
# The recording's digests, and what stands for them here.
DIGESTS: Final = {
    "sha256:1943624518819b6cbee6830fd4758acecb9424e946b8d8d71a60ba75822fc0f4": SMALL.digest,
    "sha256:0f3c023b0cd4ba48880498705af08b2eee089e26da57bfd4a4199d2f3a8be326": digest_of(SMALL.blobs[0]),
    "sha256:6ad85d601ae303fe448a819d8fa9699c22027b3ff726ab9330d38dc968f76a83": digest_of(SMALL.blobs[1]),
    "sha256:8cce1ffa5c210bdf7ef513e6b50e39924b1703fc1ea1d3b7e094838639dd06a6": IMAGES["index"].digest,
    "sha256:0594935fcef6181249e24499ec0daf0bf774fd5cf5e01d94c617005b1bb4548a": IMAGES["index"].children[0].digest,
    "sha256:9779918052952a980b8fdcf83a0c0c8a8040476788c63deb16aa494d58009131": IMAGES["index"].children[1].digest,
    "sha256:1993bbc74660f7a03e84a2efa3b31a38994ec8dc83c58d11320102ab1e457f32": IMAGES["index"].children[2].digest,
    "sha256:130f03f1207911eeb000b2e902dcbb72ef5f33c17dbbff8ff9bb91ac0cd20cb3": IMAGES["seeded"].digest,
    "sha256:4465963ce90baec976d5ae7c1f00c6cd2436f2708c1b9cc29cb2d0d066ae67cc": digest_of(_BIG),
}
CONTENTS: Final = {digest_of(content): content for content in (*SMALL.blobs, _BIG, _REST)}
# Binary bodies stand in the recording by their size alone.
BODIES: Final = {
    "<0 bytes>": b"",
    "<318 bytes>": SMALL.blobs[0],
    "<441 bytes>": SMALL.manifest,
    "<2000 bytes>": SMALL.blobs[1],
    "<5000 bytes>": _REST,
    "<1200000 bytes>": _BIG,
}
