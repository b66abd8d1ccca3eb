"""One foreign registry over /v2/ as a client reads it: manifests, blobs, names. What it says is checked, and bounded.

Requests fail as registry_line says.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urljoin, urlsplit

import aiohttp

from twinhull.catalog.foreign import Endpoint
from twinhull.catalog.media import MANIFEST_BYTES_MAX, MANIFEST_TYPES
from twinhull.kit.digest import Digest, algorithm_of, digest_of, is_known
from twinhull.kit.errors import RegistryRefused, RegistryUnreachable
from twinhull.mirror.registry_line import TIMEOUT_S, RegistryLine

_PIECE_BYTES: Final = 256 * 1024
_PAGE: Final = 1000
_PAGES_MAX: Final = 10_000
_ACCEPT: Final = ", ".join(sorted(MANIFEST_TYPES))
DOCKER_HUB: Final = "docker-hub"
# What people write for Docker Hub, whose registry answers elsewhere.
_HUB_HOSTS: Final = frozenset({"hub.docker.com", "docker.io", "index.docker.io", "registry.hub.docker.com"})
_HUB_URL: Final = "https://registry-1.docker.io"
# As Docker Hub has it: images without a namespace are in this one.
_HUB_NAMESPACE: Final = "library"


class ManifestHead(NamedTuple):
    """What a registry says of a manifest without sending it."""

    digest: Digest
    media_type: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignManifest:
    """A manifest as a registry has it: its exact bytes, which are those of its digest."""

    digest: Digest
    media_type: str
    content: bytes


class RegistryClient:
    """Reads from one registry. Lives on one event loop; used as a context manager, or closed."""

    def __init__(self, endpoint: Endpoint, *, timeout_s: float = TIMEOUT_S) -> None:
        """Take where the registry is, what opens it, and how long an answer may take in all; a blob's bytes may take longer."""
        self._is_hub = endpoint.kind == DOCKER_HUB
        self.line = RegistryLine(endpoint, registry_url(endpoint), timeout_s=timeout_s)

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return self.line.url

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        await self.line.close()

    async def check(self) -> None:
        """Make sure that it is a registry, and takes the credentials where there are any."""
        async with self.line.request("GET", "/v2/") as response:
            if response.status != HTTPStatus.OK:
                raise self.line.unexpected(response)

    # -- manifests and blobs ---------------------------------------------------------------------------------------

    async def manifest(self, repository: str, reference: str) -> ForeignManifest:
        """Return what a tag or digest names."""
        async with self._manifest("GET", repository, reference) as response:
            content = await self.line.whole(response, MANIFEST_BYTES_MAX)
            media_type = _media_type(response)
            said = reference if ":" in reference else response.headers.get("Docker-Content-Digest", "")
        algorithm = algorithm_of(Digest(said)) if is_known(said) else "sha256"
        digest = digest_of(content, algorithm)
        if is_known(said) and digest != said:
            raise RegistryUnreachable(f"registry {self.url} sent other bytes than those of manifest {said} of {repository}")
        return ForeignManifest(digest=digest, media_type=media_type, content=content)

    async def head(self, repository: str, reference: str) -> ManifestHead:
        """Return what a tag or digest names, without its bytes where the registry can say so."""
        async with self._manifest("HEAD", repository, reference) as response:
            said = response.headers.get("Docker-Content-Digest", "")
            media_type, size = _media_type(response), response.content_length
        if is_known(said) and size is not None and said == (reference if ":" in reference else said):
            return ManifestHead(Digest(said), media_type, size)
        found = await self.manifest(repository, reference)
        return ManifestHead(found.digest, found.media_type, len(found.content))

    async def blob_size(self, repository: str, digest: Digest) -> int:
        """Return how many bytes a blob has."""
        path, scope = self.path(repository, f"blobs/{digest}"), self.scope(repository)
        with contextlib.suppress(RegistryRefused):
            async with self.line.request("HEAD", path, scope=scope) as response:
                if response.status == HTTPStatus.OK and response.content_length is not None:
                    return response.content_length
        # Where blobs lie with somebody else, the address there may have been signed for a GET alone.
        async with self.blob(repository, digest) as stream:
            if stream.size is None:
                raise RegistryUnreachable(f"registry {self.url} does not say how long blob {digest} of {repository} is")
            return stream.size

    @asynccontextmanager
    async def blob(self, repository: str, digest: Digest, start: int = 0) -> AsyncIterator[ForeignBlob]:
        """Give the bytes of a blob from `start` on. Whether they are those of the digest is to be seen when all are there."""
        async with self.line.request(
            "GET",
            self.path(repository, f"blobs/{digest}"),
            scope=self.scope(repository),
            headers={"Range": f"bytes={start}-"} if start else {},
            is_long=True,
        ) as response:
            if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                raise self.line.unexpected(response)
            yield ForeignBlob(self, response, start)

    @asynccontextmanager
    async def _manifest(self, method: str, repository: str, reference: str) -> AsyncIterator[aiohttp.ClientResponse]:
        path = self.path(repository, f"manifests/{quote(reference, safe=':')}")
        async with self.line.request(method, path, scope=self.scope(repository), headers={"Accept": _ACCEPT}) as response:
            if response.status != HTTPStatus.OK:
                raise self.line.unexpected(response)
            yield response

    # -- names -----------------------------------------------------------------------------------------------------

    async def tags(self, repository: str) -> AsyncIterator[list[str]]:
        """Give the tags of a repository, page by page."""
        async for page in self._pages(self.path(repository, f"tags/list?n={_PAGE}"), "tags", self.scope(repository)):
            yield [name for name in page if isinstance(name, str)]

    async def repositories(self) -> AsyncIterator[list[str]]:
        """Give the names of all repositories that it shows to this caller, page by page."""
        async for page in self._pages(f"/v2/_catalog?n={_PAGE}", "repositories", "registry:catalog:*"):
            yield [name for name in page if isinstance(name, str)]

    async def referrers(self, repository: str, digest: Digest) -> AsyncIterator[list[Digest]]:
        """Give the digests of the manifests whose subject this one is, page by page, where the registry lists them."""
        async for page in self.referrer_descriptors(repository, digest):
            yield [Digest(one["digest"]) for one in page]

    async def referrer_descriptors(self, repository: str, digest: Digest) -> AsyncIterator[list[Mapping[str, Any]]]:
        """Give the descriptors of these manifests, each with a digest of a known algorithm, else as the registry has them."""
        async for page in self._pages(self.path(repository, f"referrers/{digest}"), "manifests", self.scope(repository)):
            yield [one for one in page if isinstance(one, dict) and is_known(str(one.get("digest", "")))]

    async def _pages(self, path: str, field: str, scope: str) -> AsyncIterator[list[object]]:
        for _ in range(_PAGES_MAX):
            async with self.line.request("GET", path, scope=scope) as response:
                document = await self.line.json(response)
                following = response.links.get("next")
            listed = document.get(field) if isinstance(document, dict) else None
            yield listed if isinstance(listed, list) else []
            if following is None:
                return
            url = urljoin(f"{self.url}{path}", str(following["url"]))
            if not url.startswith(f"{self.url}/"):
                raise RegistryUnreachable(f"registry {self.url} sends on to another place for the next page")
            path = url[len(self.url) :]
        raise RegistryUnreachable(f"registry {self.url} has no end of pages")

    # -- where things are ------------------------------------------------------------------------------------------

    def path(self, repository: str, rest: str) -> str:
        """Return the path of something in a repository: "blobs/DIGEST", "tags/list"."""
        return f"/v2/{quote(self._name(repository), safe='/')}/{rest}"

    def scope(self, repository: str, actions: str = "pull") -> str:
        """Return the scope of a token for a repository; actions are "pull", or "pull,push"."""
        return f"repository:{self._name(repository)}:{actions}"

    def _name(self, repository: str) -> str:
        return f"{_HUB_NAMESPACE}/{repository}" if self._is_hub and "/" not in repository else repository


