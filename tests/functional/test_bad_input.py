"""Bad input to the data plane: each gets the specification's error, and leaves nothing half-visible behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.functional.conformance.content import (
    DOCKER_MANIFEST,
    DOCKER_SCHEMA_1,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Made,
    check_absent,
    check_blob,
    check_pullable,
    describe,
    digest_of,
    encode,
    image,
    index,
    noise,
)
from tests.support.registry_client import RegistryClient, Repository, location_of, read_raw
from tests.support.topology import Registry

# The nodes run the same code, but the entrance reads requests in a way of its own.
TOPOLOGIES: Final = ("one", "entrance")
MANIFEST_MAX: Final = 4 * 1024 * 1024
UPLOAD_CODES: Final = ("BLOB_UPLOAD_INVALID", "SIZE_INVALID")


# -- uploads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_range",
    ["abc", "-", "0-", "-9", "9-0", "bytes 0-9", "bytes=0-9", "0-9/10", "0x0-0x9", "0-9,10-19", "0-99999999999999999999"],
)
def test_content_range_that_is_none_is_refused(repository: Repository, content_range: str) -> None:
    content = noise(10)
    upload = repository.start_upload()
    repository.patch(upload, content, content_range=content_range).refused((400, 416), UPLOAD_CODES)
    repository.finish(upload, digest_of(content), content, content_range=content_range).refused((400, 416), UPLOAD_CODES)
    check_absent(repository, f"blobs/{digest_of(content)}")
    repository.patch(upload, content, content_range="0-9").expect(202)
    repository.finish(upload, digest_of(content)).expect(201)
    check_blob(repository, content, digest_of(content))


@pytest.mark.parametrize("content_range", ["0-8", "0-10", "0-0"])
def test_content_range_of_another_length_is_refused(repository: Repository, content_range: str) -> None:
    content = noise(10)
    upload = repository.start_upload()
    repository.patch(upload, content, content_range=content_range).refused((400, 416), UPLOAD_CODES)
    check_absent(repository, f"blobs/{digest_of(content)}")
    repository.patch(upload, content, content_range="0-9").expect(202)
    repository.finish(upload, digest_of(content)).expect(201)
    check_blob(repository, content, digest_of(content))


def raw_head(client: RegistryClient, method: str, target: str, headers: list[str]) -> bytes:
    """Return the first lines of a request that a test goes on writing by itself."""
    authorization = client.authorization_of(method, target)
    lines = [f"{method} {target} HTTP/1.1", f"Host: {client.addresses[0]}", *headers]
    if authorization:
        lines.append(f"Authorization: {authorization}")
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("encoding", ["length", "chunked"])
@pytest.mark.parametrize("way", ["post", "patch", "put"])
def test_upload_that_breaks_off_is_not_seen(repository: Repository, way: str, encoding: str) -> None:
    content = noise(100_000)
    digest = digest_of(content)
    upload = repository.start_upload()
    target, method = {
        "post": (repository.path(f"blobs/uploads/?digest={digest}"), "POST"),
        "patch": (upload, "PATCH"),
        "put": (f"{upload}{'&' if '?' in upload else '?'}digest={digest}", "PUT"),
    }[way]
    length = f"Content-Length: {len(content)}" if encoding == "length" else "Transfer-Encoding: chunked"
    half = content[:50_000]
    body = half if encoding == "length" else b"%x\r\n%s\r\n" % (len(half), half)
    request = raw_head(repository.client, method, target, [length, "Content-Type: application/octet-stream"]) + body
    reply = read_raw(repository.client.addresses[0], request, half_close=True)
    assert b" 201 " not in reply.partition(b"\r\n")[0]
    for part in (content, half):
        check_absent(repository, f"blobs/{digest_of(part)}")
    # The session may keep what has come, or nothing, or be over; what it says it has must be what it has.
    answer = repository.client.request("GET", upload).expect(204, 404)
    if answer.status == 204:
        received = int((answer.header("Range") or "").removeprefix("0-")) + 1
        received = 0 if received <= 1 else received
        rest = repository.patch(location_of(answer), content[received:], content_range=f"{received}-{len(content) - 1}")
        repository.finish(location_of(rest.expect(202)), digest).expect(201)
        check_blob(repository, content, digest)


# -- manifests -----------------------------------------------------------------------------------------------------


def test_manifest_naming_missing_blobs_is_refused(repository: Repository) -> None:
    made = image()
    repository.push_blob(b"other", digest_of(b"other")).expect(201)
    for missing in range(len(made.blobs)):
        for number, content in enumerate(made.blobs):
            if number != missing:
                repository.push_blob(content, digest_of(content)).expect(201)
        for reference in (made.digest, "v1"):
            answer = repository.put_manifest(reference, made.content, made.media_type)
            answer.refused((400, 404), "MANIFEST_BLOB_UNKNOWN")
        check_absent(repository, f"manifests/{made.digest}")
        check_absent(repository, "manifests/v1")
        for number, content in enumerate(made.blobs):
            if number != missing:
                repository.delete(f"blobs/{digest_of(content)}").expect(202)
    assert repository.get("tags/list").expect(200, 404).status == 404 or repository.tags() == []


def test_index_naming_missing_manifests_is_refused(repository: Repository) -> None:
    children = [image(), image()]
    made = index(children)
    children[0].push(repository)
    children[1].push_blobs(repository)
    repository.put_manifest("v1", made.content, made.media_type).refused((400, 404), "MANIFEST_BLOB_UNKNOWN")
    check_absent(repository, f"manifests/{made.digest}")
    check_absent(repository, "manifests/v1")
    children[1].push(repository)
    repository.put_manifest("v1", made.content, made.media_type).expect(201)


def test_blobs_of_another_repository_are_not_enough(registry: Registry) -> None:
    one, other, made = registry.new_repository("one"), registry.new_repository("other"), image()
    made.push(one)
    other.put_manifest("stolen", made.content, made.media_type).refused((400, 404), "MANIFEST_BLOB_UNKNOWN")
    check_absent(other, "manifests/stolen")


def test_refused_manifest_leaves_the_tag_where_it_was(repository: Repository) -> None:
    made = image()
    made.push(repository)
    repository.put_manifest("v1", made.content, made.media_type).expect(201)
    missing = image()
    repository.put_manifest("v1", missing.content, missing.media_type).refused((400, 404), "MANIFEST_BLOB_UNKNOWN")
    repository.put_manifest("v1", b"{", OCI_MANIFEST).refused(400, "MANIFEST_INVALID")
    check_pullable(repository, made, ["v1", made.digest])


CONFIG: Final = b"{}"
CONFIG_DESCRIPTOR: Final = describe(CONFIG, OCI_CONFIG)
PLAIN: Final[dict[str, object]] = {
    "schemaVersion": 2,
    "mediaType": OCI_MANIFEST,
    "config": CONFIG_DESCRIPTOR,
    "layers": [describe(CONFIG, OCI_LAYER_GZIP)],
}


def _without(name: str) -> bytes:
    return encode({key: value for key, value in PLAIN.items() if key != name})


def _with(**changes: object) -> bytes:
    return encode({**PLAIN, **changes})


def _with_layer(**changes: object) -> bytes:
    return _with(layers=[{**describe(CONFIG, OCI_LAYER_GZIP), **changes}])


# What is wrong, the bytes, and their Content-Type where it is not that of an OCI image.
GARBAGE: Final[dict[str, bytes]] = {
    "empty": b"",
    "open-brace": b"{",
    "text": b"hello",
    "list": b"[]",
    "null": b"null",
    "number": b"1e999",
    "not-utf-8": b'{"schemaVersion":2,"mediaType":"\xff\xfe"}',
    "two-documents": _with() + _with(),
    "nul-byte": _with() + b"\x00",
    "very-deep": b"[" * 100_000,
    "very-deep-inside": _with(annotations=None)[:-1] + b',"x":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
    "schema-1-number": _with(schemaVersion=1),
    "schema-is-text": _with(schemaVersion="2"),
    "no-schema": _without("schemaVersion"),
    "no-config": _without("config"),
    "config-is-list": _with(config=[]),
    "config-is-null": _with(config=None),
    "layers-is-object": _with(layers={}),
    "layer-is-text": _with(layers=["sha256:abc"]),
    "media-type-is-number": _with(mediaType=2),
    "other-media-type": _with(mediaType=OCI_INDEX),
    "annotations-is-list": _with(annotations=["a"]),
    "annotation-is-number": _with(annotations={"a": 1}),
    "subject-is-text": _with(subject="sha256:abc"),
    "artifact-type-is-number": _with(artifactType=7),
    "digest-missing": _with(config={"mediaType": OCI_CONFIG, "size": 2}),
    "digest-malformed": _with_layer(digest="sha256:baddigeststring"),
    "digest-is-number": _with_layer(digest=12),
    "digest-with-path": _with_layer(digest="sha256:../../../../etc/passwd"),
    "size-missing": _with(config={"mediaType": OCI_CONFIG, "digest": digest_of(CONFIG)}),
    "size-negative": _with_layer(size=-1),
    "size-is-text": _with_layer(size="2"),
    "size-is-fraction": _with_layer(size=2.5),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_manifest_is_refused(repository: Repository, what: str) -> None:
    content = GARBAGE[what]
    repository.push_blob(CONFIG, digest_of(CONFIG)).expect(201)
    for reference in ("garbage", digest_of(content)):
        answer = repository.put_manifest(reference, content, OCI_MANIFEST)
        answer.refused(400, ("MANIFEST_INVALID", "DIGEST_INVALID", "SIZE_INVALID"))
        check_absent(repository, f"manifests/{reference}")


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (_with(), "text/plain"),
        (_with(), OCI_INDEX),
        (_with(), DOCKER_MANIFEST),
        (encode({"schemaVersion": 1, "name": "library/app", "tag": "v1", "fsLayers": [], "history": []}), DOCKER_SCHEMA_1),
        (encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": {}}), OCI_INDEX),
        (encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{"digest": "sha256:abc"}]}), OCI_INDEX),
    ],
    ids=["text", "index-type", "docker-type", "schema-1", "index-of-object", "index-of-bad"],
)
def test_manifest_of_the_wrong_type_is_refused(repository: Repository, content: bytes, media_type: str) -> None:
    repository.push_blob(CONFIG, digest_of(CONFIG)).expect(201)
    for reference in ("typed", digest_of(content)):
        repository.put_manifest(reference, content, media_type).refused((400, 415), ("MANIFEST_INVALID", "UNSUPPORTED"))
        check_absent(repository, f"manifests/{reference}")


@pytest.mark.parametrize("media_type", [None, "application/json", "application/octet-stream"])
@pytest.mark.parametrize("content", [_with(), _without("mediaType")], ids=["type-inside", "no-type-inside"])
def test_manifest_whose_content_type_says_nothing_is_refused_or_served_as_what_it_is(
    repository: Repository, content: bytes, media_type: str | None
) -> None:
    # Distribution specification 1.1, "Pushing Manifests": clients should set it. No answer may bear a type that it is not.
    repository.push_blob(CONFIG, digest_of(CONFIG)).expect(201)
    answer = repository.put_manifest("vague", content, media_type).expect(201, 400, 415)
    if answer.status == 201:
        check_pullable(repository, Made(media_type=OCI_MANIFEST, content=content), ["vague", digest_of(content)])
    else:
        check_absent(repository, "manifests/vague")


def _in_pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 1 << 20):
        yield content[start : start + (1 << 20)]


@pytest.mark.parametrize("sent", [bytes, _in_pieces], ids=["length-known", "chunked"])
def test_manifest_over_four_mebibytes_is_refused(repository: Repository, sent: Callable[[bytes], bytes]) -> None:
    repository.push_blob(CONFIG, digest_of(CONFIG)).expect(201)
    room = MANIFEST_MAX + 1 - len(_with(annotations={"a": ""}))
    content = _with(annotations={"a": "A" * room})
    assert len(content) == MANIFEST_MAX + 1
    for reference in ("large", digest_of(content)):
        answer = repository.put_manifest(reference, sent(content), OCI_MANIFEST)
        answer.refused(413, ("MANIFEST_INVALID", "SIZE_INVALID"))
        check_absent(repository, f"manifests/{reference}")
