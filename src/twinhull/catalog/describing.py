"""What Harbor says of an artifact: its type, icon and attributes, from its manifest and configuration. Pure.

Facts are worked out once, by the node that takes the push, and travel with the artifact's record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from twinhull.catalog.media import DOCKER_IMAGE, OCI_IMAGE, ParsedManifest

# A larger configuration is not looked into.
CONFIG_BYTES_MAX: Final = 1024 * 1024
# Attributes travel in the artifact's record, so they must stay small; larger ones are left out.
ATTRIBUTES_BYTES_MAX: Final = 64 * 1024

IMAGE: Final = "IMAGE"
CHART: Final = "CHART"
CNAB: Final = "CNAB"
WASM: Final = "WASM"
SBOM: Final = "SBOM"
MODEL: Final = "CNAI"
UNKNOWN: Final = "UNKNOWN"

OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
CHART_CONFIG: Final = "application/vnd.cncf.helm.config.v1+json"
_WASM_CONFIG: Final = "application/vnd.wasm.config.v1+json"
_TYPES: Final[Mapping[str, str]] = {
    OCI_CONFIG: IMAGE,
    DOCKER_CONFIG: IMAGE,
    "application/vnd.oci.image.index.v1+json": IMAGE,
    "application/vnd.docker.distribution.manifest.list.v2+json": IMAGE,
    CHART_CONFIG: CHART,
    "application/vnd.cnab.manifest.v1": CNAB,
    _WASM_CONFIG: WASM,
    "application/vnd.goharbor.harbor.sbom.v1": SBOM,
    "application/vnd.cncf.model.config.v1+json": MODEL,
}
# Whoever makes up a type of artifact names it in the configuration's media type: application/vnd.VENDOR.TYPE.config.V+json.
_USER_DEFINED: Final = re.compile(r"application/vnd\.[^.]*\.(.*)\.config\.[^.]*\+json")
_TYPE_LENGTH_MAX: Final = 64
_INDEX_TYPE_ANNOTATION: Final = "org.opencontainers.artifactType"
_WASM_MARKS: Final = (("module.wasm.image/variant", "compat"), ("run.oci.handler", "wasm"))
_SKIP_LIST: Final = "io.goharbor.artifact.v1alpha1.skip-list"
_ICON: Final = "io.goharbor.artifact.v1alpha1.icon"

COSIGN: Final = "signature.cosign"
NOTATION: Final = "signature.notation"
NYDUS: Final = "accelerator.nydus"
SBOM_ACCESSORY: Final = "sbom.harbor"
SUBJECT: Final = "subject.accessory"
_ACCESSORIES: Final[Mapping[str, str]] = {
    "application/vnd.cncf.notary.signature": NOTATION,
    "application/vnd.dev.cosign.artifact.sig.v1+json": COSIGN,
    "application/vnd.dev.sigstore.bundle.v0.3+json": COSIGN,
    "application/vnd.goharbor.harbor.sbom.v1": SBOM_ACCESSORY,
}
_COSIGN_LAYER: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
_NYDUS_LAYER: Final = "containerd.io/snapshot/nydus-bootstrap"

# Harbor shows these of an image's configuration, where they are set.
_RUN_FIELDS: Final = (
    *("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "ArgsEscaped"),
)
_AUTHOR_LABELS: Final = ("org.opencontainers.image.authors", "maintainer")

Json = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What is known of an artifact beside its manifest."""

    # The configuration's media type; of an index, its own.
    media_type: str
    type: str
    # The digest of a layer that is the artifact's picture, or empty.
    icon: str
    # What it is to its subject; "signature.cosign" also where the subject is told by a tag.
    accessory_type: str
    # A JSON object; empty where there are none or they are not known.
    attributes: str


def describe(parsed: ParsedManifest, config: bytes | None) -> Described:
    """Return what is known of an artifact; without its configuration, all but the attributes."""
    media_type = _media_type(parsed)
    kind = _type_of(media_type)
    attributes = _attributes(parsed, kind, media_type, config) if config else None
    text = msgspec.json.encode(attributes).decode() if attributes is not None else ""
    return Described(
        media_type=media_type,
        type=kind,
        icon=next((layer.digest for layer in parsed.layers if _ICON in layer.annotations), ""),
        accessory_type=_accessory_type(parsed),
        attributes=text if len(text) <= ATTRIBUTES_BYTES_MAX else "",
    )


def _media_type(parsed: ParsedManifest) -> str:
    if parsed.config is None:
        return parsed.annotations.get(_INDEX_TYPE_ANNOTATION) or parsed.media_type
    if any(parsed.annotations.get(name) == value for name, value in _WASM_MARKS):
        return _WASM_CONFIG
    # OCI 1.1: an artifact without a configuration tells its type itself.
    return parsed.artifact_type if parsed.config.media_type == OCI_EMPTY else parsed.config.media_type


def _type_of(media_type: str) -> str:
    known = _TYPES.get(media_type)
    if known is not None:
        return known
    named = _USER_DEFINED.fullmatch(media_type)
    return named[1].upper()[:_TYPE_LENGTH_MAX] if named is not None else UNKNOWN


def _accessory_type(parsed: ParsedManifest) -> str:
    if any(layer.media_type == _COSIGN_LAYER for layer in parsed.layers):
        return COSIGN
    if parsed.subject is None:
        return ""
    if parsed.layers and _NYDUS_LAYER in parsed.layers[-1].annotations:
        return NYDUS
    return _ACCESSORIES.get(parsed.artifact_type, SUBJECT)


def _attributes(parsed: ParsedManifest, kind: str, media_type: str, config: bytes) -> Json | None:
    if parsed.config is None or parsed.media_type not in (OCI_IMAGE, DOCKER_IMAGE) or kind == UNKNOWN:
        return None
    try:
        document = msgspec.json.decode(config)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    if media_type in (OCI_CONFIG, DOCKER_CONFIG):
        return _image_attributes(document)
    for name in parsed.config.annotations.get(_SKIP_LIST, "").split(","):
        document.pop(name, None)
    return document


def _image_attributes(document: Json) -> Json:
    run = document.get("config")
    shown = {name: run[name] for name in _RUN_FIELDS if run.get(name)} if isinstance(run, dict) else {}
    labels = shown.get("Labels")
    author = document.get("author")
    if not author and isinstance(labels, dict):
        author = next((labels[name] for name in _AUTHOR_LABELS if labels.get(name)), "")
    return {
        "architecture": document.get("architecture", ""),
        "author": author or "",
        "config": shown,
        "created": document.get("created"),
        "os": document.get("os", ""),
    }