class ForeignBlob:
    """Bytes of a blob on their way from a registry."""

    def __init__(self, client: RegistryClient, response: aiohttp.ClientResponse, start: int) -> None:
        """Take the answer, and at which byte it was asked to begin; raises RegistryUnreachable if it begins elsewhere."""
        self._response = response
        is_part = response.status == HTTPStatus.PARTIAL_CONTENT
        if is_part and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise RegistryUnreachable(f"registry {client.url} sends another part of a blob than was asked for")
        # A registry that knows no ranges sends all of it.
        self._skipped = 0 if is_part else start
        length = response.content_length
        # How many bytes the whole blob has; None where the registry does not say.
        self.size = None if length is None else length + (start if is_part else 0)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the bytes, to be read while the request lasts, which raises when they break off."""
        left = self._skipped
        async for piece in self._response.content.iter_chunked(_PIECE_BYTES):
            if left < len(piece):
                yield piece[left:] if left else piece
            left = max(0, left - len(piece))


def registry_url(endpoint: Endpoint) -> str:
    """Return where the registry of an endpoint answers: Docker Hub's is not at the address that people know."""
    if endpoint.kind == DOCKER_HUB and urlsplit(endpoint.url).hostname in _HUB_HOSTS:
        return _HUB_URL
    return endpoint.url.rstrip("/")


def _media_type(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip()
