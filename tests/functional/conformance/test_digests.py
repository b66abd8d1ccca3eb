"""Digests: content that does not match is refused however it comes, malformed ones are errors, sha512 holds throughout."""

from __future__ import annotations

import pytest

from tests.functional.conformance.content import (
    artifact,
    check_absent,
    check_life,
    check_pullable,
    digest_of,
    image,
    index,
    noise,
)
from tests.support.registry_client import Repository, location_of, pieces

BOTH = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
BAD_DIGESTS = (
    "sha256:baddigeststring",
    f"sha256:{'a' * 63}",
    f"sha256:{'a' * 65}",
    f"sha256:{'A' * 64}",
    f"sha256:{'g' * 64}",
    f"sha512:{'a' * 64}",
    "sha256:",
    f"md5:{'a' * 32}",
    f"sha384:{'a' * 96}",
)
BAD_CODES = ("DIGEST_INVALID", "UNSUPPORTED")


@BOTH
@pytest.mark.parametrize("way", ["post", "post-put", "chunks", "last-chunk-in-put", "stream"])
def test_blob_that_does_not_match_is_refused(repository: Repository, algorithm: str, way: str) -> None:
    content = noise(3067)
    sent = content + b"oh no"
    digest = digest_of(content, algorithm)
    if way == "post":
        query = [("digest", digest)]
        answer = repository.client.request("POST", repository.path("blobs/uploads/"), query=query, body=sent)
    else:
        upload = repository.start_upload()
        if way == "post-put":
            answer = repository.finish(upload, digest, sent)
        elif way == "stream":
            upload = location_of(repository.patch(upload, pieces(sent, 1000)).expect(202))
            answer = repository.finish(upload, digest)
        else:
            upload = location_of(repository.patch(upload, sent[:1024], content_range="0-1023").expect(202))
            rest, rest_range = sent[1024:], f"1024-{len(sent) - 1}"
            if way == "chunks":
                upload = location_of(repository.patch(upload, rest, content_range=rest_range).expect(202))
                answer = repository.finish(upload, digest)
            else:
                answer = repository.finish(upload, digest, rest, content_range=rest_range)
    answer.refused(400, "DIGEST_INVALID")
    check_absent(repository, f"blobs/{digest}")
    check_absent(repository, f"blobs/{digest_of(sent, algorithm)}")


@BOTH
@pytest.mark.parametrize("tagged", [False, True], ids=["plain", "with-tags"])
def test_manifest_that_does_not_match_is_refused(repository: Repository, algorithm: str, *, tagged: bool) -> None:
    made = image(algorithm=algorithm)
    made.push_blobs(repository)
    sent = made.content + b"  "
    query = [("tag", "bad")] if tagged else []
    repository.put_manifest(made.digest, sent, made.media_type, query=query).refused(400, "DIGEST_INVALID")
    for reference in (made.digest, digest_of(sent, algorithm), digest_of(sent), "bad"):
        check_absent(repository, f"manifests/{reference}")


@pytest.mark.parametrize("digest", BAD_DIGESTS)
def test_malformed_digest_of_a_manifest_is_refused(repository: Repository, digest: str) -> None:
    made = image()
    made.push_blobs(repository)
    repository.put_manifest(digest, made.content, made.media_type).refused(400, BAD_CODES)
    repository.get(f"manifests/{digest}").refused((400, 404), (*BAD_CODES, "MANIFEST_UNKNOWN"))
    repository.head(f"manifests/{digest}").expect(400, 404)
    repository.delete(f"manifests/{digest}").refused((400, 404), (*BAD_CODES, "MANIFEST_UNKNOWN"))
    check_absent(repository, f"manifests/{made.digest}")


@pytest.mark.parametrize("digest", BAD_DIGESTS)
def test_malformed_digest_of_a_blob_is_refused(repository: Repository, digest: str) -> None:
    query = [("digest", digest)]
    repository.client.request("POST", repository.path("blobs/uploads/"), query=query, body=b"x").refused(400, BAD_CODES)
    upload = location_of(repository.patch(repository.start_upload(), b"x").expect(202))
    repository.finish(upload, digest).refused(400, BAD_CODES)
    check_absent(repository, f"blobs/{digest_of(b'x')}")
    # The path does not match any shape when the hexadecimal part is empty.
    for answer in (repository.get(f"blobs/{digest}"), repository.delete(f"blobs/{digest}")):
        answer.refused((400, 404), (*BAD_CODES, "BLOB_UNKNOWN"))
    repository.head(f"blobs/{digest}").expect(400, 404)


@pytest.mark.parametrize("digest", [*BAD_DIGESTS, "v1"])
def test_malformed_digest_of_a_subject_is_refused(repository: Repository, digest: str) -> None:
    repository.get(f"referrers/{digest}").refused(400, BAD_CODES)


def test_closing_an_upload_without_a_digest_is_refused(repository: Repository) -> None:
    upload = location_of(repository.patch(repository.start_upload(), b"bytes").expect(202))
    repository.client.request("PUT", upload).refused(400, ("DIGEST_INVALID", "BLOB_UPLOAD_INVALID"))
    check_absent(repository, f"blobs/{digest_of(b'bytes')}")


def test_algorithm_that_is_not_known_opens_no_upload(repository: Repository) -> None:
    query = [("digest-algorithm", "md5")]
    repository.client.request("POST", repository.path("blobs/uploads/"), query=query).refused(400, BAD_CODES)


def test_sha512_holds_for_an_index_and_all_below_it(repository: Repository) -> None:
    made = index([image(algorithm="sha512"), image(algorithm="sha512")], algorithm="sha512")
    made.push(repository)
    for one in made.everything():
        check_pullable(repository, one, [one.digest])
        check_absent(repository, f"manifests/{digest_of(one.content)}")
    check_life(repository, made, "v1")


def test_algorithms_may_be_mixed(repository: Repository) -> None:
    made = index([image(algorithm="sha512"), image()])
    check_life(repository, made, "v1")


def test_same_manifest_by_both_algorithms(repository: Repository) -> None:
    made = artifact()
    made.push(repository)
    long = digest_of(made.content, "sha512")
    answer = repository.put_manifest(long, made.content, made.media_type).expect(201)
    assert answer.header("Docker-Content-Digest") == long, answer
    for digest in (made.digest, long):
        answer = repository.get(f"manifests/{digest}").expect(200)
        assert answer.header("Docker-Content-Digest") == digest, answer
        assert answer.body == made.content
    repository.delete(f"manifests/{long}").expect(202)
    repository.head(f"manifests/{long}").expect(404)
    check_pullable(repository, made, [made.digest])
