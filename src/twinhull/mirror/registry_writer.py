"""One foreign registry over /v2/ as a client writes to it: blobs, manifests, deletions. Reading is in registry_client.

Requests fail as registry_line says; what a registry does not take however often it is sent raises RegistryRejected.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import aiohttp
import structlog

from twinhull.kit.digest import Digest
from twinhull.kit.errors import RegistryLacks, RegistryRefused, RegistryRejected, RegistryUnreachable
from twinhull.mirror.registry_client import RegistryClient
from twinhull.mirror.sides import Manifest, Pieces

log = structlog.get_logger(__name__)

# As Harbor has it: proxies in between that take no more in one request are why chunks are asked for.
CHUNK_BYTES: Final = 10 * 1024 * 1024
_ATTEMPTS_MAX: Final = 4
_PAUSE_S: Final = 1.0
# A registry that takes no byte for so long is stuck; it may take longer to put a blob that has come in its place.
_STALL_S: Final = 60.0
_COMMIT_S: Final = 600.0
_PUSH: Final = "pull,push"
_DELETE: Final = "pull,push,delete"
_DONE: Final = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT)
_ELSEWHERE: Final = (HTTPStatus.CONFLICT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
_STREAM: Final = "application/octet-stream"


class RegistryWriter:
    """Writes to one registry. Lives on one event loop."""

    def __init__(self, client: RegistryClient, *, chunk_bytes: int | None = None, pause_s: float = _PAUSE_S) -> None:
        """Take the registry, into how large chunks blobs are cut (None: not at all), and how long to wait for a broken line."""
        self._client = client
        self._line = client.line
        self._chunk_bytes = chunk_bytes
        self._pause_s = pause_s

    # -- blobs -----------------------------------------------------------------------------------------------------

    async def has_blob(self, repository: str, digest: Digest) -> bool:
        """Tell whether a blob is in the repository."""
        path = self._client.path(repository, f"blobs/{digest}")
        try:
            async with self._line.request("HEAD", path, scope=self._client.scope(repository, _PUSH)) as response:
                if response.status != HTTPStatus.OK:
                    raise self._line.unexpected(response)
                return True
        except RegistryLacks:
            return False

    async def mount(self, repository: str, digest: Digest, source: str) -> bool:
        """Tell whether a blob that is in another repository there could be made visible in this one."""
        query = f"?mount={quote(digest, safe='')}&from={quote(source, safe='/')}"
        try:
            async with self._begin(repository, query, also=self._client.scope(source)) as response:
                if response.status == HTTPStatus.CREATED:
                    return True
                location = self._location(response)
        except (RegistryLacks, RegistryRefused, RegistryRejected):
            return False
        # It began an upload instead, which nobody goes on with.
        await self._cancel(repository, location)
        return False

    async def put_blob(self, repository: str, digest: Digest, size: int, pieces: Pieces) -> None:
        """Send a blob; where the line breaks, go on from where the registry is, a few times. Raises what the source raises."""
        location, offset = "", 0
        for attempt in range(_ATTEMPTS_MAX):
            try:
                if not location:
                    async with self._begin(repository) as response:
                        location, offset = self._location(response), 0
                await self._send(repository, location, digest, _Body(pieces, offset, size - offset))
                return
            except (RegistryUnreachable, RegistryLacks) as error:
                if attempt + 1 == _ATTEMPTS_MAX:
                    raise
                log.warning("blob was not taken, sent on after a pause", registry=self._client.url, error=str(error))
                await asyncio.sleep(self._pause_s * 2**attempt)
                location, offset = await self._reached(repository, location) if location else ("", 0)

    async def _send(self, repository: str, location: str, digest: Digest, rest: _Body) -> None:
        """Send the rest of a blob, and have it made one."""
        if self._chunk_bytes is None and rest.start == 0:
            await self._put(repository, location, digest, rest)
            return
        for body in rest.cut(self._chunk_bytes):
            location = await self._patch(repository, location, body)
        await self._put(repository, location, digest, None)

    async def _patch(self, repository: str, location: str, body: _Body) -> str:
        headers = {"Content-Range": f"{body.start}-{body.start + body.length - 1}"}
        async with self._sending("PATCH", repository, location, body, headers) as response:
            if response.status in _ELSEWHERE:
                # It is still busy with what came before the line broke.
                raise RegistryUnreachable(f"registry {self._client.url} goes on with an upload at another byte")
            if response.status not in _DONE:
                raise await self._rejected(response, "a part of a blob")
            return self._location(response)

    async def _put(self, repository: str, location: str, digest: Digest, body: _Body | None) -> None:
        mark = "&" if "?" in location else "?"
        address = f"{location}{mark}digest={quote(digest, safe='')}"
        async with self._sending("PUT", repository, address, body, {}) as response:
            if response.status not in _DONE:
                raise await self._rejected(response, f"blob {digest}")

    @asynccontextmanager
    async def _sending(
        self, method: str, repository: str, location: str, body: _Body | None, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        scope = self._client.scope(repository, _PUSH)
        sent = {"Content-Type": _STREAM, "Content-Length": str(body.length if body else 0), **headers}
        try:
            async with asyncio.timeout(_COMMIT_S) as limit:
                data = body.stream(limit) if body is not None else b""
                async with self._line.request(method, location, scope=scope, headers=sent, data=data, is_long=True) as response:
                    yield response
        except TimeoutError as error:
            raise RegistryUnreachable(f"registry {self._client.url} takes no more bytes") from error
        except RegistryUnreachable:
            # The line broke because there was nothing more to send.
            if body is not None and body.failure is not None:
                raise body.failure from None
            raise

    async def _reached(self, repository: str, location: str) -> tuple[str, int]:
        """Return where an upload goes on, and at which byte; an empty text if it has to begin anew."""
        try:
            async with self._line.request("GET", location, scope=self._client.scope(repository, _PUSH)) as response:
                first, dash, last = response.headers.get("Range", "").removeprefix("bytes=").partition("-")
                if response.status == HTTPStatus.NO_CONTENT and dash and first == "0" and last.isdecimal():
                    # "0-0" is what registries say of nothing at all, and of one byte.
                    reached = int(last) + 1 if int(last) else 0
                    return (self._location(response, location), reached) if reached else ("", 0)
        except (RegistryUnreachable, RegistryLacks, RegistryRefused) as error:
            log.debug("upload can not be gone on with", registry=self._client.url, error=str(error))
        return "", 0

    @asynccontextmanager
    async def _begin(self, repository: str, query: str = "", also: str = "") -> AsyncIterator[aiohttp.ClientResponse]:
        path = self._client.path(repository, f"blobs/uploads/{query}")
        scope = f"{self._client.scope(repository, _PUSH)} {also}".rstrip()
        async with self._line.request("POST", path, scope=scope, headers={"Content-Length": "0"}) as response:
            if response.status not in (HTTPStatus.ACCEPTED, HTTPStatus.CREATED):
                raise await self._rejected(response, "an upload")
            yield response

    async def _cancel(self, repository: str, location: str) -> None:
        try:
            async with self._line.request("DELETE", location, scope=self._client.scope(repository, _PUSH)):
                return
        except (RegistryUnreachable, RegistryLacks, RegistryRefused) as error:
            log.debug("upload could not be cancelled", registry=self._client.url, error=str(error))

    def _location(self, response: aiohttp.ClientResponse, before: str = "") -> str:
        """Return where an upload goes on; raises RegistryUnreachable for nowhere, or another place than this registry."""
        said = response.headers.get("Location") or before
        parts, own = urlsplit(urljoin(str(response.url), said)), urlsplit(self._client.url)
        if not said or parts.hostname != own.hostname:
            raise RegistryUnreachable(
                f"registry {self._client.url} wants an upload sent to another place",
                hint="see that its own address is set as clients reach it",
            )
        # Behind a proxy it may not know by which scheme and port it is reached.
        return urlunsplit((own.scheme, own.netloc, parts.path, parts.query, ""))

    # -- manifests -------------------------------------------------------------------------------------------------

    async def put_manifest(self, repository: str, manifest: Manifest, reference: str, *, tag: str = "") -> bool:
        """Store a manifest under a tag or its digest; tell whether the registry has taken note that it has a subject.

        A `tag` besides its digest is what not all registries know: see afterwards whether it is there.
        """
        query = f"?tag={quote(tag, safe='')}" if tag else ""
        path = self._client.path(repository, f"manifests/{quote(reference, safe=':')}{query}")
        headers = {"Content-Type": manifest.media_type}
        scope = self._client.scope(repository, _PUSH)
        async with self._line.request("PUT", path, scope=scope, headers=headers, data=manifest.content) as response:
            if response.status not in _DONE:
                raise await self._rejected(response, f"manifest {reference} of {repository}")
            said = response.headers.get("Docker-Content-Digest", manifest.digest)
            if said.partition(":")[0] == manifest.digest.partition(":")[0] and said != manifest.digest:
                raise RegistryRejected(f"registry {self._client.url} made {said} of manifest {manifest.digest}")
            return "OCI-Subject" in response.headers

    async def delete(self, repository: str, reference: str) -> bool:
        """Delete a manifest by its digest, or a tag alone; False when it was not there, or its repository."""
        path = self._client.path(repository, f"manifests/{quote(reference, safe=':')}")
        try:
            async with self._line.request("DELETE", path, scope=self._client.scope(repository, _DELETE)) as response:
                if response.status not in _DONE:
                    raise await self._rejected(response, f"the deletion of {repository} {reference}")
                return True
        except RegistryLacks:
            return False

    async def _rejected(self, response: aiohttp.ClientResponse, what: str) -> RegistryRejected:
        said = await self._line.said(response)
        return RegistryRejected(f"registry {self._client.url} does not take {what}: {response.status}{said}")


class _Body:
    """A part of a blob on its way out."""

    def __init__(self, pieces: Pieces, start: int, length: int) -> None:
        self._pieces = pieces
        self.start = start
        self.length = length
        # What the source failed with; the other side sees no more than a line that breaks.
        self.failure: Exception | None = None

    def cut(self, most: int | None) -> Iterator[_Body]:
        """Yield it in parts of at most so many bytes."""
        end = self.start + self.length
        step = most or max(1, self.length)
        for start in range(self.start, end, step):
            yield _Body(self._pieces, start, min(step, end - start))

    async def stream(self, limit: asyncio.Timeout) -> AsyncIterator[bytes]:
        """Give the bytes, and move the time limit with each of them that is taken."""
        loop = asyncio.get_running_loop()
        left = self.length
        # The source has its own limits of time.
        limit.reschedule(None)
        try:
            async with aclosing(self._pieces(self.start)) as pieces:
                async for piece in pieces:
                    limit.reschedule(loop.time() + _STALL_S)
                    yield piece[:left]
                    left -= len(piece)
                    limit.reschedule(None)
                    if left <= 0:
                        break
        except Exception as error:
            self.failure = error
            raise
        limit.reschedule(loop.time() + _COMMIT_S)
