"""Makes small images, indexes and artifacts from a seed, as OCI layouts and docker archives: one seed, the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CREATED: Final = "2024-01-01T00:00:00Z"

Json = dict[str, object]


def random_bytes(seed: str, size_bytes: int) -> bytes:
    """Return incompressible bytes that depend on the seed alone."""
    return hashlib.shake_256(seed.encode()).digest(size_bytes)


def sha256(content: bytes) -> str:
    """Return the content's digest as registries write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def encode(document: object) -> bytes:
    """Return the document as JSON with a fixed order and spacing."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Bytes that a descriptor can point at."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        """Return the sha256 digest."""
        return sha256(self.content)

    def descriptor(self, **more: object) -> Json:
        """Return the descriptor of these bytes, with more properties where given."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content), **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A manifest with everything that it names: an image, an index with its images, or an artifact."""

    manifest: Blob
    blobs: tuple[Blob, ...] = ()
    children: tuple[Content, ...] = ()

    @property
    def digest(self) -> str:
        """Return the manifest's digest."""
        return self.manifest.digest

    def walk(self) -> Iterator[Blob]:
        """Yield every blob and manifest, what is named before what names it."""
        for child in self.children:
            yield from child.walk()
        yield from self.blobs
        yield self.manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(Content):
    """An image of one platform: its first blob is the configuration, the others are gzipped layers."""

    diffs: tuple[bytes, ...]

    @property
    def config(self) -> Blob:
        """Return the image configuration."""
        return self.blobs[0]

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Return the digests of the unpacked layers."""
        return tuple(sha256(diff) for diff in self.diffs)


def layer(seed: str, size_bytes: int) -> bytes:
    """Return a tar of one folder with a file of random bytes and a text file, as a layer's difference to the one below."""
    packed = io.BytesIO()
    name = sha256(seed.encode())[7:19]
    files = {f"srv/{name}.bin": random_bytes(seed, size_bytes), f"srv/{name}.txt": f"layer of {seed}\n".encode()}
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        folder = tarfile.TarInfo("srv")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def image(seed: str, *, layers: int = 2, layer_bytes: int = 8_192, architecture: str = "amd64", docker: bool = False) -> Image:
    """Return an image of random layers, in OCI's media types or in docker's schema 2."""
    diffs = tuple(layer(f"{seed}/{architecture}/{number}", layer_bytes) for number in range(layers))
    config = Blob(
        media_type=DOCKER_CONFIG if docker else OCI_CONFIG,
        content=encode(
            {
                "architecture": architecture,
                "os": "linux",
                "created": CREATED,
                "config": {"Cmd": ["/srv/start"], "Labels": {"seed": seed}},
                "rootfs": {"type": "layers", "diff_ids": [sha256(diff) for diff in diffs]},
                "history": [{"created": CREATED, "created_by": f"layer {number}"} for number in range(layers)],
            }
        ),
    )
    layer_type = DOCKER_LAYER if docker else OCI_LAYER
    packed = tuple(Blob(media_type=layer_type, content=gzip.compress(diff, compresslevel=1, mtime=0)) for diff in diffs)
    manifest_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    manifest = Blob(
        media_type=manifest_type,
        content=encode(
            {
                "schemaVersion": 2,
                "mediaType": manifest_type,
                "config": config.descriptor(),
                "layers": [blob.descriptor() for blob in packed],
            }
        ),
    )
    return Image(manifest=manifest, blobs=(config, *packed), diffs=diffs)


def index(seed: str, *, architectures: Sequence[str] = ("amd64", "arm64")) -> Content:
    """Return an OCI index with one image a platform."""
    images = {architecture: image(seed, architecture=architecture) for architecture in architectures}
    rows = [
        one.manifest.descriptor(platform={"os": "linux", "architecture": architecture}) for architecture, one in images.items()
    ]
    manifest = Blob(media_type=OCI_INDEX, content=encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": rows}))
    return Content(manifest=manifest, children=tuple(images.values()))


def artifact(seed: str, *, artifact_type: str = "application/vnd.example.report", subject: Blob | None = None) -> Content:
    """Return an artifact with an empty configuration and one file of random bytes, as a referrer of the subject where given."""
    empty = Blob(media_type=OCI_EMPTY, content=b"{}")
    file = Blob(media_type="application/octet-stream", content=random_bytes(seed, 4_096))
    document: Json = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": empty.descriptor(),
        "layers": [file.descriptor(annotations={"org.opencontainers.image.title": "report.bin"})],
    }
    if subject is not None:
        document["subject"] = subject.descriptor()
    return Content(manifest=Blob(media_type=OCI_MANIFEST, content=encode(document)), blobs=(empty, file))


def write_layout(directory: Path, content: Content, *, tag: str) -> Path:
    """Write an OCI image layout that names the content by the tag, and return its directory."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for blob in content.walk():
        (blobs / blob.digest.removeprefix("sha256:")).write_bytes(blob.content)
    (directory / "oci-layout").write_bytes(encode({"imageLayoutVersion": "1.0.0"}))
    row = content.manifest.descriptor(annotations={"org.opencontainers.image.ref.name": tag})
    (directory / "index.json").write_bytes(encode({"schemaVersion": 2, "manifests": [row]}))
    return directory


def write_archive(path: Path, content: Image, *, name: str) -> Path:
    """Write a tar that `docker load` takes, with the image under the given name, and return its path."""
    config_name = f"{content.config.digest.removeprefix('sha256:')}.json"
    layer_names = [f"{number}/layer.tar" for number in range(len(content.diffs))]
    listing = encode([{"Config": config_name, "RepoTags": [name], "Layers": layer_names}])
    files = {
        config_name: content.config.content,
        **dict(zip(layer_names, content.diffs, strict=True)),
        "manifest.json": listing,
    }
    with tarfile.open(path, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for file_name, body in files.items():
            entry = tarfile.TarInfo(file_name)
            entry.size, entry.mode = len(body), 0o644
            tar.addfile(entry, io.BytesIO(body))
    return path
