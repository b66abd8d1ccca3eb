"""Scanners at Harbor's paths: /scanners, and which one a project has. Their credentials are sealed, and never shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.auth.sealing import Sealer
from twinhull.catalog.foreign import Foreign, ScannerEndpoint
from twinhull.catalog.scanners import (
    Registration,
    Scanner,
    Scanners,
    all_scanners,
    find_scanner,
    require_registration,
    scanner_of,
)
from twinhull.harbor.access import Access
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import answer, listed, located, nothing, on_older, query_bool, read_body
from twinhull.kit.clock import rfc3339
from twinhull.kit.errors import Invalid, NotFound, Unavailable

_PREFIX: Final = "scanner API"
_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


class _ChoiceBody(msgspec.Struct):
    uuid: str = ""


class _DefaultBody(msgspec.Struct):
    is_default: bool = False


class ScannersApi:
    """Handlers for scanners."""

    def __init__(self, *, access: Access, scanners: Scanners, sealer: Sealer, foreign: Foreign) -> None:
        """Take what every handler needs, what writes registrations, what seals credentials, and what asks scanners."""
        self._access = access
        self._scanners = scanners
        self._sealer = sealer
        self._foreign = foreign

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on_older("/scanners", get=self.list, post=self.create),
            on_older("/scanners/ping", post=self.ping),
            on_older("/scanners/{registration_id}", get=self.get, put=self.change, patch=self.make_default, delete=self.delete),
            on_older("/scanners/{registration_id}/metadata", get=self.metadata),
            on_older("/projects/{project_name_or_id}/scanner", get=self.of_project, put=self.choose),
            on_older("/projects/{project_name_or_id}/scanner/candidates", get=self.candidates),
        ]

    async def list(self, request: Request) -> Response:
        """Return the registered scanners, by name."""
        await self._access.admin(request)
        return await self._page(request)

    async def create(self, request: Request) -> Response:
        """Register a scanner that answers."""
        await self._access.admin(request)
        wanted = await self._registration(request, "create")
        await self._ask(self._endpoint(wanted))
        credential = self._sealer.seal(wanted.access_credential) if wanted.access_credential else None
        identifier, made = await self._scanners.create(wanted, credential)
        return nothing(201, {**located(request, identifier), **await self._access.settled(request, made.seq)})

    async def ping(self, request: Request) -> Response:
        """Ask a scanner that is described whether it answers."""
        await self._access.admin(request)
        await self._ask(self._endpoint(await self._registration(request, "ping")))
        return nothing()

    async def get(self, request: Request) -> Response:
        """Return a registration."""
        return answer(_view(await self._scanner(request)))

    async def change(self, request: Request) -> Response:
        """Change a registration; an empty credential leaves the one that is kept."""
        scanner = await self._scanner(request)
        wanted = await self._registration(request, "update")
        held = self._unsealed(scanner)
        credential: str | None = None
        if wanted.access_credential == held:
            # Sealed anew it would look changed.
            credential = scanner.fields.get("access_credential")
        elif wanted.access_credential:
            credential = self._sealer.seal(wanted.access_credential)
        changed = await self._scanners.change(scanner.uuid, wanted, credential)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def make_default(self, request: Request) -> Response:
        """Make a scanner the default one."""
        scanner = await self._scanner(request)
        body = await read_body(request, _DefaultBody, legacy=True)
        if not body.is_default:
            return nothing()
        changed = await self._scanners.make_default(scanner.uuid)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def delete(self, request: Request) -> Response:
        """Delete a registration, and return it once more."""
        scanner = await self._scanner(request)
        deleted = await self._scanners.delete(scanner.uuid)
        return answer(_view(scanner), headers=await self._access.settled(request, deleted.seq))

    async def metadata(self, request: Request) -> Response:
        """Return what a scanner says of itself now."""
        scanner = await self._scanner(request)
        found = await self._ask(self._stored_endpoint(scanner))
        shown = {name: found[name] for name in ("scanner", "capabilities", "properties") if name in found}
        return answer(shown)

    # -- a project's -----------------------------------------------------------------------------------------------

    async def of_project(self, request: Request) -> Response:
        """Return the scanner that a project has chosen, or the default one; an empty object where there is neither."""
        await self._access.logged_in(request)
        _, project = await self._access.project(request, "scanner", "read")
        found = await self._access.read(lambda connection: scanner_of(connection, project))
        return answer({} if found is None else _view(found))

    async def choose(self, request: Request) -> Response:
        """Let a project have a scanner of its own."""
        _, project = await self._access.project(request, "scanner", "create")
        body = await read_body(request, _ChoiceBody, legacy=True)
        if not _ID.fullmatch(body.uuid):
            raise Invalid("missing scanner uuid when setting project scanner")
        changed = await self._scanners.choose(project.name, body.uuid)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def candidates(self, request: Request) -> Response:
        """Return the scanners that a project can choose from."""
        await self._access.project(request, "scanner", "create")
        return await self._page(request, is_disabled=False)

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _page(self, request: Request, *, is_disabled: bool | None = None) -> Response:
        query = read_query(request)
        disabled = query_bool(request, "disabled") if is_disabled is None else is_disabled
        name = request.query_params.get("name", "") or query.wanted.exact("name")
        found = [
            one
            for one in await self._access.read(all_scanners)
            if name in one.document.name and disabled in (None, bool(one.fields.get("disabled")))
        ]
        part = query.part
        shown = found[part.offset :][: part.limit]
        return listed(request, [_view(one) for one in shown], total=len(found), paging=query.paging)

    async def _scanner(self, request: Request) -> Scanner:
        await self._access.admin(request)
        identifier = request.path_params["registration_id"]
        found = await self._access.read(lambda connection: find_scanner(connection, identifier))
        if found is None:
            raise NotFound(f"scanner: {identifier[:200]}")
        return found

    async def _registration(self, request: Request, action: str) -> Registration:
        wanted = await read_body(request, Registration, legacy=True)
        try:
            require_registration(wanted)
        except Invalid as error:
            raise Invalid(f"{_PREFIX}: {action}: {error.message}") from None
        return wanted

    async def _ask(self, endpoint: ScannerEndpoint) -> Mapping[str, Any]:
        try:
            return await self._foreign.scanner_metadata(endpoint)
        except Unavailable as error:
            # It is not this node that is unavailable.
            raise Invalid(str(error)) from error

    @staticmethod
    def _endpoint(wanted: Registration) -> ScannerEndpoint:
        return ScannerEndpoint(
            url=wanted.url,
            auth=wanted.auth,
            access_credential=wanted.access_credential,
            skip_cert_verify=wanted.skip_cert_verify,
        )

    def _stored_endpoint(self, scanner: Scanner) -> ScannerEndpoint:
        fields = scanner.fields
        return ScannerEndpoint(
            url=str(fields.get("url", "")),
            auth=str(fields.get("auth", "")),
            access_credential=self._unsealed(scanner),
            skip_cert_verify=bool(fields.get("skip_cert_verify")),
        )

    def _unsealed(self, scanner: Scanner) -> str:
        sealed = scanner.fields.get("access_credential")
        return self._sealer.unseal(sealed) if sealed else ""


def _view(scanner: Scanner) -> dict[str, Any]:
    fields, document = scanner.fields, scanner.document
    return {
        "uuid": scanner.uuid,
        "name": document.name,
        "description": fields.get("description", ""),
        "url": fields.get("url", ""),
        "disabled": bool(fields.get("disabled")),
        "is_default": scanner.is_default,
        "auth": fields.get("auth", ""),
        "access_credential": "",
        "skip_certVerify": bool(fields.get("skip_cert_verify")),
        "use_internal_addr": bool(fields.get("use_internal_addr")),
        "create_time": rfc3339(document.created_ms),
        "update_time": rfc3339(document.updated_ms),
    }
