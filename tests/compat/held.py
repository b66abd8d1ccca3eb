"""Reads what a client stored, and says what it holds by hashing the bytes found there; names and labels are not trusted."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.images import Content, Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a client has of an image or artifact: the manifest's digest, and digests of the bytes that a user gets out of it."""

    digest: str
    content: tuple[str, ...]


def sha256_of(path: Path) -> str:
    """Return the digest of a file's bytes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def expected(content: Content) -> Held:
    """Return what a client holds that keeps every blob and manifest as it is."""
    return Held(digest=content.digest, content=tuple(sorted({blob.digest for blob in content.walk()})))


def in_layout(directory: Path) -> Held:
    """Return what an OCI layout holds under its only name; a client may list an index's images beside it, without a name."""
    rows = json.loads((directory / "index.json").read_bytes())["manifests"]
    (row,) = [row for row in rows if "org.opencontainers.image.ref.name" in row.get("annotations", {})] or rows
    digest = sha256_of(_blob(directory, row["digest"]))
    return Held(digest=digest, content=tuple(sorted(set(_reachable(directory, row["digest"])))))


def in_archive(path: Path) -> tuple[str, ...]:
    """Return the digests of the configuration and of the unpacked layers in a tar that `docker save` wrote."""
    with tarfile.open(path) as tar:
        (row,) = json.loads(_member(tar, "manifest.json"))
        return tuple(f"sha256:{hashlib.sha256(_member(tar, name)).hexdigest()}" for name in (row["Config"], *row["Layers"]))


def unpacked(image: Image) -> tuple[str, ...]:
    """Return the digests of the image's configuration and unpacked layers, to compare with an archive's."""
    return (image.config.digest, *image.diff_ids)


def _blob(directory: Path, digest: str) -> Path:
    algorithm, _, encoded = digest.partition(":")
    return directory / "blobs" / algorithm / encoded


def _reachable(directory: Path, digest: str) -> Iterator[str]:
    """Yield the true digest of a manifest and of everything that it names; a missing file is an error."""
    path = _blob(directory, digest)
    yield sha256_of(path)
    document = json.loads(path.read_bytes())
    for row in document.get("manifests", ()):
        yield from _reachable(directory, row["digest"])
    for row in (*document.get("layers", ()), *filter(None, [document.get("config")])):
        yield sha256_of(_blob(directory, row["digest"]))


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    """Return the content of a file in the tar, or raise KeyError."""
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()
