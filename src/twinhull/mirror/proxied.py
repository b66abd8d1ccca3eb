"""Upstream as an HTTP worker sees it: its questions go to the node's agent, which keeps what it brings.

What can't be kept (the disk or the project is full, the agent is gone) goes from upstream straight to the client.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from typing import Any, Final

import structlog

from twinhull.auth.subjects import ProjectFacts
from twinhull.blobs.store import BlobStore
from twinhull.catalog.peers import BlobSource
from twinhull.catalog.upstreams import ComingBlob, UpstreamManifest
from twinhull.kit.digest import Digest, algorithm_of, hex_of, is_known, new_hash
from twinhull.kit.errors import (
    BlobUnknown,
    PeerUnavailable,
    QuotaExceeded,
    RegistryLacks,
    RegistryUnreachable,
    StorageFull,
    TooMany,
    TwinhullError,
)
from twinhull.metadata.content import Referrer
from twinhull.mirror.upstreams import Upstream, Upstreams
from twinhull.replication.link import AgentLink, AskUpstream, Coming, FetchUpstream, Named, SizeUpstream
from twinhull.replication.remote import ArrivingBlob

log = structlog.get_logger(__name__)

# The agent keeps to shorter limits, but for the bytes of a blob.
_ASK_S: Final = 20.0
_SIZE_S: Final = 35.0
_LIST_S: Final = 5.0
_TAGS_MAX: Final = 100_000
_REFERRERS_MAX: Final = 10_000
# A part of a blob that begins so far behind what has come is not waited for.
_AHEAD_BYTES: Final = 8 * 1024 * 1024
_NOT_KEPT: Final = (StorageFull, QuotaExceeded, PeerUnavailable)


class RemoteUpstreams:
    """The upstreams of one HTTP worker; see catalog/upstreams.py for what they promise."""

    def __init__(
        self,
        link: AgentLink,
        upstreams: Upstreams,
        *,
        blobs: BlobStore,
        executor: Executor,
        facts_of: Callable[[str], Awaitable[ProjectFacts]],
    ) -> None:
        """Take the link to the agent, who is upstream, where bytes grow, and what knows the projects."""
        self._link = link
        self._upstreams = upstreams
        self._blobs = blobs
        self._executor = executor
        self._facts_of = facts_of

    async def stands_for(self, project: str) -> bool:
        """Tell whether a project stands for another registry's content."""
        return (await self._facts_of(project)).proxied

    async def serves_deleted(self, project: str) -> bool:
        """Tell whether what upstream has no more is still to be served from here."""
        return (await self._facts_of(project)).serves_deleted

    async def manifest(
        self, repository: str, reference: str | Digest, have: Digest | None, *, look_only: bool
    ) -> UpstreamManifest:
        """Return what upstream names so."""
        asked = AskUpstream(repository=repository, reference=reference, have=have or "", look_only=look_only)
        try:
            async with asyncio.timeout(_ASK_S):
                said = await self._link.call(asked)
        except TimeoutError as error:
            raise PeerUnavailable("this node's agent does not answer", hint="see its log") from error
        assert isinstance(said, Named)
        return UpstreamManifest(Digest(said.digest), said.media_type, said.content)

    async def blob_size(self, repository: str, digest: Digest) -> int:
        """Return the size of a blob that is not here."""
        try:
            async with asyncio.timeout(_SIZE_S):
                size = await self._link.call(SizeUpstream(repository=repository, digest=digest))
        except (TwinhullError, TimeoutError) as error:
            raise _unknown(repository, digest, error) from error
        assert isinstance(size, int)
        return size

    async def blob(self, repository: str, digest: Digest) -> ComingBlob:
        """Return a blob that is not here, to be read while it is stored."""
        try:
            coming = await self._link.call(FetchUpstream(repository=repository, digest=digest))
        except _NOT_KEPT as error:
            log.info("blob of upstream passed on without being kept", repository=repository, digest=digest, reason=str(error))
            return await self._straight(repository, digest)
        except TwinhullError as error:
            raise _unknown(repository, digest, error) from error
        assert isinstance(coming, Coming)
        arriving = ArrivingBlob(self._link, self._blobs, self._executor, digest, coming.size)
        await arriving.open(coming.fetched)

        async def straight() -> BlobSource:
            return (await self._straight(repository, digest)).source

        return ComingBlob(coming.size, KeptBlob(arriving, coming.offset, straight))

    async def tags(self, repository: str) -> list[str]:
        """Return the tags that upstream has."""
        found: list[str] = []
        try:
            async with asyncio.timeout(_LIST_S):
                upstream = await self._upstreams.of(repository)
                async for page in upstream.client.tags(upstream.repository):
                    found += page
                    if len(found) > _TAGS_MAX:
                        break
        except (TwinhullError, TimeoutError) as error:
            log.info("upstream's tags are not known", repository=repository, reason=str(error))
        return found

    async def referrers(self, repository: str, subject: Digest) -> list[Referrer]:
        """Return the manifests upstream whose subject is this digest."""
        found: list[Referrer] = []
        try:
            async with asyncio.timeout(_LIST_S):
                upstream = await self._upstreams.of(repository)
                try:
                    async for page in upstream.client.referrer_descriptors(upstream.repository, subject):
                        found += map(_referrer, page)
                        if len(found) > _REFERRERS_MAX:
                            break
                except RegistryLacks:
                    # OCI distribution 1.1, "Unavailable Referrers API": then a tag has the list.
                    listed = await upstream.client.manifest(upstream.repository, subject.replace(":", "-"))
                    found += map(_referrer, _descriptors_in(listed.content))
        except (TwinhullError, TimeoutError) as error:
            log.info("upstream's referrers are not known", repository=repository, subject=subject, reason=str(error))
        return found

    async def _straight(self, repository: str, digest: Digest) -> ComingBlob:
        try:
            upstream = await self._upstreams.of(repository)
            size = await upstream.client.blob_size(upstream.repository, digest)
        except TwinhullError as error:
            raise _unknown(repository, digest, error) from error
        return ComingBlob(size, PassedBlob(upstream, digest, size))


