"""The system's list of CVEs that do not stand in the way of a pull, at Harbor's path: /system/CVEAllowlist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.documents import Documents
from twinhull.harbor.access import Access
from twinhull.harbor.requests import answer, nothing, on_older, read_body
from twinhull.harbor.views import time_of
from twinhull.kit.errors import Invalid
from twinhull.metadata.documents import Document, find
from twinhull.metadata.filtering import NUL
from twinhull.records.kinds import ALLOWLIST, document_key
from twinhull.records.merge import Value

ITEMS_MAX: Final = 10_000
_ID_LENGTH_MAX: Final = 255


class _Item(msgspec.Struct):
    cve_id: str = ""


class AllowlistBody(msgspec.Struct):
    """A list as clients send it."""

    project_id: int = 0
    expires_at: int | None = None
    items: list[_Item] = []

    def checked(self) -> dict[str, Value]:
        """Return the list's fields as they are kept, or raise Invalid."""
        identifiers = [item.cve_id for item in self.items]
        if len(identifiers) > ITEMS_MAX:
            raise Invalid(f"only {ITEMS_MAX} CVEs are allowed at most")
        if any(not 1 <= len(one) <= _ID_LENGTH_MAX or NUL in one for one in identifiers):
            raise Invalid(f"the id of a CVE has 1 to {_ID_LENGTH_MAX} characters")
        if len(set(identifiers)) < len(identifiers):
            raise Invalid("duplicate CVE in the list")
        return {"expires_at": self.expires_at, "items": [{"cve_id": one} for one in identifiers]}


class AllowlistApi:
    """Handlers for the system's list; a project's own stands with the project."""

    def __init__(self, *, access: Access, documents: Documents) -> None:
        """Take what every handler needs, and what writes the list."""
        self._access = access
        self._documents = documents

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [on_older("/system/CVEAllowlist", get=self.get, put=self.set)]

    async def get(self, request: Request) -> Response:
        """Return the list."""
        await self._access.logged_in(request)
        found = await self._access.read(lambda connection: find(connection, ALLOWLIST, document_key("", "")))
        return answer(_view(found))

    async def set(self, request: Request) -> Response:
        """Put another list in its place."""
        await self._access.admin(request)
        body = await read_body(request, AllowlistBody, legacy=True)
        if body.project_id:
            raise Invalid(f"Non-zero project ID for system CVE allowlist: {body.project_id}.")
        changed = await self._documents.set(ALLOWLIST, body.checked())
        return nothing(headers=await self._access.settled(request, changed.seq))


def _view(found: Document | None) -> dict[str, Any]:
    return {
        "id": found.id if found is not None else 0,
        "project_id": 0,
        "expires_at": found.fields.get("expires_at") if found is not None else None,
        "items": found.fields.get("items", []) if found is not None else [],
        "creation_time": time_of(found.created_ms if found is not None else 0),
        "update_time": time_of(found.updated_ms if found is not None else 0),
    }
