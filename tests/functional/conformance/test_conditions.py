"""Conditional requests: what a client has already is not sent again, and an address by digest may be kept for ever."""

from __future__ import annotations

import pytest

from tests.functional.conformance.content import Made, artifact, digest_of, image, noise
from tests.support.registry_client import Repository


@pytest.fixture
def made(repository: Repository) -> Made:
    """Return an image that has been pushed, as v1."""
    one = image()
    one.push(repository)
    repository.put_manifest("v1", one.content, one.media_type).expect(201)
    return one


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_manifest_that_the_client_has_is_not_sent_again(repository: Repository, made: Made, method: str, by: str) -> None:
    path = repository.path(f"manifests/{'v1' if by == 'tag' else made.digest}")
    etag = repository.client.request(method, path).expect(200).header("ETag")
    assert etag
    assert made.digest in etag
    for condition in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        answer = repository.client.request(method, path, headers={"If-None-Match": condition}).expect(304)
        assert answer.body == b""
        assert answer.header("ETag") == etag, answer
    answer = repository.client.request(method, path, headers={"If-None-Match": '"other"'}).expect(200)
    assert answer.body == (made.content if method == "GET" else b"")


def test_tag_that_moved_is_sent_again(repository: Repository, made: Made) -> None:
    etag = repository.head("manifests/v1").expect(200).header("ETag")
    assert etag
    newer = image()
    newer.push_blobs(repository)
    repository.put_manifest("v1", newer.content, newer.media_type).expect(201)
    answer = repository.get("manifests/v1", headers={"If-None-Match": etag}).expect(200)
    assert answer.body == newer.content
    repository.get(f"manifests/{made.digest}", headers={"If-None-Match": etag}).expect(304)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_blob_that_the_client_has_is_not_sent_again(repository: Repository, method: str) -> None:
    content = noise(100)
    repository.push_blob(content, digest_of(content)).expect(201)
    path = repository.path(f"blobs/{digest_of(content)}")
    etag = repository.client.request(method, path).expect(200).header("ETag")
    assert etag
    answer = repository.client.request(method, path, headers={"If-None-Match": etag}).expect(304)
    assert answer.body == b""
    repository.client.request(method, path, headers={"If-None-Match": '"other"'}).expect(200)


def test_condition_does_not_bring_back_what_was_deleted(repository: Repository, made: Made) -> None:
    etag = repository.head("manifests/v1").expect(200).header("ETag")
    assert etag
    repository.delete(f"manifests/{made.digest}").expect(202)
    for reference in ("v1", made.digest):
        repository.get(f"manifests/{reference}", headers={"If-None-Match": etag}).expect(404)


def test_only_addresses_by_digest_may_be_kept(repository: Repository, made: Made) -> None:
    by_tag = repository.get("manifests/v1").expect(200).header("Cache-Control") or ""
    assert "immutable" not in by_tag
    assert "max-age" not in by_tag or "max-age=0" in by_tag


def test_answers_are_not_compressed(repository: Repository) -> None:
    # The digest is that of the bytes as pushed, and clients check Content-Length against the descriptor.
    made = artifact(layer_content=b"A" * 50_000)
    made.push(repository)
    asking = {"Accept-Encoding": "gzip, deflate, br, zstd"}
    for rest, content in ((f"manifests/{made.digest}", made.content), (f"blobs/{digest_of(b'A' * 50_000)}", b"A" * 50_000)):
        answer = repository.get(rest, headers=asking).expect(200)
        assert answer.header("Content-Encoding") is None, answer
        assert answer.header("Content-Length") == str(len(content)), answer
        assert answer.body == content
