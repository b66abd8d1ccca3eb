"""What clients of a registry do, request by request, as docker and containerd do it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tools.bench.content import MANIFEST_TYPE, Blob
from tools.bench.wire import Answer, Connection, Drained, header

_OCTETS = header("Content-Type", "application/octet-stream")
_ACCEPT = header("Accept", MANIFEST_TYPE)
_MANIFEST = header("Content-Type", MANIFEST_TYPE)


class Client:
    """One client of one repository, with one connection."""

    def __init__(self, connection: Connection, repository: str, authorization: bytes) -> None:
        """Take the connection, the repository's name, and the header line that opens it."""
        self._connection = connection
        self._path = f"/v2/{repository}"
        self._authorization = authorization

    def has_blob(self, digest: str) -> bool:
        """Ask whether the registry has a blob already, as every client does before it pushes one."""
        answer = self._connection.ask("HEAD", f"{self._path}/blobs/{digest}", self._authorization)
        if answer.status != 200:
            answer.expect(404)
        return answer.status == 200

    def push_blob(self, blob: Blob) -> None:
        """Push by POST, and PUT with all bytes, as containerd and podman's newer versions do."""
        target = _with_digest(self._begin(), blob.digest)
        self._send("PUT", target, blob).expect(201)

    def push_blob_by_patch(self, blob: Blob, other: Connection) -> None:
        """Push by POST, PATCH with all bytes, and PUT on another connection, as docker may do: it keeps several."""
        location = _target(self._send("PATCH", self._begin(), blob).expect(202))
        other.ask("PUT", _with_digest(location, blob.digest), self._authorization).expect(201)

    def push_manifest(self, reference: str, content: bytes) -> Answer:
        """Push a manifest, and return the 201."""
        target = f"{self._path}/manifests/{reference}"
        return self._connection.ask("PUT", target, self._authorization + _MANIFEST, content).expect(201)

    def pull_manifest(self, reference: str) -> Drained:
        """Pull a manifest."""
        return self._connection.drain(f"{self._path}/manifests/{reference}", self._authorization + _ACCEPT, hashed=True)

    def pull_blob(self, digest: str, *, hashed: bool = False) -> Drained:
        """Pull a blob, and throw its bytes away."""
        return self._connection.drain(f"{self._path}/blobs/{digest}", self._authorization, hashed=hashed)

    def _begin(self) -> str:
        answer = self._connection.ask("POST", f"{self._path}/blobs/uploads/", self._authorization)
        return _target(answer.expect(202))

    def _send(self, method: str, target: str, blob: Blob) -> Answer:
        headers = self._authorization + _OCTETS
        if blob.path is None:
            return self._connection.ask(method, target, headers, blob.content)
        with _opened(blob.path) as descriptor:
            return self._connection.send_file(method, target, headers, descriptor, (blob.position, blob.size_bytes))


def manifest_headers(authorization: bytes) -> bytes:
    """Return the header lines of a request for a manifest."""
    return authorization + _ACCEPT


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _target(answer: Answer) -> str:
    """Return path and query of the answer's Location."""
    parts = urlsplit(answer.header(b"location"))
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _with_digest(target: str, digest: str) -> str:
    return f"{target}{'&' if '?' in target else '?'}digest={digest}"
