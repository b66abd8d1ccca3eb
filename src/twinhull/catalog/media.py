"""What a manifest says: from its bytes and content type to checked values. Pure; stores and asks nothing.

Sources: OCI image specification 1.1 ("Image Manifest", "Image Index", "Content Descriptors"); Docker "Image Manifest
Version 2, Schema 2".
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from twinhull.kit.digest import Digest, algorithm_of, digest_of, parse_digest
from twinhull.kit.errors import DigestInvalid, ManifestInvalid, ManifestTooLarge, Unsupported

# OCI distribution 1.1, "Pushing Manifests": manifests of 4 megabytes should be expected to work.
MANIFEST_BYTES_MAX: Final = 4 * 1024 * 1024
TEXT_LENGTH_MAX: Final = 255
SIZE_BYTES_MAX: Final = 2**63 - 1

OCI_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_IMAGE: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES: Final = frozenset({OCI_IMAGE, OCI_INDEX, DOCKER_IMAGE, DOCKER_LIST})
_SCHEMA_1_TYPES: Final = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
# What clients send that do not know better; then the document itself says what it is.
_VAGUE_TYPES: Final = frozenset({"", "application/json", "application/octet-stream"})
# Layers that may not be given away: their bytes come from elsewhere and need not be here.
_NON_DISTRIBUTABLE: Final = (
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A pointer from a manifest to content: what it is, its digest and how many bytes it has."""

    media_type: str
    digest: Digest
    size: int
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, object] | None = None
    urls: tuple[str, ...] = ()

    @property
    def is_manifest(self) -> bool:
        """Whether it points to a manifest that is pushed and pulled as such."""
        return self.media_type in MANIFEST_TYPES

    @property
    def may_be_absent(self) -> bool:
        """Whether a registry need not have the bytes."""
        return self.media_type.startswith(_NON_DISTRIBUTABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedManifest:
    """A manifest's content, checked."""

    media_type: str
    size: int
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    # What an index lists: manifests, and (BuildKit's cache) blobs.
    children: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    # As the referrers API shows it: the manifest's own, else an image's config media type.
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_index(self) -> bool:
        """Whether it lists other manifests instead of layers."""
        return self.media_type in INDEX_TYPES

    @property
    def blobs(self) -> dict[Digest, int]:
        """The blobs that it is made of, with their sizes, in order, each once."""
        return {it.digest: it.size for it in self._blobs()}

    @property
    def required_blobs(self) -> dict[Digest, int]:
        """Those blobs without which it cannot be pulled whole."""
        return {it.digest: it.size for it in self._blobs() if not it.may_be_absent}

    @property
    def manifests(self) -> dict[Digest, int]:
        """The manifests that an index lists, with their sizes, in order, each once."""
        return {it.digest: it.size for it in self.children if it.is_manifest}

    def _blobs(self) -> Iterable[Descriptor]:
        if self.config is not None:
            yield self.config
        yield from self.layers
        yield from (child for child in self.children if not child.is_manifest)


def parse_manifest(content: bytes, content_type: str) -> ParsedManifest:
    """Return what the manifest says, or raise ManifestInvalid or ManifestTooLarge."""
    if len(content) > MANIFEST_BYTES_MAX:
        raise ManifestTooLarge(f"manifest has {len(content)} bytes; this registry takes {MANIFEST_BYTES_MAX}")
    document = _load(content)
    media_type = _media_type(document, content_type)
    annotations = _annotations(document, "manifest")
    subject = _descriptor(document["subject"], "subject") if document.get("subject") is not None else None
    own_type = _text(document, "artifactType", "manifest")
    if media_type in INDEX_TYPES:
        _refuse(document, ("config", "layers", "fsLayers"), "an index")
        parsed = ParsedManifest(
            media_type=media_type,
            size=len(content),
            children=_descriptors(document, "manifests"),
            subject=subject,
            artifact_type=own_type,
            annotations=annotations,
        )
    else:
        _refuse(document, ("manifests", "fsLayers"), "an image manifest")
        if document.get("config") is None:
            raise ManifestInvalid("manifest has no config")
        config = _descriptor(document["config"], "config")
        parsed = ParsedManifest(
            media_type=media_type,
            size=len(content),
            config=config,
            layers=_descriptors(document, "layers"),
            subject=subject,
            artifact_type=own_type or config.media_type,
            annotations=annotations,
        )
    _check_sizes(parsed)
    return parsed


# -- the document --------------------------------------------------------------------------------------------------


def _load(content: bytes) -> dict[str, object]:
    try:
        document = json.loads(content.decode("utf-8"), object_pairs_hook=_object_without_doubles, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid("manifest is not valid JSON") from error
    if not isinstance(document, dict):
        raise ManifestInvalid("manifest is not a JSON object")
    return document


def _object_without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # Of a doubled key one program takes the first and another the last: they would see two different images.
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ManifestInvalid(f"manifest has the key {double[:TEXT_LENGTH_MAX]!r} twice in one object")
    return members


def _no_constant(name: str) -> object:
    raise ManifestInvalid(f"manifest is not valid JSON: {name}")


def _media_type(document: Mapping[str, object], content_type: str) -> str:
    declared = content_type.partition(";")[0].strip().lower()
    version = document.get("schemaVersion")
    if declared in _SCHEMA_1_TYPES or (version == 1 and version is not True):
        raise ManifestInvalid("Docker image manifest version 2, schema 1 is not supported; push with Docker 1.10 or newer")
    own = _text(document, "mediaType", "manifest")
    if declared in _VAGUE_TYPES:
        declared = own or (OCI_INDEX if document.get("manifests") is not None else OCI_IMAGE)
    if declared not in MANIFEST_TYPES:
        raise ManifestInvalid(f"media type {declared[:TEXT_LENGTH_MAX]!r} is not that of a manifest this registry takes")
    if own and own != declared:
        raise ManifestInvalid(f"manifest says that it is {own!r}, but was sent as {declared!r}")
    if version != 2:
        raise ManifestInvalid("schemaVersion is not 2")
    return declared


def _refuse(document: Mapping[str, object], names: Iterable[str], what: str) -> None:
    # CVE-2021-41190: a document that is two things at once is read as one here and as the other there.
    for name in names:
        if document.get(name) is not None:
            raise ManifestInvalid(f"{what} has no {name!r}")


# -- its parts -----------------------------------------------------------------------------------------------------


def _descriptors(document: Mapping[str, object], name: str) -> tuple[Descriptor, ...]:
    # Go writes an empty list as null.
    listed = document.get(name)
    if listed is None:
        return ()
    if not isinstance(listed, list):
        raise ManifestInvalid(f"{name} is not a list")
    return tuple(_descriptor(entry, f"{name}[{number}]") for number, entry in enumerate(listed))


def _descriptor(entry: object, where: str) -> Descriptor:
    if not isinstance(entry, dict):
        raise ManifestInvalid(f"{where} is not an object")
    media_type = _text(entry, "mediaType", where)
    if not media_type:
        raise ManifestInvalid(f"{where} has no mediaType")
    platform = entry.get("platform")
    if platform is not None and not isinstance(platform, dict):
        raise ManifestInvalid(f"{where}.platform is not an object")
    descriptor = Descriptor(
        media_type=media_type,
        digest=_digest(entry, where),
        size=_size(entry, where),
        artifact_type=_text(entry, "artifactType", where),
        annotations=_annotations(entry, where),
        platform=platform,
        urls=_urls(entry, where),
    )
    _check_data(entry.get("data"), descriptor, where)
    return descriptor


def _text(entry: Mapping[str, object], name: str, where: str) -> str:
    value = entry.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ManifestInvalid(f"{where}: {name} is not a string")
    if len(value) > TEXT_LENGTH_MAX:
        raise ManifestInvalid(f"{where}: {name} has more than {TEXT_LENGTH_MAX} characters")
    if not value.isprintable():
        raise ManifestInvalid(f"{where}: {name} has control characters")
    return value


def _digest(entry: Mapping[str, object], where: str) -> Digest:
    value = entry.get("digest")
    if not isinstance(value, str):
        raise ManifestInvalid(f"{where} has no digest")
    try:
        return parse_digest(value)
    except (DigestInvalid, Unsupported) as error:
        raise ManifestInvalid(f"{where}: {error.message}") from error


def _size(entry: Mapping[str, object], where: str) -> int:
    value = entry.get("size")
    if not isinstance(value, int) or isinstance(value, bool):
        raise ManifestInvalid(f"{where} has no size")
    if not 0 <= value <= SIZE_BYTES_MAX:
        raise ManifestInvalid(f"{where}: size {value} is out of range")
    return value


def _annotations(entry: Mapping[str, object], where: str) -> dict[str, str]:
    value = entry.get("annotations")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ManifestInvalid(f"{where}: annotations is not an object")
    for name, text in value.items():
        if not isinstance(text, str):
            raise ManifestInvalid(f"{where}: annotation {name[:TEXT_LENGTH_MAX]!r} is not a string")
        if not _is_storable(name) or not _is_storable(text):
            raise ManifestInvalid(f"{where}: annotation {name[:TEXT_LENGTH_MAX]!r} is not valid Unicode text")
    return value


def _is_storable(text: str) -> bool:
    # JSON can write half a surrogate pair, which is no text in UTF-8, and NUL, which PostgreSQL does not take.
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _urls(entry: Mapping[str, object], where: str) -> tuple[str, ...]:
    value = entry.get("urls")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(url, str) for url in value):
        raise ManifestInvalid(f"{where}: urls is not a list of strings")
    return tuple(value)


def _check_data(data: object, descriptor: Descriptor, where: str) -> None:
    """See that embedded content is what the descriptor says."""
    if data is None:
        return
    if not isinstance(data, str):
        raise ManifestInvalid(f"{where}: data is not a string")
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ManifestInvalid(f"{where}: data is not base64") from error
    if len(content) != descriptor.size or digest_of(content, algorithm_of(descriptor.digest)) != descriptor.digest:
        raise ManifestInvalid(f"{where}: data does not match the descriptor's digest and size")


def _check_sizes(parsed: ParsedManifest) -> None:
    """See that no digest is listed with two sizes: one of them must be wrong."""
    sizes: dict[Digest, int] = {}
    contents = [it for it in (parsed.config, parsed.subject, *parsed.layers, *parsed.children) if it is not None]
    for descriptor in contents:
        if sizes.setdefault(descriptor.digest, descriptor.size) != descriptor.size:
            raise ManifestInvalid(f"{descriptor.digest} is listed with two different sizes")
