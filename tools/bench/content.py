"""What is pushed: layers of random bytes on disk, and the images that they make up."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LAYERS: Final = 8
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_PIECE_BYTES: Final = 1 << 20
_MARK_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Blob:
    """Part of a file, or a few bytes in memory, and their digest."""

    digest: str
    size_bytes: int
    path: Path | None = None
    position: int = 0
    content: bytes = b""


def in_memory(content: bytes) -> Blob:
    """Return these bytes as a blob."""
    return Blob(f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), content=content)


class Layers:
    """A few files of random bytes, which nothing can compress, made once and then made new by a few bytes each."""

    def __init__(self, directory: Path, total_bytes: int) -> None:
        """Write the files."""
        self._paths = [directory / f"layer-{number}" for number in range(LAYERS)]
        self._size_bytes = max(_MARK_BYTES, total_bytes // LAYERS)
        for path in self._paths:
            with path.open("wb", buffering=0) as file:
                for position in range(0, self._size_bytes, _PIECE_BYTES):
                    file.write(os.urandom(min(_PIECE_BYTES, self._size_bytes - position)))

    @property
    def total_bytes(self) -> int:
        """Return the size of all layers together."""
        return self._size_bytes * LAYERS

    def fresh(self) -> list[Blob]:
        """Change each layer, so that no registry has seen it, and return them with their new digests."""
        for path in self._paths:
            with path.open("r+b") as file:
                file.write(os.urandom(_MARK_BYTES))
        return [self._blob(path, 0, self._size_bytes) for path in self._paths]

    def slices(self, count: int) -> list[Blob]:
        """Return the same bytes cut into so many blobs."""
        each = count // LAYERS
        size_bytes = self._size_bytes // each
        return [self._blob(path, number * size_bytes, size_bytes) for path in self._paths for number in range(each)]

    def _blob(self, path: Path, position: int, size_bytes: int) -> Blob:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            file.seek(position)
            left = size_bytes
            while left:
                piece = file.read(min(_PIECE_BYTES, left))
                digest.update(piece)
                left -= len(piece)
        return Blob(f"sha256:{digest.hexdigest()}", size_bytes, path, position)


def config_of(layers: Sequence[Blob]) -> Blob:
    """Return the configuration of an image that consists of these layers."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
    }
    return in_memory(json.dumps(document).encode())


def manifest_of(config: Blob, layers: Sequence[Blob]) -> bytes:
    """Return the manifest of an image."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": _CONFIG_TYPE, "digest": config.digest, "size": config.size_bytes},
        "layers": [{"mediaType": _LAYER_TYPE, "digest": layer.digest, "size": layer.size_bytes} for layer in layers],
    }
    return json.dumps(document).encode()
