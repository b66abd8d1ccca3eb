"""Uploads in pieces: order, retries, the state of an upload, its last piece in the closing PUT, and cancelling."""

from __future__ import annotations

from typing import Final

import pytest

from tests.functional.conformance.content import check_absent, check_blob, digest_of, noise
from tests.support.registry_client import Repository, location_of
from tests.support.topology import Registry

CHUNK: Final = 1024
LENGTH: Final = 3 * CHUNK - 5
BOTH = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
LAST_IN_PUT = pytest.mark.parametrize("last_in_put", [False, True], ids=["last-by-patch", "last-by-put"])


def check_received(repository: Repository, upload: str, length: int) -> str:
    """Check that the upload says how much it has received, and return its Location."""
    answer = repository.client.request("GET", upload).expect(204)
    assert answer.body == b""
    ends = {f"0-{length - 1}"} if length else {"0-0", "0--1"}
    assert answer.header("Range") in ends, answer
    return location_of(answer)


@BOTH
@LAST_IN_PUT
def test_chunks_in_order_make_the_blob(repository: Repository, algorithm: str, *, last_in_put: bool) -> None:
    content = noise(LENGTH)
    digest = digest_of(content, algorithm)
    upload = repository.start_upload()
    last = b""
    for start in range(0, LENGTH, CHUNK):
        chunk = content[start : start + CHUNK]
        end = start + len(chunk) - 1
        if last_in_put and end == LENGTH - 1:
            last = chunk
            continue
        answer = repository.patch(upload, chunk, content_range=f"{start}-{end}").expect(202)
        assert answer.header("Range") == f"0-{end}", answer
        upload = check_received(repository, location_of(answer), end + 1)
    closing_range = f"{LENGTH - len(last)}-{LENGTH - 1}" if last else None
    answer = repository.finish(upload, digest, last, content_range=closing_range).expect(201)
    assert answer.header("Docker-Content-Digest") == digest, answer
    check_blob(repository, content, digest)


@BOTH
@LAST_IN_PUT
def test_chunks_out_of_order_are_refused_and_the_upload_goes_on(
    repository: Repository, algorithm: str, *, last_in_put: bool
) -> None:
    content = noise(LENGTH)
    digest = digest_of(content, algorithm)
    upload = repository.start_upload()
    for start in range(0, LENGTH, CHUNK):
        # A chunk too far ahead; when there is none, the first one again, as a client does whose answer was lost.
        ahead = start + CHUNK if start + CHUNK < LENGTH else 0
        wrong = content[ahead : ahead + CHUNK]
        wrong_range = f"{ahead}-{ahead + len(wrong) - 1}"
        if last_in_put and ahead + len(wrong) == LENGTH:
            repository.finish(upload, digest, wrong, content_range=wrong_range).expect(416)
        else:
            repository.patch(upload, wrong, content_range=wrong_range).expect(416)
        upload = check_received(repository, upload, start)
        chunk = content[start : start + CHUNK]
        right_range = f"{start}-{start + len(chunk) - 1}"
        if last_in_put and start + len(chunk) == LENGTH:
            repository.finish(upload, digest, chunk, content_range=right_range).expect(201)
        else:
            upload = location_of(repository.patch(upload, chunk, content_range=right_range).expect(202))
    if not last_in_put:
        repository.finish(upload, digest).expect(201)
    check_blob(repository, content, digest)


@pytest.mark.parametrize("start", [0, CHUNK - 1, CHUNK + 1], ids=["again", "overlapping", "with-a-gap"])
def test_second_chunk_must_begin_where_the_first_ended(repository: Repository, start: int) -> None:
    content = noise(2 * CHUNK)
    upload = location_of(repository.patch(repository.start_upload(), content[:CHUNK], content_range=f"0-{CHUNK - 1}"))
    answer = repository.patch(upload, content[CHUNK:], content_range=f"{start}-{start + CHUNK - 1}").expect(416)
    assert answer.header("Range") in {None, f"0-{CHUNK - 1}"}, answer
    upload = check_received(repository, upload, CHUNK)
    upload = location_of(repository.patch(upload, content[CHUNK:], content_range=f"{CHUNK}-{2 * CHUNK - 1}").expect(202))
    repository.finish(upload, digest_of(content)).expect(201)
    check_blob(repository, content, digest_of(content))


