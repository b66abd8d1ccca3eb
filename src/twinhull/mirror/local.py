"""This cluster's own registry as one side of a replication: through the same doors as its clients' pushes and pulls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from functools import partial
from typing import Final, TypeVar

import structlog
from sqlalchemy import Connection

from twinhull.catalog.artifacts import Artifacts
from twinhull.catalog.contents import Contents
from twinhull.catalog.deleting import Deleting
from twinhull.catalog.peers import Durability
from twinhull.catalog.projects import NewProject, Projects
from twinhull.catalog.pushing import Push, Pushing
from twinhull.catalog.uploads import Uploads
from twinhull.kit.digest import Digest, algorithm_of, hex_of
from twinhull.kit.errors import BlobUnknown, Conflict, ManifestUnknown, ReadOnlyMode, TwinhullError, Unavailable
from twinhull.kit.reference import parse_reference, parse_repository, project_of
from twinhull.metadata import accounts, content
from twinhull.metadata.artifact_parts import accessories_of_artifacts, tags_of_artifacts
from twinhull.metadata.replicable import Replicable, replicables_page
from twinhull.metadata.store import Store
from twinhull.mirror.selection import Candidate, Selection
from twinhull.mirror.sides import Manifest, Pieces

log = structlog.get_logger(__name__)

# Who is said to have pushed what a replication brings; Harbor's name for it.
ACTOR: Final = "harbor-jobservice"
_READ_ONLY: Final = "read_only"
_PAGE: Final = 200
_PIECE_BYTES: Final = 1024 * 1024
_COSIGN_ENDINGS: Final = (".att", ".sbom")
# A source that breaks off is asked to go on so many times, before the task as a whole is tried again later.
_ATTEMPTS_MAX: Final = 4

T = TypeVar("T")


class LocalRegistry:
    """Source and destination. Lives on the agent's event loop; whoever uses it acts as ACTOR."""

    def __init__(
        self,
        *,
        store: Store,
        executor: Executor,
        artifacts: Artifacts,
        contents: Contents,
        pushing: Pushing,
        deleting: Deleting,
        uploads: Uploads,
        projects: Projects,
        durability: Durability,
    ) -> None:
        """Take the metadata, and the use cases of the catalog."""
        self._store = store
        self._executor = executor
        self._artifacts = artifacts
        self._contents = contents
        self._pushing = pushing
        self._deleting = deleting
        self._uploads = uploads
        self._projects = projects
        self._durability = durability

    # -- source ----------------------------------------------------------------------------------------------------

    async def repositories(self, selection: Selection) -> AsyncIterator[str]:
        """Yield the repositories from which a policy may pick, in the order of their names."""
        projects = selection.projects
        last = ""
        while names := await self._read(partial(_repositories, projects=projects, after=last)):
            for name in names:
                if selection.takes(name):
                    yield name
            last = names[-1]

    async def candidates(self, repository: str) -> AsyncIterator[Candidate]:
        """Yield the artifacts that lists show."""
        last = ""
        while page := await self._read(partial(_replicables, repository=repository, after=last)):
            for one in page:
                yield candidate_of(one)
            last = page[-1].digest

    async def is_public(self, repository: str) -> bool:
        """Tell whether everybody may pull from the repository's project."""
        project = await self._read(lambda connection: accounts.find_project(connection, project_of(repository)))
        return project is not None and project.metadata.get("public") == "true"

    async def digest(self, repository: str, reference: str) -> Digest | None:
        """Return the digest that a tag names, or the digest itself; None when no node of the cluster has it."""
        try:
            return (await self._artifacts.pull(repository, parse_reference(reference))).digest
        except ManifestUnknown:
            return None

    async def manifest(self, repository: str, digest: Digest) -> Manifest | None:
        """Return a manifest, or None when no node of the cluster has it."""
        try:
            found = await self._artifacts.pull(repository, digest)
        except ManifestUnknown:
            return None
        return Manifest(digest=found.digest, media_type=found.media_type, content=found.content)

    async def accessories(self, repository: str, digest: Digest) -> Sequence[Candidate]:
        """Return what belongs to a manifest, oldest first."""
        return await self._read(partial(_accessories, key=(repository, digest)))

    def blob(self, repository: str, digest: Digest, size: int) -> Pieces:
        """Return what gives the bytes of a blob, from this node's disk or from the peer that has it."""

        async def pieces(start: int) -> AsyncGenerator[bytes]:
            located = await self._contents.locate(repository, digest)
            at = start
            try:
                while at < size:
                    if located.source is not None:
                        piece = await located.source.read(at, min(_PIECE_BYTES, size - at))
                    else:
                        piece = await self._contents.read(digest, at, min(_PIECE_BYTES, size - at))
                    if not piece:
                        raise Unavailable(f"blob {digest} ends at {at} of {size} bytes")
                    yield piece
                    at += len(piece)
            finally:
                if located.source is not None:
                    await located.source.close()

        return pieces

    # -- destination -----------------------------------------------------------------------------------------------

    async def prepare(self, repository: str, *, public: bool) -> None:
        """Make the repository's project if it is not there.

        Raises NameInvalid or Invalid for what can't be one's name, ReadOnlyMode while nothing may be pushed.
        """
        name = project_of(parse_repository(repository))
        if await self._read(lambda connection: accounts.find_setting(connection, _READ_ONLY)):
            raise ReadOnlyMode
        if await self._read(lambda connection: accounts.find_project(connection, name)) is not None:
            return
        wanted = NewProject(name=name, metadata={"public": "true" if public else "false"}, owner="admin")
        try:
            made = await self._projects.create(wanted)
        except Conflict:
            return
        await self._durability.reached(made.seq, repository=repository)

    async def has_blob(self, repository: str, digest: Digest) -> bool:
        """Tell whether a blob is in the repository; if it is in another of this cluster, it is in this one too from now on."""
        try:
            await self._contents.promise(repository, digest)
        except BlobUnknown:
            homes = await self._contents.homes(digest)
            mounted = await self._uploads.mount(repository, digest, homes[0][0]) if homes else None
            return mounted is not None
        return True

    async def put_blob(self, repository: str, digest: Digest, size: int, pieces: Pieces) -> None:
        """Store a blob; a source that breaks off is asked for the rest. Raises what pushes of clients raise."""
        upload = await self._uploads.begin(repository, algorithm_of(digest))
        try:
            await self._fill(repository, upload, size, pieces)
            await self._uploads.finish(repository, upload, digest, None, b"")
        except BaseException:
            await self._give_up(repository, upload)
            raise

    async def put_manifest(self, repository: str, manifest: Manifest, tag: str = "") -> None:
        """Store a manifest, and let the tag name it if there is one. Raises what pushes of clients raise."""
        push = Push(
            repository=repository,
            reference=manifest.digest,
            content=manifest.content,
            content_type=manifest.media_type,
            pushed_by=ACTOR,
            tags=[tag] if tag else [],
        )
        pushed = await self._pushing.push(push)
        await self._durability.reached(pushed.seq, repository=repository, digest=pushed.digest)

    async def delete(self, repository: str, reference: str) -> bool:
        """Delete a tag alone, or the manifest of a digest with its tags; False when it was not there."""
        try:
            seq = await self._deleting.delete(repository, parse_reference(reference))
        except ManifestUnknown:
            return False
        await self._durability.reached(seq, repository=repository)
        return True

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _fill(self, repository: str, upload: str, size: int, pieces: Pieces) -> None:
        offset = 0
        for attempt in range(_ATTEMPTS_MAX):
            try:
                if offset < size:
                    async with aclosing(pieces(offset)) as given:
                        await self._uploads.append(repository, upload, None, given)
                return
            except Unavailable as error:
                # What has come is kept.
                reached = await self._uploads.offset(repository, upload)
                if attempt + 1 == _ATTEMPTS_MAX or reached == offset:
                    raise
                offset = reached
                log.warning("blob broke off on its way from another registry, goes on", offset=offset, error=str(error))

    async def _give_up(self, repository: str, upload: str) -> None:
        try:
            await self._uploads.cancel(repository, upload)
        except TwinhullError as error:
            log.debug("upload of a replication was not there to be cancelled", error=str(error))

    async def _read(self, query: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self._store.read() as connection:
                return query(connection)

        return await asyncio.get_running_loop().run_in_executor(self._executor, run)


def _repositories(connection: Connection, *, projects: Sequence[str] | None, after: str) -> list[str]:
    return content.repositories_page(connection, after, _PAGE, projects=projects)


def _replicables(connection: Connection, *, repository: str, after: str) -> list[Replicable]:
    return replicables_page(connection, repository, after, _PAGE)


def _accessories(connection: Connection, *, key: tuple[str, str]) -> list[Candidate]:
    listed = accessories_of_artifacts(connection, [key]).get(key, [])
    tags = tags_of_artifacts(connection, [one.key for one in listed])
    found = {one.digest: tuple(tag.name for tag in tags.get(one.key, ())) for one in listed}
    for ending in _COSIGN_ENDINGS:
        # Attestations and SBOMs that cosign has attached name no subject: the tag alone says what they are about.
        tag = f"sha256-{hex_of(Digest(key[1]))}{ending}"
        digest = content.digest_of_tag(connection, key[0], tag)
        if digest is not None:
            found.setdefault(digest, (tag,))
    return [Candidate(digest=digest, tags=named) for digest, named in found.items()]


def candidate_of(one: Replicable) -> Candidate:
    """Return an artifact as policies pick it."""
    return Candidate(digest=one.digest, tags=one.tags, labels=one.labels, type=one.type)
