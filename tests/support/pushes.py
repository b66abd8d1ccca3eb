"""Pushes images to one node, or to any, and looks whether others have them: the steps that tests of several nodes repeat."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.support.images import OCI_INDEX, OCI_MANIFEST, Content
from tests.support.registry_client import TIMEOUT_S, Answer, RegistryClient, Repository, add_query

LEVEL: Final = "Twinhull-Durability"


def push(repository: Repository, content: Content, tag: str, *, level: str = "") -> Answer:
    """Push everything, the manifest last, and return the answer to it; each request asks for the level if there is one."""
    headers = {LEVEL: level} if level else {}
    for blob in content.blobs:
        upload = repository.start_upload()
        query = [("digest", blob.digest)]
        repository.client.request("PUT", upload, query=query, headers=headers, body=blob.content).expect(201)
    return put_manifest(repository, content, tag, level=level).expect(201)


def put_manifest(repository: Repository, content: Content, tag: str, *, level: str = "") -> Answer:
    """Push the manifest alone."""
    headers = {"Content-Type": content.manifest.media_type} | ({LEVEL: level} if level else {})
    path = repository.path(f"manifests/{tag}")
    return repository.client.request("PUT", path, headers=headers, body=content.manifest.content)


def check_pull(repository: Repository, content: Content, reference: str) -> None:
    """Pull the manifest and every blob, or fail the test if anything is missing or other than it was pushed."""
    # Debian's docker-registry gives OCI's manifests only to those who ask for them.
    answer = repository.get(f"manifests/{reference}", headers={"Accept": content.manifest.media_type}).expect(200)
    assert answer.body == content.manifest.content, answer
    for blob in content.blobs:
        assert repository.get(f"blobs/{blob.digest}").expect(200).body == blob.content, blob.digest


def digest_of_tag(repository: Repository, tag: str) -> str | None:
    """Return which manifest the tag names, or None when there is no such tag."""
    answer = repository.head(f"manifests/{tag}", headers={"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}"}).expect(200, 404)
    return answer.header("Docker-Content-Digest") if answer.status == 200 else None


def send_slowly(repository: Repository, pieces: Iterable[bytes], digest: str) -> Answer:
    """Push a blob in one streaming request whose pieces are asked for one by one, as they are sent."""
    upload = add_query(repository.start_upload(), [("digest", digest)])
    authorization = repository.client.authorization_of("PUT", upload)
    host, _, port = repository.client.addresses[0].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)
    try:
        headers = {"Transfer-Encoding": "chunked", "Authorization": authorization}
        connection.request("PUT", upload, body=iter(pieces), headers=headers, encode_chunked=True)
        response = connection.getresponse()
        return Answer(asked=f"PUT {upload}", status=response.status, headers=tuple(response.getheaders()), body=response.read())
    finally:
        connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An answer whose body is read bit by bit."""

    status: int
    response: http.client.HTTPResponse

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes of the body, or the rest; raises IncompleteRead when the server cut it short."""
        return self.response.read(None if size < 0 else size)


@contextlib.contextmanager
def reading(client: RegistryClient, path: str, headers: dict[str, str] | None = None) -> Iterator[Reading]:
    """Yield the answer to a GET of something public as soon as its headers are there."""
    host, _, port = client.addresses[0].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        yield Reading(status=response.status, response=response)
    finally:
        connection.close()
