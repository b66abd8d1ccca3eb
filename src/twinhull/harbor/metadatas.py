"""A project's metadata item by item, at Harbor's paths: /projects/{project_id}/metadatas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.projects import METADATA_KEYS, Projects
from twinhull.harbor.access import Access, path_not_found
from twinhull.harbor.requests import answer, nothing, on_older, read_body
from twinhull.kit.errors import Conflict, Invalid, NotFound
from twinhull.metadata.accounts import Project

_FLAGS: Final = frozenset(
    {
        *("public", "enable_content_trust", "enable_content_trust_cosign", "prevent_vul", "auto_scan"),
        *("auto_sbom_generation", "reuse_sys_cve_allowlist", "proxy_cache_local_on_not_found", "proxy_referrer_api"),
    }
)
# As they are kept: what is negligible is none.
_SEVERITIES: Final = {**{name: name for name in ("critical", "high", "medium", "low", "none")}, "negligible": "none"}
_TRUE: Final = ("1", "t", "true")
_FALSE: Final = ("0", "f", "false")


class MetadatasApi:
    """Handlers for items of metadata."""

    def __init__(self, *, access: Access, projects: Projects) -> None:
        """Take what every handler needs, and what writes projects."""
        self._access = access
        self._projects = projects

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes; Harbor has the list with and without a slash at the end."""
        root = "/projects/{project_id}/metadatas"
        return [
            on_older(root, get=self.list, post=self.add),
            on_older(f"{root}/", get=self.list, post=self.add),
            on_older(f"{root}/{{meta_name}}", get=self.get, put=self.change, delete=self.remove),
        ]

    async def list(self, request: Request) -> Response:
        """Return all items."""
        _, project = await self._access.legacy_project(request, "metadata", "read", hidden=True)
        return answer(dict(sorted(project.metadata.items())))

    async def add(self, request: Request) -> Response:
        """Add one item that is not there yet."""
        _, project = await self._access.legacy_project(request, "metadata", "create", hidden=True)
        sent = _checked(await read_body(request, dict[str, Any], legacy=True))
        if len(sent) != 1:
            raise Invalid("invalid request: there must be exactly one item")
        if sent.keys() & project.metadata.keys():
            raise Conflict("conflict metadata")
        name, value = sent.popitem()
        if name in METADATA_KEYS:
            changed = await self._projects.change_metadata(project.name, {name: value})
        else:
            changed = await self._projects.add_other_metadata(project.name, name, value)
        return nothing(201, await self._access.settled(request, changed.seq))

    async def get(self, request: Request) -> Response:
        """Return one item."""
        _, project = await self._access.legacy_project(request, "metadata", "read", hidden=True)
        name = self._existing(request, project)
        return answer({name: project.metadata[name]})

    async def change(self, request: Request) -> Response:
        """Set one item that is there, and known; what nobody here knows is added and removed, as no Harbor changes it."""
        _, project = await self._access.legacy_project(request, "metadata", "update", hidden=True)
        sent = _checked(await read_body(request, dict[str, Any], legacy=True))
        name = self._existing(request, project)
        if name not in METADATA_KEYS:
            raise path_not_found(request)
        if name not in sent:
            raise Invalid(f"must contain {name}")
        changed = await self._projects.change_metadata(project.name, {name: sent[name]})
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def remove(self, request: Request) -> Response:
        """Take one item away."""
        _, project = await self._access.legacy_project(request, "metadata", "delete", hidden=True)
        removed = await self._projects.remove_metadata(project.name, self._existing(request, project))
        return nothing(headers=await self._access.settled(request, removed.seq))

    @staticmethod
    def _existing(request: Request, project: Project) -> str:
        name: str = request.path_params["meta_name"]
        if name not in project.metadata:
            raise NotFound(f"metadata {name[:128]} of project {project.id} not found")
        return name


def _checked(sent: dict[str, Any]) -> dict[str, str]:
    """Return the items as they are kept, or raise Invalid in Harbor's words."""
    found: dict[str, str] = {}
    for name, value in sent.items():
        if not isinstance(value, str):
            raise Invalid("Invalid json request")
        lower = value.strip().lower()
        if name in _FLAGS:
            if lower not in (*_TRUE, *_FALSE):
                raise Invalid(f"invalid value: {value[:64]}")
            found[name] = "true" if lower in _TRUE else "false"
        elif name == "severity":
            if lower not in _SEVERITIES:
                raise Invalid(f"invalid value for severity: {value[:64]}")
            found[name] = _SEVERITIES[lower]
        else:
            found[name] = value
    return found