def test_first_chunk_must_begin_at_zero(repository: Repository) -> None:
    upload = repository.start_upload()
    repository.patch(upload, b"x" * 10, content_range="5-14").expect(416)
    check_received(repository, upload, 0)


def test_pieces_without_content_range_are_appended(repository: Repository) -> None:
    content = noise(LENGTH)
    upload = repository.start_upload()
    for start in range(0, LENGTH, CHUNK):
        answer = repository.patch(upload, content[start : start + CHUNK]).expect(202)
        assert answer.header("Range") == f"0-{min(start + CHUNK, LENGTH) - 1}", answer
        upload = location_of(answer)
    repository.finish(upload, digest_of(content)).expect(201)
    check_blob(repository, content, digest_of(content))


def test_blob_is_not_seen_before_its_upload_is_closed(repository: Repository) -> None:
    content = noise(CHUNK)
    upload = location_of(repository.patch(repository.start_upload(), content).expect(202))
    check_absent(repository, f"blobs/{digest_of(content)}")
    repository.finish(upload, digest_of(content)).expect(201)
    check_blob(repository, content, digest_of(content))


def test_uploads_of_the_same_blob_at_once_do_not_disturb_each_other(repository: Repository) -> None:
    content = noise(LENGTH)
    uploads = [repository.start_upload() for _ in range(3)]
    for start in range(0, LENGTH, CHUNK):
        uploads = [location_of(repository.patch(upload, content[start : start + CHUNK]).expect(202)) for upload in uploads]
    for upload in uploads:
        repository.finish(upload, digest_of(content)).expect(201)
        check_blob(repository, content, digest_of(content))


@pytest.mark.parametrize("received", [0, CHUNK], ids=["empty", "with-bytes"])
def test_cancelled_upload_is_gone(repository: Repository, received: int) -> None:
    content = noise(CHUNK)
    upload = repository.start_upload()
    if received:
        upload = location_of(repository.patch(upload, content).expect(202))
    assert repository.client.request("DELETE", upload).expect(204).body == b""
    repository.client.request("GET", upload).refused(404, "BLOB_UPLOAD_UNKNOWN")
    repository.patch(upload, content).refused(404, "BLOB_UPLOAD_UNKNOWN")
    repository.finish(upload, digest_of(content), content).refused(404, "BLOB_UPLOAD_UNKNOWN")
    repository.client.request("DELETE", upload).refused(404, "BLOB_UPLOAD_UNKNOWN")
    check_absent(repository, f"blobs/{digest_of(content)}")


def test_closed_upload_is_gone(repository: Repository) -> None:
    content = noise(CHUNK)
    upload = repository.start_upload()
    repository.finish(upload, digest_of(content), content).expect(201)
    repository.client.request("GET", upload).refused(404, "BLOB_UPLOAD_UNKNOWN")
    repository.client.request("DELETE", upload).refused(404, "BLOB_UPLOAD_UNKNOWN")
    check_blob(repository, content, digest_of(content))


def test_upload_belongs_to_its_repository(registry: Registry) -> None:
    one, other = registry.new_repository("one"), registry.new_repository("other")
    upload = one.start_upload()
    foreign = upload.replace(one.name, other.name)
    other.patch(foreign, b"x").refused(404, "BLOB_UPLOAD_UNKNOWN")
    other.client.request("DELETE", foreign).refused(404, "BLOB_UPLOAD_UNKNOWN")
    check_received(one, upload, 0)
