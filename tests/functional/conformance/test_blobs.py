"""Blobs pushed whole: every way to push one, every digest algorithm, what is answered at each step, and deleting."""

from __future__ import annotations

import pytest

from tests.functional.conformance.content import artifact, check_absent, check_blob, check_pullable, digest_of, noise
from tests.support.registry_client import Answer, Repository, location_of, pieces
from tests.support.topology import Registry

BOTH = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
CONTENTS = pytest.mark.parametrize("content", [b"", b"{}", noise(512), noise(70_000)], ids=["empty", "json", "small", "larger"])


def push_by_post(repository: Repository, content: bytes, digest: str) -> Answer:
    """Push in a single POST."""
    query = [("digest", digest)]
    return repository.client.request("POST", repository.path("blobs/uploads/"), query=query, body=content)


def push_by_post_and_put(repository: Repository, content: bytes, digest: str) -> Answer:
    """Push by POST and PUT."""
    return repository.push_blob(content, digest)


def push_by_stream(repository: Repository, content: bytes, digest: str) -> Answer:
    """Push by a PATCH of unknown length."""
    upload = location_of(repository.patch(repository.start_upload(), pieces(content, 100)).expect(202))
    return repository.finish(upload, digest)


def push_by_one_chunk(repository: Repository, content: bytes, digest: str) -> Answer:
    """Push by a PATCH with a Content-Range, or without one if there is nothing to send."""
    chunk = f"0-{len(content) - 1}" if content else None
    upload = location_of(repository.patch(repository.start_upload(), content, content_range=chunk).expect(202))
    return repository.finish(upload, digest)


def push_with_put_in_chunked_encoding(repository: Repository, content: bytes, digest: str) -> Answer:
    """Push by POST and a PUT of unknown length."""
    query = [("digest", digest)]
    return repository.client.request("PUT", repository.start_upload(), query=query, body=pieces(content, 300))


def push_with_algorithm_named(repository: Repository, content: bytes, digest: str) -> Answer:
    """Push by POST and PUT, naming the digest's algorithm when the upload is opened."""
    upload = repository.start_upload(query=[("digest-algorithm", digest.partition(":")[0])])
    return repository.finish(location_of(repository.patch(upload, content[:10]).expect(202)), digest, content[10:])


WAYS = {
    way.__name__.removeprefix("push_"): way
    for way in (
        push_by_post,
        push_by_post_and_put,
        push_by_stream,
        push_by_one_chunk,
        push_with_put_in_chunked_encoding,
        push_with_algorithm_named,
    )
}


@BOTH
@CONTENTS
@pytest.mark.parametrize("way", WAYS)
def test_blob_is_there_after_its_push(repository: Repository, way: str, content: bytes, algorithm: str) -> None:
    digest = digest_of(content, algorithm)
    answer = WAYS[way](repository, content, digest).expect(201)
    assert answer.header("Docker-Content-Digest") == digest, answer
    location = location_of(answer)
    assert location.startswith(repository.path("blobs/")), answer
    assert repository.client.request("GET", location).expect(200).body == content
    check_blob(repository, content, digest)


@BOTH
def test_blob_is_gone_after_its_delete(repository: Repository, algorithm: str) -> None:
    content = noise(100)
    digest = digest_of(content, algorithm)
    repository.push_blob(content, digest).expect(201)
    repository.delete(f"blobs/{digest}").expect(202)
    check_absent(repository, f"blobs/{digest}")
    repository.delete(f"blobs/{digest}").refused(404, ("BLOB_UNKNOWN", "NAME_UNKNOWN"))
    repository.push_blob(content, digest).expect(201)
    check_blob(repository, content, digest)


@BOTH
def test_blob_deleted_from_one_repository_stays_in_another(registry: Registry, algorithm: str) -> None:
    one, other, content = registry.new_repository("one"), registry.new_repository("other"), noise(100)
    digest = digest_of(content, algorithm)
    for repository in (one, other):
        repository.push_blob(content, digest).expect(201)
    one.delete(f"blobs/{digest}").expect(202)
    check_absent(one, f"blobs/{digest}")
    check_blob(other, content, digest)


@BOTH
def test_unknown_blob_is_not_found(repository: Repository, algorithm: str) -> None:
    check_absent(repository, f"blobs/{digest_of(noise(20), algorithm)}")
    repository.push_blob(b"x", digest_of(b"x")).expect(201)
    check_absent(repository, f"blobs/{digest_of(noise(20), algorithm)}")


def test_blob_of_one_repository_is_not_seen_in_another(registry: Registry) -> None:
    content = noise(100)
    registry.new_repository("one").push_blob(content, digest_of(content)).expect(201)
    check_absent(registry.new_repository("other"), f"blobs/{digest_of(content)}")


def test_same_content_by_both_algorithms_is_two_blobs(repository: Repository) -> None:
    content = noise(100)
    short, long = digest_of(content), digest_of(content, "sha512")
    repository.push_blob(content, long).expect(201)
    check_blob(repository, content, long)
    repository.push_blob(content, short).expect(201)
    check_blob(repository, content, short)
    repository.delete(f"blobs/{short}").expect(202)
    check_absent(repository, f"blobs/{short}")
    check_blob(repository, content, long)


def test_pushing_a_blob_again_changes_nothing(repository: Repository) -> None:
    content = noise(100)
    for _ in range(2):
        repository.push_blob(content, digest_of(content)).expect(201)
    check_blob(repository, content, digest_of(content))


def test_blob_named_by_a_manifest_is_not_deleted_under_it(repository: Repository) -> None:
    made = artifact()
    made.push(repository)
    layer = next(content for content in made.blobs if content != b"{}")
    repository.delete(f"blobs/{digest_of(layer)}").expect(400, 403, 405, 409)
    check_blob(repository, layer, digest_of(layer))
    check_pullable(repository, made, [made.digest])


def test_location_of_an_upload_names_its_repository(repository: Repository) -> None:
    upload = repository.start_upload()
    assert upload.partition("?")[0].startswith(repository.path("blobs/uploads/")), upload
    assert "/" not in upload.partition("?")[0].removeprefix(repository.path("blobs/uploads/")), upload


def test_minimum_chunk_length_is_a_number_if_there_is_one(repository: Repository) -> None:
    answer = repository.client.request("POST", repository.path("blobs/uploads/")).expect(202)
    minimum = answer.header("OCI-Chunk-Min-Length")
    assert minimum is None or int(minimum) >= 0, answer
