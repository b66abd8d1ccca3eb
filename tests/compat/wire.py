"""Asks a registry by plain HTTP, past every client, what it really has; and calls its management API as a script would."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
from dataclasses import dataclass
from typing import Final

from tests.support.images import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.support.twins import Registry

DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPT: Final = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"
LIMIT_S: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> object:
        """Return the body as JSON."""
        return json.loads(self.body)


def ask(registry: Registry, method: str, path: str, *, body: object = None) -> Answer:
    """Send one request with the registry's user and password, and return the answer whatever its status."""
    who = base64.b64encode(f"{registry.user}:{registry.password}".encode()).decode()
    headers = {"Authorization": f"Basic {who}", "Accept": ACCEPT if path.startswith("/v2/") else "application/json"}
    content = b""
    if body is not None:
        content = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    with contextlib.closing(http.client.HTTPConnection(registry.address, timeout=LIMIT_S)) as connection:
        connection.request(method, path, body=content or None, headers=headers)
        response = connection.getresponse()
        return Answer(status=response.status, headers=response.headers, body=response.read())


def manifest_path(repository: str, reference: str) -> str:
    """Return the path of a manifest by its tag or digest."""
    return f"/v2/{repository}/manifests/{reference}"


def digest_of(registry: Registry, repository: str, reference: str) -> str | None:
    """Return the digest of the manifest's bytes as served, or None when there is no such manifest; headers are not trusted."""
    answer = ask(registry, "GET", manifest_path(repository, reference))
    if answer.status == http.client.NOT_FOUND:
        return None
    if answer.status != http.client.OK:
        raise AssertionError(f"{repository}:{reference} at {registry.address}: {answer.status} {answer.body!r}")
    return f"sha256:{hashlib.sha256(answer.body).hexdigest()}"


def delete_manifest(registry: Registry, repository: str, reference: str) -> None:
    """Delete the manifest with its tags, whether it is named by tag or digest, or raise AssertionError."""
    digest = digest_of(registry, repository, reference)
    answer = ask(registry, "DELETE", manifest_path(repository, digest or reference))
    if answer.status != http.client.ACCEPTED:
        raise AssertionError(f"delete of {repository}:{reference} at {registry.address}: {answer.status} {answer.body!r}")


def call(registry: Registry, method: str, path: str, *, body: object = None, expect: int) -> Answer:
    """Call the management API and return the answer, or raise AssertionError when its status is not the expected one."""
    answer = ask(registry, method, path, body=body)
    if answer.status != expect:
        raise AssertionError(f"{method} {path} at {registry.address}: {answer.status}, not {expect}: {answer.body!r}")
    return answer
