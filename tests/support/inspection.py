"""Looks at what a node shows after everything has healed: each tag, each image to its last byte, what each subject may do."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.support.images import OCI_MANIFEST
from tests.support.office import Addressed, Office, Subject
from tests.support.promises import Reading
from tests.support.registry_client import basic
from tests.support.single import ADMIN_PASSWORD

_THREADS: Final = 4
_LIMIT_S: Final = 30.0
_HEADERS: Final = {"Authorization": basic("admin", ADMIN_PASSWORD), "Accept": OCI_MANIFEST}


def read_all(office: Office, node: Addressed) -> Reading:
    """Return what the node shows of all that the office has sent to any node; raises OSError when it does not answer."""
    keys = {operation.key for operation in office.operations if operation.kind in ("push", "untag")}
    tags = sorted(key.rpartition(":")[2] for key in keys)
    digests = sorted(office.images)
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = range(_THREADS)
        tag_parts = pool.map(lambda part: _tags(office, node, tags[part::_THREADS]), parts)
        image_parts = pool.map(lambda part: _images(office, node, digests[part::_THREADS]), parts)
        strengths = pool.map(lambda subject: (subject.name, _strength(office, node, subject)), office.subjects)
        return Reading(
            tags={key: digest for found in tag_parts for key, digest in found.items()},
            images={image for found in image_parts for image in found},
            strengths=dict(strengths),
        )


def _strength(office: Office, node: Addressed, subject: Subject) -> int:
    strength = office.strength_of(node, subject)
    assert strength is not None, f"{node.name} does not say what {subject.name} may do"
    return strength


class _Reader:
    """One connection that is kept."""

    def __init__(self, node: Addressed) -> None:
        host, _, port = node.address.rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=_LIMIT_S)

    def get(self, method: str, path: str) -> tuple[int, http.client.HTTPResponse, bytes]:
        self._connection.request(method, path, headers=_HEADERS)
        response = self._connection.getresponse()
        return response.status, response, response.read()

    def close(self) -> None:
        self._connection.close()


def _tags(office: Office, node: Addressed, tags: Iterable[str]) -> dict[str, str]:
    reader, found = _Reader(node), {}
    for tag in tags:
        status, response, _ = reader.get("HEAD", f"/v2/{office.repository}/manifests/{tag}")
        assert status in (http.client.OK, http.client.NOT_FOUND), f"{tag} at {node.name}: {status}"
        if status == http.client.OK:
            found[f"{office.repository}:{tag}"] = response.headers["Docker-Content-Digest"]
    reader.close()
    return found


def _images(office: Office, node: Addressed, digests: Sequence[str]) -> set[str]:
    reader, found = _Reader(node), set()
    for digest in digests:
        content = office.images[digest]
        references = [(f"manifests/{digest}", digest), *((f"blobs/{blob.digest}", blob.digest) for blob in content.blobs)]
        if all(_has(reader, f"/v2/{office.repository}/{path}", wanted) for path, wanted in references):
            found.add(f"{office.repository}@{digest}")
    reader.close()
    return found


def _has(reader: _Reader, path: str, digest: str) -> bool:
    status, _, body = reader.get("GET", path)
    return status == http.client.OK and f"sha256:{hashlib.sha256(body).hexdigest()}" == digest
