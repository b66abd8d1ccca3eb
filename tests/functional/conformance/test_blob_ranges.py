"""Parts of blobs: single, open and suffix ranges, those that can't be given, and conditions on them."""

from __future__ import annotations

import pytest

from tests.functional.conformance.content import digest_of, noise
from tests.support.registry_client import Repository

LENGTH = 2048


@pytest.fixture(params=["sha256", "sha512"])
def pushed(repository: Repository, request: pytest.FixtureRequest) -> tuple[Repository, bytes, str]:
    """Return a repository with a blob in it."""
    content = noise(LENGTH)
    digest = digest_of(content, request.param)
    repository.push_blob(content, digest).expect(201)
    return repository, content, f"blobs/{digest}"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("500-1499", 500, 1499),
        ("500-", 500, LENGTH - 1),
        ("-500", LENGTH - 500, LENGTH - 1),
        ("2000-5000", 2000, LENGTH - 1),
        ("0-0", 0, 0),
        ("0-", 0, LENGTH - 1),
        ("2047-2047", 2047, 2047),
        ("-5000", 0, LENGTH - 1),
    ],
)
def test_range_gives_that_part(pushed: tuple[Repository, bytes, str], asked: str, first: int, last: int) -> None:
    repository, content, blob = pushed
    answer = repository.get(blob, headers={"Range": f"bytes={asked}"}).expect(206)
    assert answer.body == content[first : last + 1]
    assert answer.header("Content-Length") == str(last - first + 1), answer
    assert answer.header("Content-Range") == f"bytes {first}-{last}/{LENGTH}", answer


@pytest.mark.parametrize("asked", ["500-0", "5000-10000", "2048-", "2048-2048", "-0"])
def test_range_outside_the_blob_is_refused(pushed: tuple[Repository, bytes, str], asked: str) -> None:
    repository, _, blob = pushed
    answer = repository.get(blob, headers={"Range": f"bytes={asked}"}).expect(416)
    assert answer.header("Content-Range") in {None, f"bytes */{LENGTH}"}, answer


@pytest.mark.parametrize("asked", ["bytes", "bytes=", "bytes=a-b", "lines=1-2", "bytes=1-2-3"])
def test_range_that_is_none_is_ignored_or_refused(pushed: tuple[Repository, bytes, str], asked: str) -> None:
    # RFC 9110, 14.2: a Range header that is not understood or not valid may be ignored.
    repository, content, blob = pushed
    answer = repository.get(blob, headers={"Range": asked}).expect(200, 400, 416)
    assert answer.status != 200 or answer.body == content


def test_several_ranges_are_never_answered_with_wrong_bytes(pushed: tuple[Repository, bytes, str]) -> None:
    repository, content, blob = pushed
    answer = repository.get(blob, headers={"Range": "bytes=0-9,20-29"}).expect(200, 206)
    if answer.status == 200:
        assert answer.body == content
    elif (answer.header("Content-Type") or "").startswith("multipart/byteranges"):
        assert content[0:10] in answer.body
        assert content[20:30] in answer.body
    else:
        assert answer.header("Content-Range") == f"bytes 0-9/{LENGTH}", answer
        assert answer.body == content[0:10]


def test_blob_is_read_whole_from_its_parts(pushed: tuple[Repository, bytes, str]) -> None:
    repository, content, blob = pushed
    parts = [
        repository.get(blob, headers={"Range": f"bytes={start}-{start + 299}"}).expect(206).body
        for start in range(0, LENGTH, 300)
    ]
    assert b"".join(parts) == content


def test_server_says_that_it_takes_ranges(pushed: tuple[Repository, bytes, str]) -> None:
    repository, _, blob = pushed
    assert repository.head(blob).expect(200).header("Accept-Ranges") == "bytes"


def test_range_holds_only_while_the_condition_on_it_does(pushed: tuple[Repository, bytes, str]) -> None:
    # RFC 9110, 13.1.5: If-Range with another ETag asks for the whole.
    repository, content, blob = pushed
    etag = repository.head(blob).expect(200).header("ETag")
    assert etag
    answer = repository.get(blob, headers={"Range": "bytes=0-9", "If-Range": etag}).expect(206)
    assert answer.body == content[:10]
    answer = repository.get(blob, headers={"Range": "bytes=0-9", "If-Range": '"another"'}).expect(200)
    assert answer.body == content


def test_range_of_an_empty_blob_gives_no_bytes(repository: Repository) -> None:
    repository.push_blob(b"", digest_of(b"")).expect(201)
    assert repository.get(f"blobs/{digest_of(b'')}").expect(200).body == b""
    answer = repository.get(f"blobs/{digest_of(b'')}", headers={"Range": "bytes=0-0"}).expect(200, 416)
    assert answer.status == 416 or answer.body == b""
