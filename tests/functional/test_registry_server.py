"""What only a real server shows of the data plane: connections that end too early, on either side."""

from __future__ import annotations

import secrets
import socket
import time

from tests.support.registry_client import Answer, Repository
from tests.support.topology import Registry
from twinhull.kit.digest import digest_of

TOPOLOGIES = ("one",)
MEBIBYTE = 1024 * 1024


def exchange(registry: Registry, head: str, body: bytes, *, leave: bool = False) -> str:
    """Send a whole body without looking at the answer first, as simple clients do, and return the status line."""
    host, _, port = registry.client.addresses[0].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"{head}\r\nHost: {host}:{port}\r\n\r\n".encode())
        connection.sendall(body)
        if leave:
            return ""
        return connection.recv(65536).partition(b"\r\n")[0].decode()


def test_a_refused_upload_gets_its_answer_although_nobody_reads_its_body(registry: Registry, repository: Repository) -> None:
    body = bytes(20 * MEBIBYTE)
    for _ in range(5):
        line = exchange(registry, f"PUT /v2/{repository.name}/manifests/v1 HTTP/1.1\r\nContent-Length: {len(body)}", body)
        assert line == "HTTP/1.1 401 Unauthorized"


def test_what_arrived_before_a_client_left_is_kept(registry: Registry, repository: Repository) -> None:
    content = secrets.token_bytes(4 * MEBIBYTE)
    upload = repository.start_upload()
    authorization = registry.client.authorization_of("PATCH", upload)
    head = f"PATCH {upload} HTTP/1.1\r\nAuthorization: {authorization}\r\nContent-Length: {2 * len(content)}"
    exchange(registry, head, content, leave=True)
    finish_once_received(repository, upload, content).expect(201)
    assert repository.get(f"blobs/{digest_of(content)}").expect(200).body == content


def finish_once_received(repository: Repository, upload: str, content: bytes) -> Answer:
    """Close the upload when all bytes are in it and the request that brought them has let go of it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if repository.client.request("GET", upload).expect(204).header("Range") == f"0-{len(content) - 1}":
            answer = repository.finish(upload, digest_of(content))
            if answer.status != 409:
                return answer
    raise AssertionError("the upload never got to its end")


def test_a_large_blob_comes_back_whole_and_in_parts(repository: Repository) -> None:
    content = secrets.token_bytes(3 * MEBIBYTE + 7)
    digest = digest_of(content)
    repository.push_blob(content, digest).expect(201)
    whole = repository.get(f"blobs/{digest}").expect(200)
    assert whole.body == content
    assert whole.all_headers("Content-Length") == [str(len(content))]
    part = repository.get(f"blobs/{digest}", headers={"Range": "bytes=1048570-"}).expect(206)
    assert part.body == content[1048570:]
    head = repository.head(f"blobs/{digest}").expect(200)
    assert head.all_headers("Content-Length") == [str(len(content))]


def test_connections_are_kept_after_an_answer_without_a_body(registry: Registry, repository: Repository) -> None:
    digest = digest_of(b"never pushed")
    authorization = registry.client.authorization_of("HEAD", f"/v2/{repository.name}/blobs/{digest}")
    host, _, port = registry.client.addresses[0].rpartition(":")
    request = f"HEAD /v2/{repository.name}/blobs/{digest} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        for _ in range(3):
            connection.sendall(request.encode())
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 404 ")
            assert answer.endswith(b"\r\n\r\n")
