"""Uploads over HTTP: one POST, POST and PUT, or chunk by chunk; status, cancel, mount."""

from __future__ import annotations

from typing import Final, Protocol

from twinhull.catalog.contents import Contents
from twinhull.catalog.peers import Durability
from twinhull.catalog.uploads import ChunkRange, Committed, Uploads
from twinhull.kit.digest import Digest, algorithm_of
from twinhull.kit.errors import BlobUploadUnknown, DigestInvalid, NameInvalid
from twinhull.kit.reference import parse_repository
from twinhull.registry.access import Access
from twinhull.registry.answers import DURABILITY, NO_CONTENT_LENGTH, digest_header, known_digest
from twinhull.registry.errors import API_VERSION, received_range
from twinhull.registry.ranges import parse_chunk_range
from twinhull.registry.target import Target
from twinhull.web.asgi import Answer, Headers, Receive, Request, Scope, Send
from twinhull.web.identity import Caller

# A body up to this is written in one turn of a thread together with what follows: most of a small image's layers are.
SHORT_BYTES: Final = 256 * 1024


class Relay(Protocol):
    """Hands a request to the node that owns the upload, and its answer back, both as they come."""

    async def __call__(self, node: str, caller_name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request by what that node answers; the caller was identified here and may push.

        Raises BlobUploadUnknown when there is no such node, PeerUnavailable when it does not answer.
        """
        ...


async def relay_to_nobody(node: str, caller_name: str, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    """Stand in for the peers of a node that is alone: raises BlobUploadUnknown."""
    raise BlobUploadUnknown


class UploadHandlers:
    """The handlers of /v2/<name>/blobs/uploads/ and of each upload below."""

    def __init__(
        self,
        *,
        uploads: Uploads,
        contents: Contents,
        access: Access,
        durability: Durability,
        relay: Relay = relay_to_nobody,
    ) -> None:
        """Take what keeps uploads and knows blobs, who knows callers, and the way to other nodes' uploads."""
        self._uploads = uploads
        self._contents = contents
        self._access = access
        self._durability = durability
        self._relay = relay

    async def post(self, request: Request, target: Target, caller: Caller) -> Answer:
        """Begin an upload (202); or take a whole blob, or mount one from another repository (201)."""
        mount = request.query("mount")
        if mount is not None:
            digest = known_digest(mount)
            mounted = await self._mount(target.repository, digest, request.query("from"), caller)
            if mounted is not None:
                return await self._created(request, target.repository, digest, mounted)
            return _begun(target.repository, await self._uploads.begin(target.repository, algorithm_of(digest)))
        whole = request.query("digest")
        if whole is not None:
            digest = known_digest(whole)
            taken = await self._uploads.take_whole(target.repository, digest, await request.short_body(SHORT_BYTES))
            return await self._created(request, target.repository, digest, taken)
        algorithm = request.query("digest-algorithm") or "sha256"
        return _begun(target.repository, await self._uploads.begin(target.repository, algorithm))

    async def status(self, request: Request, target: Target, caller: Caller) -> Answer | None:
        """Answer 204 with how far the upload got."""
        if await self._relayed(request, target, caller):
            return None
        offset = await self._uploads.offset(target.repository, target.reference)
        return Answer(204, _progress(target.repository, target.reference, offset))

    async def patch(self, request: Request, target: Target, caller: Caller) -> Answer | None:
        """Add a chunk, and answer 202 with how far the upload got."""
        if await self._relayed(request, target, caller):
            return None
        chunk = _chunk(request)
        offset = await self._uploads.append(target.repository, target.reference, chunk, await request.short_body(SHORT_BYTES))
        return Answer(202, [*_progress(target.repository, target.reference, offset), NO_CONTENT_LENGTH])

    async def put(self, request: Request, target: Target, caller: Caller) -> Answer | None:
        """Add the last chunk, if any, and answer 201 with the blob's place."""
        if await self._relayed(request, target, caller):
            return None
        wanted = request.query("digest")
        if not wanted:
            raise DigestInvalid("the closing PUT lacks the parameter digest")
        digest = known_digest(wanted)
        taken = await self._uploads.finish(
            target.repository, target.reference, digest, _chunk(request), await request.short_body(SHORT_BYTES)
        )
        return await self._created(request, target.repository, digest, taken)

    async def cancel(self, request: Request, target: Target, caller: Caller) -> Answer | None:
        """Forget the upload, and answer 204."""
        if await self._relayed(request, target, caller):
            return None
        await self._uploads.cancel(target.repository, target.reference)
        return Answer(204, [API_VERSION])

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _relayed(self, request: Request, target: Target, caller: Caller) -> bool:
        owner = self._uploads.owner_of(target.reference)
        if owner is None:
            return False
        await self._relay(owner, caller.name, request.scope, request.receive, request.send)
        return True

    async def _mount(self, repository: str, digest: Digest, source: str | None, caller: Caller) -> Committed | None:
        """Return the mounted blob, or None if there is none to mount that the caller may read."""
        if source is None:
            for home, _ in await self._contents.homes(digest):
                if home == repository or await self._access.may_pull_anyhow(caller, home):
                    return await self._uploads.mount(repository, digest, home)
            return None
        try:
            source = parse_repository(source)
        except NameInvalid:
            return None
        if source != repository and not await self._access.may_mount(caller, repository, source):
            return None
        return await self._uploads.mount(repository, digest, source)

    async def _created(self, request: Request, repository: str, digest: Digest, blob: Committed) -> Answer:
        level = await self._durability.reached(blob.seq, repository=repository, wanted=request.header(DURABILITY))
        headers: Headers = [
            API_VERSION,
            (b"location", f"/v2/{repository}/blobs/{digest}".encode("ascii")),
            digest_header(digest),
            (DURABILITY, level.encode("ascii")),
            NO_CONTENT_LENGTH,
        ]
        return Answer(201, headers)


def _chunk(request: Request) -> ChunkRange | None:
    return parse_chunk_range(request.header(b"content-range"), request.header(b"content-length"))


def _begun(repository: str, upload_id: str) -> Answer:
    return Answer(202, [*_progress(repository, upload_id, 0), NO_CONTENT_LENGTH])


def _progress(repository: str, upload_id: str, offset: int) -> Headers:
    # Paths, not whole addresses: they are right whichever way the client came, and RFC 9110 lets Location be one.
    return [
        API_VERSION,
        (b"location", f"/v2/{repository}/blobs/uploads/{upload_id}".encode("ascii")),
        (b"range", received_range(offset)),
        (b"docker-upload-uuid", upload_id.encode("ascii")),
    ]
