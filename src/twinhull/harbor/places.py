"""Which repository and artifact a path means, and whether the caller may do there what they want."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from twinhull.catalog.peers import Peers
from twinhull.harbor.access import UNAUTHORIZED, Access
from twinhull.kit.errors import Denied, NotFound, Unauthenticated
from twinhull.metadata import accounts
from twinhull.metadata.accounts import Project
from twinhull.metadata.artifacts import Artifact, find_artifact
from twinhull.records.kinds import MANIFEST, TAG, content_key, tag_key
from twinhull.web.identity import Caller

REPOSITORY: Final = "/projects/{project_name}/repositories/{repository_name}"
ARTIFACT: Final = REPOSITORY + "/artifacts/{reference}"


class HarborPaths:
    """Reads paths as Harbor does: `%2F` is a sign in a name, not the border of two, and a slash at the end says nothing.

    Harbor's clients write the name `a/b` of a repository as `a%252Fb`, since Harbor unescapes it twice; who escapes as the
    standard says, `a%2Fb`, means the same. The Terraform provider asks for `/quotas/`.
    """

    def __init__(self, face: ASGIApp) -> None:
        """Take what answers."""
        self.face = face

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        raw = bytes(scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")
        if "%2f" in raw.lower():
            scope["path"] = unquote(raw.replace("%2F", "%252F").replace("%2f", "%252F"))
        if scope["path"].endswith("/"):
            scope["path"] = scope["path"].rstrip("/")
        await self.face(scope, receive, send)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A repository by its whole name, the project that it is in, and who asks."""

    caller: Caller
    project: Project
    repository: str


class Places:
    """Finds what paths mean."""

    def __init__(self, *, access: Access, peers: Peers) -> None:
        """Take who knows callers and reads the metadata, and the peers to ask for what seems to be missing."""
        self._access = access
        self._peers = peers

    async def project(self, request: Request, resource: str, action: str) -> tuple[Caller, Project]:
        """Return the caller, who may do this in the project that the path names, and that project.

        Raises Unauthenticated or Denied, also for a project that is not there: names are nobody's business.
        """
        return await self.named_project(await self._access.caller(request), self._name(request), resource, action)

    async def named_project(self, caller: Caller, name: str, resource: str, action: str) -> tuple[Caller, Project]:
        """Return the same for a caller and a project's name."""
        await self._peers.settle()
        project = await self._access.read(lambda connection: accounts.find_project(connection, name))
        if project is None:
            raise Unauthenticated(UNAUTHORIZED) if caller.is_anonymous else Denied("forbidden")
        return await self._access.require(caller, project, resource, action)

    async def repository(self, request: Request, resource: str, action: str) -> Place:
        """Return the repository that the path names, there or not; raises what project raises."""
        caller, project = await self.project(request, resource, action)
        name = unquote(request.path_params["repository_name"])
        return Place(caller=caller, project=project, repository=f"{project.name}/{name}")

    async def artifact(self, request: Request, resource: str, action: str) -> tuple[Place, Artifact]:
        """Return the artifact that the path names; raises NotFound, and what project raises."""
        place = await self.repository(request, resource, action)
        return place, await self.artifact_at(place.repository, request.path_params["reference"])

    async def artifact_at(self, repository: str, reference: str) -> Artifact:
        """Return the artifact of that digest or tag, or raise NotFound once no peer has it either."""
        found = await self._access.read(lambda connection: find_artifact(connection, repository, reference))
        is_digest = ":" in reference
        if found is None:
            kind, key = (MANIFEST, content_key(repository, reference)) if is_digest else (TAG, tag_key(repository, reference))
            if await self._peers.find(kind.name, key):
                found = await self._access.read(lambda connection: find_artifact(connection, repository, reference))
        if found is None:
            raise NotFound(f"artifact {repository}{'@' if is_digest else ':'}{reference} not found")
        return found

    @staticmethod
    def _name(request: Request) -> str:
        name: str = request.path_params["project_name"]
        return name
