"""Every kind of content that clients push lives its whole life: pushed, listed, pulled in its very bytes, deleted."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from typing import Final

import pytest

from tests.functional.conformance.content import (
    ARTIFACT_ONE,
    DOCKER_CONFIG,
    DOCKER_FOREIGN_LAYER,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_FOREIGN_LAYER,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Made,
    artifact,
    check_life,
    check_pullable,
    describe,
    encode,
    image,
    index,
    layer,
    noise,
)
from tests.support.registry_client import Repository


def _nested_index() -> Made:
    return index([index([image(), image()]), index([image(), image()])])


def _custom_fields() -> Made:
    extra = {f"org.example.{secrets.token_hex(4)}": {"any": ["thing", 1, None]}}
    children = [image(extra=extra, config_extra=extra), image(extra=extra, config_extra=extra)]
    return index(children, extra=extra)


def _foreign_layers(*, docker: bool) -> Made:
    """Return an image whose first layer lies elsewhere: it is never pushed."""
    config, own, foreign = encode({"os": "linux", "author": secrets.token_hex(8)}), layer(), noise(300)
    elsewhere = {
        **describe(foreign, DOCKER_FOREIGN_LAYER if docker else OCI_FOREIGN_LAYER),
        "urls": ["https://store.example.com/layer"],
    }
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": describe(config, DOCKER_CONFIG if docker else OCI_CONFIG),
        "layers": [elsewhere, describe(own, DOCKER_LAYER if docker else OCI_LAYER_GZIP)],
    }
    return Made(media_type=media_type, content=encode(document), blobs=[config, own])


def _buildkit_cache() -> Made:
    """Return what BuildKit exports with mode=max: an index whose entries are layers and a configuration, not manifests."""
    contents = [(layer(), OCI_LAYER_GZIP), (noise(300), "application/vnd.buildkit.cacheconfig.v0")]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [describe(content, media_type) for content, media_type in contents],
    }
    return Made(media_type=OCI_INDEX, content=encode(document), blobs=[content for content, _ in contents])


def _odd_bytes() -> Made:
    """Return an image whose JSON is written as no encoder would: blanks, escapes, odd order and a newline at the end."""
    plain = image()
    content = b"\n {" + plain.content[1:].replace(b'"config"', b'\t"co\\u006efig" ') + b"\n\n"
    return Made(media_type=OCI_MANIFEST, content=content, blobs=plain.blobs)


KINDS: Final[dict[str, Callable[[], Made]]] = {
    "image": image,
    "image-uncompressed": lambda: image(compressed=False),
    "image-without-layers": lambda: image(layers=0),
    "image-with-data-fields": lambda: image(data=True),
    "docker-image": lambda: image(docker=True),
    "docker-list": lambda: index([image(docker=True), image(docker=True)], docker=True),
    "index": lambda: index([image(), image()]),
    "index-empty": lambda: index([], annotations={"org.example.unique": secrets.token_hex(8)}),
    "index-nested": _nested_index,
    "index-of-both-families": lambda: index([image(), image(docker=True)]),
    "custom-fields": _custom_fields,
    "artifact": artifact,
    "artifact-without-layers": lambda: artifact(layer_content=b"{}", layer_type=OCI_EMPTY),
    "artifact-of-any-config-type": lambda: artifact(artifact_type=None, config_type="application/vnd.example.config+json"),
    "artifact-index": lambda: index([artifact(), artifact()], artifact_type=ARTIFACT_ONE),
    "foreign-layers": lambda: _foreign_layers(docker=False),
    "docker-foreign-layers": lambda: _foreign_layers(docker=True),
    "buildkit-cache": _buildkit_cache,
    "odd-bytes": _odd_bytes,
}


@pytest.mark.parametrize("kind", KINDS)
def test_content_lives_from_push_to_delete(repository: Repository, kind: str) -> None:
    check_life(repository, KINDS[kind](), "v1")


@pytest.mark.parametrize("size_bytes", [3_900_000, 4 * 1024 * 1024], ids=["3.9-megabytes", "4-mebibytes"])
def test_large_manifest_is_taken(repository: Repository, size_bytes: int) -> None:
    small = image()
    room = size_bytes - len(image(extra={"annotations": {"org.example.large": ""}}).content)
    large = image(extra={"annotations": {"org.example.large": "A" * room}})
    assert len(large.content) == size_bytes
    assert len(small.content) < len(large.content)
    check_life(repository, large, "large")


def test_manifest_is_taken_when_it_comes_in_chunks(repository: Repository) -> None:
    made = image()
    made.push_blobs(repository)
    cut = len(made.content) // 2
    for reference in (made.digest, "chunked"):
        repository.put_manifest(reference, iter([made.content[:cut], made.content[cut:]]), made.media_type).expect(201)
    check_pullable(repository, made, [made.digest, "chunked"])


def test_type_without_media_type_field_is_the_content_type(repository: Repository) -> None:
    config, content = encode({"os": "linux"}), layer()
    manifest = encode(
        {
            "schemaVersion": 2,
            "config": describe(config, OCI_CONFIG),
            "layers": [describe(content, OCI_LAYER_GZIP)],
        }
    )
    made = Made(media_type=OCI_MANIFEST, content=manifest, blobs=[config, content])
    made.push_blobs(repository)
    repository.put_manifest("v1", manifest, OCI_MANIFEST).expect(201)
    check_pullable(repository, made, ["v1", made.digest])


def test_parameters_of_content_type_are_ignored(repository: Repository) -> None:
    made = image()
    made.push_blobs(repository)
    repository.put_manifest("v1", made.content, f"{OCI_MANIFEST}; charset=utf-8").expect(201)
    check_pullable(repository, made, ["v1", made.digest])


def test_data_field_saves_no_push_of_the_blob(repository: Repository) -> None:
    # Image specification, "Embedded Content": a registry need not look into `data`, so the blob itself has to be there.
    content = noise(64)
    made = artifact(layer_content=content)
    text = made.content.replace(b'"layers": [{', b'"layers": [{"data": "' + base64.b64encode(content) + b'", ')
    with_data = Made(media_type=OCI_MANIFEST, content=text, blobs=made.blobs)
    check_life(repository, with_data, "v1")


def test_one_manifest_under_many_tags_stays_when_one_is_deleted(repository: Repository) -> None:
    made = image()
    made.push(repository)
    for tag in ("one", "two", "three"):
        repository.put_manifest(tag, made.content, made.media_type).expect(201)
    repository.delete("manifests/two").expect(202)
    assert repository.tags() == ["one", "three"]
    check_pullable(repository, made, ["one", "three", made.digest])


def test_tag_moves_to_what_was_pushed_last(repository: Repository) -> None:
    first, second = image(), image()
    for made in (first, second):
        made.push_blobs(repository)
        repository.put_manifest("moving", made.content, made.media_type).expect(201)
        check_pullable(repository, made, ["moving", made.digest])
    check_pullable(repository, first, [first.digest])
    assert repository.tags() == ["moving"]


def test_deleting_a_manifest_deletes_its_tags(repository: Repository) -> None:
    # Distribution specification 1.1, "Deleting Manifests": any tag pointing to that digest will return a 404.
    made, other = image(), image()
    for one, tag in ((made, "gone"), (made, "gone-too"), (other, "stays")):
        one.push(repository)
        repository.put_manifest(tag, one.content, one.media_type).expect(201)
    repository.delete(f"manifests/{made.digest}").expect(202)
    for reference in (made.digest, "gone", "gone-too"):
        repository.head(f"manifests/{reference}").expect(404)
    assert repository.tags() == ["stays"]


def test_deleted_manifest_can_be_pushed_again(repository: Repository) -> None:
    made = image()
    made.push(repository)
    repository.put_manifest("v1", made.content, made.media_type).expect(201)
    repository.delete(f"manifests/{made.digest}").expect(202)
    check_life(repository, made, "v1")
