"""Names that are none, in every place of a path: refused with the specification's error, and taken for no other path."""

from __future__ import annotations

import secrets
from typing import Final

import pytest

from tests.functional.conformance.content import OCI_MANIFEST, artifact, check_absent, check_pullable, digest_of, noise
from tests.support.registry_client import Answer, Repository
from tests.support.topology import Registry

# The nodes run the same code, but the entrance reads requests in a way of its own.
TOPOLOGIES: Final = ("one", "entrance")
NAME_CODES: Final = {
    "TAG_INVALID",
    "MANIFEST_INVALID",
    "DIGEST_INVALID",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "UNSUPPORTED",
    "MANIFEST_UNKNOWN",
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_UNKNOWN",
}


def check_refused_name(answer: Answer, *, statuses: tuple[int, ...] = (400, 404, 405)) -> None:
    """Check that a name was refused: by us with a code, or by the entrance, which answers a few malformed paths itself."""
    answer.expect(*statuses)
    if (answer.header("Content-Type") or "").startswith("application/json") and answer.body:
        assert set(answer.codes) <= NAME_CODES, answer


BAD_NAMES: Final = (
    "library/App",
    "LIBRARY/app",
    "library/app..b",
    "library/a___b",
    "library/-app",
    "library/app-",
    "library/.app",
    "library/app/",
    "library//app",
    "/library/app",
    "library/../library/app",
    "../../etc/app",
    "library/%2e%2e/app",
    "library/..%2f..%2f..%2fetc",
    "library/%2e%2e%2f%2e%2e%2fetc",
    "library/app%00",
    "library/app%0d%0aX-Evil:%201",
    "library/app%20b",
    "library/k%C3%A4se",
    "library/%ff%fe",
    "library/app;x=1",
    "library/" + "a" * 248,
    "library/" + "a/" * 500 + "a",
)


@pytest.mark.parametrize("name", BAD_NAMES, ids=[name[:40] for name in BAD_NAMES])
def test_invalid_repository_name_is_refused(registry: Registry, name: str) -> None:
    repository = Repository(client=registry.client, name=name)
    made = artifact()
    for answer in (
        registry.client.request("POST", repository.path("blobs/uploads/")),
        repository.put_manifest("v1", made.content, made.media_type),
        repository.get("manifests/v1"),
        repository.get("tags/list"),
        repository.get(f"blobs/{made.digest}"),
        repository.delete("manifests/v1"),
    ):
        assert answer.header("X-Evil") is None, answer
        check_refused_name(answer)


BAD_TAGS: Final = (
    ".hidden",
    "-dash",
    "a" * 129,
    "a%20b",
    "k%C3%A4se",
    "a%00",
    "a%0d%0aX-Evil:%201",
    "%2e%2e",
    "a%2fb",
    "a+b",
    "a@b",
)


@pytest.mark.parametrize("tag", BAD_TAGS, ids=[tag[:40] for tag in BAD_TAGS])
def test_invalid_tag_is_refused(repository: Repository, tag: str) -> None:
    made = artifact()
    made.push(repository)
    answer = repository.put_manifest(tag, made.content, made.media_type)
    check_refused_name(answer, statuses=(400, 404))
    assert answer.header("X-Evil") is None, answer
    repository.get(f"manifests/{tag}").expect(400, 404)
    repository.delete(f"manifests/{tag}").expect(400, 404)
    assert repository.tags() == []


@pytest.mark.parametrize("path", ["/v2/library", "/v2/_nothing", "/v2/library/app/nothing/x", "/v2/library/app/manifests/"])
def test_path_of_no_shape_is_not_found(registry: Registry, path: str) -> None:
    registry.client.request("GET", path).expect(301, 302, 307, 308, 400, 404, 405)


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_method_that_a_path_does_not_know_is_refused(repository: Repository, method: str) -> None:
    made = artifact()
    made.push(repository)
    repository.client.request(method, repository.path("tags/list")).expect(404, 405)
    repository.client.request(method, repository.path(f"referrers/{made.digest}")).expect(404, 405)
    if method != "DELETE":
        repository.client.request(method, repository.path(f"blobs/{made.digest}")).expect(400, 404, 405)
    check_pullable(repository, made, [made.digest])


def test_nobody_learns_from_errors_what_is_inside(repository: Repository) -> None:
    for answer in (
        repository.get(f"manifests/{'a' * 128}"),
        repository.get(f"blobs/{digest_of(noise(8))}"),
        repository.put_manifest("v1", b"[" * 100_000, OCI_MANIFEST),
        repository.get("tags/list", query=[("n", "x"), ("last", secrets.token_hex(8))]),
    ):
        for word in (b"Traceback", b".py", b"sqlite", b"SELECT", b"/blobs/sha256/"):
            assert word not in answer.body, answer


@pytest.mark.parametrize(
    "name",
    [
        "7ddbadbc-e10b-43cd-8483-bc85f8feb809",
        f"0.{'0' * 32}",
        f"nobody.{'f' * 32}",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "..",
        "%00",
        "a" * 2000,
        "k%C3%A4se",
    ],
)
def test_unknown_upload_is_not_found(repository: Repository, name: str) -> None:
    repository.start_upload()
    upload = repository.path(f"blobs/uploads/{name}")
    for answer in (
        repository.client.request("GET", upload),
        repository.patch(upload, b"x"),
        repository.finish(upload, digest_of(b"x"), b"x"),
        repository.client.request("DELETE", upload),
    ):
        # The path `..` means another one to a proxy, and none at all to a server.
        check_refused_name(answer, statuses=(400, 404))
    check_absent(repository, f"blobs/{digest_of(b'x')}")