def _descriptors_in(index: bytes) -> list[Mapping[str, Any]]:
    try:
        document = json.loads(index)
    except ValueError:
        return []
    listed = document.get("manifests") if isinstance(document, dict) else None
    found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return [one for one in found if is_known(str(one.get("digest", "")))]


def _referrer(said: Mapping[str, Any]) -> Referrer:
    annotations, size = said.get("annotations"), said.get("size")
    return Referrer(
        digest=str(said["digest"]),
        media_type=str(said.get("mediaType", "")),
        artifact_type=str(said.get("artifactType", "")),
        size=size if isinstance(size, int) else 0,
        annotations={str(name): str(value) for name, value in annotations.items()} if isinstance(annotations, dict) else {},
    )


def _unknown(repository: str, digest: Digest, error: Exception) -> TwinhullError:
    """Return what a client is told when upstream does not give a blob: as in Harbor that it is not there, and why."""
    if isinstance(error, TooMany):
        return error
    reason = error.message if isinstance(error, TwinhullError) else "it was not to be had in time"
    return BlobUnknown(f"blob is not cached in {repository}, and {reason}", detail={"name": repository, "digest": digest})


class KeptBlob:
    """A blob that the agent is bringing; read from upstream itself where it does not come, or not soon."""

    def __init__(self, arriving: BlobSource, offset: int, straight: Callable[[], Awaitable[BlobSource]]) -> None:
        """Take the blob as it grows here, how far it has grown, and what gives it from upstream."""
        self._source = arriving
        self._is_straight = False
        self._offset: int | None = offset
        self._straight = straight

    async def read(self, start: int, length: int) -> bytes:
        """Return bytes from `start`; raises what either way fails with."""
        if self._offset is not None and start > self._offset + _AHEAD_BYTES:
            await self._change()
        self._offset = None
        try:
            return await self._source.read(start, length)
        except StorageFull:
            # Nobody can go on where the agent had to stop, but who reads can.
            if self._is_straight:
                raise
            await self._change()
            return await self._source.read(start, length)

    async def close(self) -> None:
        """Let go of it; what the agent brings goes on."""
        await self._source.close()

    async def _change(self) -> None:
        await self._source.close()
        self._source, self._is_straight = await self._straight(), True


class PassedBlob:
    """A blob read from upstream as the client reads it. One reader, who goes forward."""

    def __init__(self, upstream: Upstream, digest: Digest, size: int) -> None:
        """Take where it is and how long."""
        self._upstream = upstream
        self._digest = digest
        self._size = size
        self._hash = new_hash(algorithm_of(digest))
        # None as soon as not all of it is read from the beginning.
        self._hashed: int | None = 0
        self._request = AsyncExitStack()
        self._pieces: AsyncIterator[bytes] | None = None
        self._position = 0
        self._rest = b""

    async def read(self, start: int, length: int) -> bytes:
        """Return bytes from `start`, at least one; the last one of a blob only if all of it is what its digest says."""
        if self._pieces is None or start != self._position:
            await self._begin(start)
        if not self._rest:
            assert self._pieces is not None
            try:
                self._rest = await anext(self._pieces)
            except StopAsyncIteration:
                raise RegistryUnreachable(f"blob {self._digest} ends at {start} of {self._size} bytes upstream") from None
            except Exception:
                # The request tells what became of it.
                await self._request.__aexit__(*sys.exc_info())
                raise
        piece, self._rest = self._rest[:length], self._rest[length:]
        self._position = start + len(piece)
        self._check(start, piece)
        return piece

    async def close(self) -> None:
        """Hang up."""
        await self._request.aclose()

    async def _begin(self, start: int) -> None:
        await self._request.aclose()
        self._request = AsyncExitStack()
        self._pieces = await self._request.enter_async_context(self._upstream.open(self._digest, start))
        self._position, self._rest = start, b""

    def _check(self, start: int, piece: bytes) -> None:
        if self._hashed != start:
            self._hashed = None
            return
        self._hash.update(piece)
        self._hashed += len(piece)
        if self._hashed >= self._size and self._hash.hexdigest() != hex_of(self._digest):
            raise RegistryUnreachable(f"registry {self._upstream.name} has other bytes than those of blob {self._digest}")
