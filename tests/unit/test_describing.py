"""Type, icon and attributes of an artifact, as Harbor works them out from manifest and configuration."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from twinhull.catalog.describing import ATTRIBUTES_BYTES_MAX, Described, describe
from twinhull.catalog.media import DOCKER_IMAGE, OCI_IMAGE, OCI_INDEX, parse_manifest

OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
DIGEST: Final = f"sha256:{'a' * 64}"


def described(
    config_type: str = OCI_CONFIG,
    config: object = None,
    *,
    layers: tuple[dict[str, object], ...] = (),
    config_annotations: dict[str, str] | None = None,
    media_type: str = OCI_IMAGE,
    **more: object,
) -> Described:
    """Return what is said of an image manifest with this configuration."""
    descriptor = {"mediaType": config_type, "digest": DIGEST, "size": 2, "annotations": config_annotations or {}}
    document = {"schemaVersion": 2, "mediaType": media_type, "config": descriptor, "layers": list(layers), **more}
    content = json.dumps(document).encode()
    return describe(parse_manifest(content, media_type), json.dumps(config).encode() if config is not None else None)


def attributes(found: Described) -> Any:  # noqa: ANN401 - whatever JSON is
    return json.loads(found.attributes) if found.attributes else None


def layer(media_type: str, **annotations: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{'b' * 64}", "size": 2, "annotations": annotations}


@pytest.mark.parametrize(
    ("config_type", "kind"),
    [
        (OCI_CONFIG, "IMAGE"),
        ("application/vnd.docker.container.image.v1+json", "IMAGE"),
        ("application/vnd.cncf.helm.config.v1+json", "CHART"),
        ("application/vnd.cnab.manifest.v1", "CNAB"),
        ("application/vnd.wasm.config.v1+json", "WASM"),
        ("application/vnd.goharbor.harbor.sbom.v1", "SBOM"),
        ("application/vnd.cncf.model.config.v1+json", "CNAI"),
        ("application/vnd.caicloud.model.config.v1alpha1+json", "MODEL"),
        ("application/vnd.cncf.openpolicyagent.config.v1+json", "OPENPOLICYAGENT"),
        ("application/vnd.a.b.c.config.v1+json", "B.C"),
        ("application/vnd.unknown.config.v1+json", "UNKNOWN"),
        ("text/plain", "UNKNOWN"),
    ],
)
def test_type_follows_the_configurations_media_type(config_type: str, kind: str) -> None:
    found = described(config_type)
    assert (found.media_type, found.type) == (config_type, kind)


def test_artifact_without_a_configuration_tells_its_type_itself() -> None:
    found = described("application/vnd.oci.empty.v1+json", artifactType="application/vnd.acme.rocket.config.v1+json")
    assert (found.media_type, found.type) == ("application/vnd.acme.rocket.config.v1+json", "ROCKET")


def test_index_is_an_image_unless_an_annotation_says_otherwise() -> None:
    def index(**annotations: str) -> Described:
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "annotations": annotations}
        return describe(parse_manifest(json.dumps(document).encode(), OCI_INDEX), None)

    assert (index().media_type, index().type) == (OCI_INDEX, "IMAGE")
    named = index(**{"org.opencontainers.artifactType": "application/vnd.cnab.manifest.v1"})
    assert (named.media_type, named.type) == ("application/vnd.cnab.manifest.v1", "CNAB")


def test_web_assembly_in_an_image_is_told_by_an_annotation() -> None:
    assert described(annotations={"module.wasm.image/variant": "compat"}).type == "WASM"
    assert described(annotations={"module.wasm.image/variant": "other"}).type == "IMAGE"


def test_attributes_of_an_image_are_what_harbor_shows_of_its_configuration() -> None:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Cmd": ["/x"], "Env": [], "Labels": {"maintainer": "z"}, "Hostname": "h"},
        "rootfs": {"type": "layers"},
    }
    expected = {
        "architecture": "amd64",
        "author": "z",
        "config": {"Cmd": ["/x"], "Labels": {"maintainer": "z"}},
        "created": "2026-01-01T00:00:00Z",
        "os": "linux",
    }
    assert attributes(described(config=config)) == expected
    docker = described("application/vnd.docker.container.image.v1+json", {**config, "author": "me"}, media_type=DOCKER_IMAGE)
    assert attributes(docker) == {**expected, "author": "me"}


def test_attributes_of_other_artifacts_are_their_configuration_but_for_what_is_to_be_skipped() -> None:
    config = {"name": "app", "version": "1.0.0", "metrics": [1], "git": {"a": 1}}
    assert attributes(described("application/vnd.cncf.helm.config.v1+json", config)) == config
    skipped = described(
        "application/vnd.caicloud.model.config.v1alpha1+json",
        config,
        config_annotations={"io.goharbor.artifact.v1alpha1.skip-list": "metrics,git"},
    )
    assert attributes(skipped) == {"name": "app", "version": "1.0.0"}


@pytest.mark.parametrize("config", [[1], "text", {"name": "x" * ATTRIBUTES_BYTES_MAX}])
def test_attributes_that_are_none_or_too_large_are_left_out(config: object) -> None:
    assert described("application/vnd.cncf.helm.config.v1+json", config).attributes == ""
    assert described("text/plain", {"a": 1}).attributes == ""


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b'{"config": 5, "author": 7, "created": []}'])
def test_configuration_that_is_anything_at_all_breaks_nothing(content: bytes) -> None:
    document = {"schemaVersion": 2, "config": {"mediaType": OCI_CONFIG, "digest": DIGEST, "size": 2}, "layers": []}
    assert describe(parse_manifest(json.dumps(document).encode(), OCI_IMAGE), content).type == "IMAGE"


def test_icon_is_the_layer_that_is_marked_as_such() -> None:
    marked = layer("image/png", **{"io.goharbor.artifact.v1alpha1.icon": ""})
    assert described(layers=(layer("text/plain"), marked)).icon == marked["digest"]
    assert described(layers=(layer("text/plain"),)).icon == ""


@pytest.mark.parametrize(
    ("artifact_type", "layers", "has_subject", "expected"),
    [
        ("", (), False, ""),
        ("", (layer("application/vnd.dev.cosign.simplesigning.v1+json"),), False, "signature.cosign"),
        ("application/vnd.dev.cosign.artifact.sig.v1+json", (), True, "signature.cosign"),
        ("application/vnd.cncf.notary.signature", (), True, "signature.notation"),
        ("application/vnd.goharbor.harbor.sbom.v1", (), True, "sbom.harbor"),
        ("", (layer("x/y", **{"containerd.io/snapshot/nydus-bootstrap": "true"}),), True, "accelerator.nydus"),
        ("application/spdx+json", (), True, "subject.accessory"),
        ("application/spdx+json", (), False, ""),
    ],
)
def test_accessory_type_follows_from_what_it_is_made_of(
    artifact_type: str, layers: tuple[dict[str, object], ...], has_subject: bool, expected: str
) -> None:
    more: dict[str, Any] = {"artifactType": artifact_type} if artifact_type else {}
    if has_subject:
        more["subject"] = {"mediaType": OCI_IMAGE, "digest": DIGEST, "size": 2}
    assert described(layers=layers, **more).accessory_type == expected
