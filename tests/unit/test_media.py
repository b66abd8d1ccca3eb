"""What a manifest says, and what is no manifest."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from twinhull.catalog.media import (
    DOCKER_IMAGE,
    DOCKER_LIST,
    MANIFEST_BYTES_MAX,
    OCI_IMAGE,
    OCI_INDEX,
    ParsedManifest,
    parse_manifest,
)
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import ManifestInvalid, ManifestTooLarge

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


def descriptor(
    content: bytes = b"x", media_type: str = LAYER_TYPE, algorithm: str = "sha256", **more: object
) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content, algorithm), "size": len(content), **more}


def image(**changed: object) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": descriptor(b"{}", CONFIG_TYPE),
        "layers": [descriptor(b"one"), descriptor(b"two")],
        **changed,
    }


def index(**changed: object) -> dict[str, Any]:
    manifests = [descriptor(b"amd64", OCI_IMAGE, platform={"os": "linux"}), descriptor(b"arm64", OCI_IMAGE)]
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests, **changed}


def parse(document: object, content_type: str | None = None) -> ParsedManifest:
    declared = document.get("mediaType", "") if content_type is None and isinstance(document, dict) else content_type or ""
    return parse_manifest(json.dumps(document).encode(), declared)


def refused(document: object, content_type: str | None = None) -> str:
    with pytest.raises(ManifestInvalid) as caught:
        parse(document, content_type)
    return caught.value.message


class TestImage:
    def test_names_its_config_and_layers(self) -> None:
        parsed = parse(image())
        assert not parsed.is_index
        assert parsed.config is not None
        assert parsed.config.media_type == CONFIG_TYPE
        assert parsed.required_blobs == {digest_of(b"{}"): 2, digest_of(b"one"): 3, digest_of(b"two"): 3}
        assert parsed.manifests == {}

    def test_size_is_that_of_its_own_bytes(self) -> None:
        content = json.dumps(image()).encode()
        assert parse_manifest(content, OCI_IMAGE).size == len(content)

    def test_docker_schema_2_is_taken(self) -> None:
        parsed = parse(image(mediaType=DOCKER_IMAGE))
        assert parsed.media_type == DOCKER_IMAGE

    def test_artifact_type_falls_back_to_the_config_type(self) -> None:
        assert parse(image()).artifact_type == CONFIG_TYPE
        assert parse(image(artifactType="application/vnd.example.sbom")).artifact_type == "application/vnd.example.sbom"

    def test_a_layer_listed_twice_counts_once(self) -> None:
        parsed = parse(image(layers=[descriptor(b"one"), descriptor(b"one")]))
        assert len(parsed.layers) == 2
        assert list(parsed.blobs) == [digest_of(b"{}"), digest_of(b"one")]

    def test_no_layers_is_no_error(self) -> None:
        assert parse(image(layers=[])).layers == ()
        assert parse(image(layers=None)).layers == ()

    @pytest.mark.parametrize(
        "media_type",
        [
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ],
    )
    def test_a_non_distributable_layer_need_not_be_there(self, media_type: str) -> None:
        foreign = descriptor(b"foreign", media_type, urls=["https://example.com/layer"])
        parsed = parse(image(layers=[descriptor(b"one"), foreign]))
        assert digest_of(b"foreign") in parsed.blobs
        assert digest_of(b"foreign") not in parsed.required_blobs
        assert parsed.layers[1].urls == ("https://example.com/layer",)

    def test_subject_and_annotations_are_read(self) -> None:
        parsed = parse(image(subject=descriptor(b"subject", OCI_IMAGE), annotations={"org.example": "ü"}))
        assert parsed.subject is not None
        assert parsed.subject.digest == digest_of(b"subject")
        assert parsed.annotations == {"org.example": "ü"}
        assert digest_of(b"subject") not in parsed.blobs
        assert parsed.manifests == {}

    def test_sha512_and_unknown_fields_are_taken(self) -> None:
        parsed = parse(image(layers=[descriptor(b"one", algorithm="sha512", extra=1)], **{"org.example": {"any": [1]}}))
        assert parsed.layers[0].digest.startswith("sha512:")

    def test_embedded_data_must_match(self) -> None:
        good = base64.b64encode(b"{}").decode()
        assert parse(image(config=descriptor(b"{}", CONFIG_TYPE, data=good))).config is not None
        for bad in (base64.b64encode(b"[]").decode(), base64.b64encode(b"{}  ").decode(), "not base64!", 7):
            assert "data" in refused(image(config=descriptor(b"{}", CONFIG_TYPE, data=bad)))


class TestIndex:
    def test_lists_manifests(self) -> None:
        parsed = parse(index())
        assert parsed.is_index
        assert parsed.manifests == {digest_of(b"amd64"): 5, digest_of(b"arm64"): 5}
        assert parsed.blobs == {}
        assert parsed.children[0].platform == {"os": "linux"}

    def test_docker_list_is_taken(self) -> None:
        children = [descriptor(b"amd64", DOCKER_IMAGE)]
        assert parse(index(mediaType=DOCKER_LIST, manifests=children)).manifests == {digest_of(b"amd64"): 5}

    def test_empty_index_is_taken(self) -> None:
        assert parse(index(manifests=[])).children == ()

    def test_what_is_no_manifest_in_it_is_a_blob_as_in_buildkits_cache(self) -> None:
        cache = [descriptor(b"layer"), descriptor(b"conf", "application/vnd.buildkit.cacheconfig.v0")]
        parsed = parse(index(manifests=cache))
        assert parsed.manifests == {}
        assert list(parsed.required_blobs) == [digest_of(b"layer"), digest_of(b"conf")]

    def test_without_artifact_type_has_none(self) -> None:
        assert parse(index()).artifact_type == ""
        assert parse(index(artifactType="application/vnd.example")).artifact_type == "application/vnd.example"


class TestMediaType:
    def test_parameters_and_case_of_the_content_type_are_ignored(self) -> None:
        assert parse(image(), OCI_IMAGE.upper() + "; charset=utf-8").media_type == OCI_IMAGE

    @pytest.mark.parametrize("vague", ["", "application/json", "application/octet-stream"])
    def test_a_vague_content_type_leaves_it_to_the_document(self, vague: str) -> None:
        assert parse(image(mediaType=DOCKER_IMAGE), vague).media_type == DOCKER_IMAGE
        untyped = image()
        del untyped["mediaType"]
        assert parse(untyped, vague).media_type == OCI_IMAGE
        untyped = index()
        del untyped["mediaType"]
        assert parse(untyped, vague).media_type == OCI_INDEX

    def test_a_contradiction_is_refused(self) -> None:
        assert "sent as" in refused(image(), DOCKER_IMAGE)

    @pytest.mark.parametrize(
        "content_type",
        ["text/html", "application/vnd.oci.image.config.v1+json", "application/vnd.oci.artifact.manifest.v1+json", "x\r\ny: z"],
    )
    def test_other_types_are_refused(self, content_type: str) -> None:
        document = image()
        del document["mediaType"]
        assert "media type" in refused(document, content_type)

    @pytest.mark.parametrize("suffix", ["json", "prettyjws"])
    def test_docker_schema_1_is_refused_in_clear_words(self, suffix: str) -> None:
        document = {"schemaVersion": 1, "name": "app", "fsLayers": []}
        assert "schema 1" in refused(document, f"application/vnd.docker.distribution.manifest.v1+{suffix}")
        assert "schema 1" in refused(document, "application/json")

    @pytest.mark.parametrize("version", [None, "2", 3, True, 2.5])
    def test_the_schema_version_must_be_2(self, version: object) -> None:
        assert "schemaVersion" in refused(image(schemaVersion=version))

    def test_a_document_that_is_two_things_is_refused(self) -> None:
        assert "manifests" in refused(image(manifests=[]))
        assert "layers" in refused(index(layers=[]))
        assert "config" in refused(index(config=descriptor()))
        assert parse(image(manifests=None)).media_type == OCI_IMAGE


class TestGarbage:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"garbage",
            b"[]",
            b"null",
            b'"text"',
            b"\xff\xfe{}",
            b"\xef\xbb\xbf{}",
            b"[" * 100_000,
            b'{"schemaVersion": NaN}',
            b'{"schemaVersion": ' + b"9" * 5000 + b"}",
            b'{"schemaVersion": 2} trailing',
        ],
    )
    def test_what_is_no_json_object_is_refused(self, content: bytes) -> None:
        with pytest.raises(ManifestInvalid):
            parse_manifest(content, OCI_IMAGE)

    def test_a_doubled_key_is_refused_at_any_depth(self) -> None:
        text = json.dumps(image())
        doubled = text.replace('"layers"', '"layers": [], "layers"', 1)
        with pytest.raises(ManifestInvalid, match="'layers' twice"):
            parse_manifest(doubled.encode(), OCI_IMAGE)
        doubled = text.replace('"size": 3', '"size": 3, "size": 4', 1)
        with pytest.raises(ManifestInvalid, match="'size' twice"):
            parse_manifest(doubled.encode(), OCI_IMAGE)

    @pytest.mark.parametrize(
        "changed",
        [
            {"config": None},
            {"config": []},
            {"config": {}},
            {"layers": {}},
            {"layers": [None]},
            {"layers": ["sha256:abc"]},
            {"layers": [{**descriptor(), "mediaType": ""}]},
            {"layers": [{**descriptor(), "mediaType": 5}]},
            {"layers": [{**descriptor(), "mediaType": "a/b\r\nc"}]},
            {"layers": [{**descriptor(), "mediaType": "a/" + "b" * 300}]},
            {"layers": [{**descriptor(), "size": -1}]},
            {"layers": [{**descriptor(), "size": "1"}]},
            {"layers": [{**descriptor(), "size": 1.0}]},
            {"layers": [{**descriptor(), "size": True}]},
            {"layers": [{**descriptor(), "size": 2**63}]},
            {"layers": [{**descriptor(), "size": None}]},
            {"layers": [{**descriptor(), "digest": None}]},
            {"layers": [{**descriptor(), "digest": "sha256:xyz"}]},
            {"layers": [{**descriptor(), "digest": "sha256:" + "A" * 64}]},
            {"layers": [{**descriptor(), "digest": "md5:" + "a" * 32}]},
            {"layers": [{**descriptor(), "digest": "../../etc/passwd"}]},
            {"layers": [{**descriptor(), "annotations": []}]},
            {"layers": [{**descriptor(), "platform": "linux"}]},
            {"layers": [{**descriptor(), "urls": "https://example.com"}]},
            {"layers": [{**descriptor(), "urls": [1]}]},
            {"annotations": {"a": 1}},
            {"annotations": {"a": None}},
            {"annotations": {"a": "\ud800"}},
            {"annotations": {"\ud800": "a"}},
            {"annotations": {"a": "\0"}},
            {"artifactType": 1},
            {"artifactType": "x\0"},
            {"subject": "sha256:abc"},
            {"subject": {"digest": "sha256:abc"}},
            {"mediaType": ["x"]},
        ],
    )
    def test_wrong_types_and_values_are_refused(self, changed: dict[str, Any]) -> None:
        refused(image(**changed), OCI_IMAGE)

    def test_one_digest_with_two_sizes_is_refused(self) -> None:
        assert "two different sizes" in refused(image(layers=[descriptor(b"one"), {**descriptor(b"one"), "size": 4}]))


class TestSize:
    def test_the_largest_manifest_is_taken_and_one_byte_more_is_not(self) -> None:
        content = json.dumps(image()).encode()
        largest = content + b" " * (MANIFEST_BYTES_MAX - len(content))
        assert parse_manifest(largest, OCI_IMAGE).size == MANIFEST_BYTES_MAX
        with pytest.raises(ManifestTooLarge):
            parse_manifest(largest + b" ", OCI_IMAGE)
