"""Endpoints of foreign registries at Harbor's paths: /registries. Their secrets are kept sealed, and never shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.auth.sealing import Sealer
from twinhull.auth.subjects import visible_to
from twinhull.catalog.adapters import ADAPTERS
from twinhull.catalog.documents import Documents, change_document, create_document, delete_document, rename_document
from twinhull.catalog.foreign import Endpoint, Foreign, address_of, endpoint_of
from twinhull.catalog.projects import stand_for
from twinhull.harbor.access import Access, legacy_id, path_id
from twinhull.harbor.errors import PreconditionFailed
from twinhull.harbor.queries import read_query
from twinhull.harbor.requests import answer, listed, located, nothing, on_older, read_body
from twinhull.kit.clock import rfc3339
from twinhull.kit.errors import Conflict, Invalid, NotFound, Unavailable
from twinhull.metadata.accounts import Snapshot, list_projects
from twinhull.metadata.documents import Document, find, find_by_id, list_documents
from twinhull.metadata.filtering import NUL, Slice
from twinhull.metadata.repositories import projects_for_registry
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import LABEL, REGISTRY, REPLICATION_POLICY, document_key
from twinhull.records.merge import Value
from twinhull.web.identity import Caller

LOCAL: Final = 0
HIDDEN: Final = "*****"
UNHEALTHY: Final = "the registry is unhealthy"
NAME_LENGTH_MAX: Final = 255
_TEXT_LENGTH_MAX: Final = 4096
_CERTIFICATE_LENGTH_MAX: Final = 64 * 1024
_NAMESPACES: Final = Slice(limit=100)


class _Credential(msgspec.Struct):
    type: str = ""
    access_key: str = ""
    access_secret: str = ""


class _RegistryBody(msgspec.Struct):
    name: str = ""
    description: str = ""
    type: str = ""
    url: str = ""
    insecure: bool = False
    ca_certificate: str = ""
    credential: _Credential = msgspec.field(default_factory=_Credential)


class _ChangeBody(msgspec.Struct):
    id: int | None = None
    name: str | None = None
    description: str | None = None
    type: str | None = None
    url: str | None = None
    credential_type: str | None = None
    access_key: str | None = None
    access_secret: str | None = None
    insecure: bool | None = None
    ca_certificate: str | None = None


class RegistriesApi:
    """Handlers for endpoints."""

    def __init__(self, *, access: Access, documents: Documents, sealer: Sealer, foreign: Foreign) -> None:
        """Take what every handler needs, what writes endpoints, what seals their secrets, and what asks them."""
        self._access = access
        self._documents = documents
        self._sealer = sealer
        self._foreign = foreign

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on_older("/registries", get=self.list, post=self.create),
            on_older("/registries/ping", post=self.ping),
            on_older("/registries/{id}", get=self.get, put=self.change, delete=self.delete),
            on_older("/registries/{id}/info", get=self.info),
            on_older("/registries/{id}/namespace", get=self.namespaces),
        ]

    async def list(self, request: Request) -> Response:
        """Return the endpoints, by name."""
        await self._access.admin(request)
        query = read_query(request, legacy=True, by_name=True)
        found, total = await self._access.read(
            lambda connection: list_documents(connection, REGISTRY, project="", wanted=query.wanted, part=query.part)
        )
        return listed(request, [registry_view(one) for one in found], total=total, paging=query.paging)

    async def create(self, request: Request) -> Response:
        """Make an endpoint that answers."""
        await self._access.admin(request)
        body = await read_body(request, _RegistryBody, legacy=True)
        key, secret = body.credential.access_key, body.credential.access_secret
        endpoint = Endpoint(
            kind=_kind(body.type),
            url=address_of(body.url),
            access_key=key,
            access_secret=secret,
            insecure=body.insecure,
            ca_certificate=body.ca_certificate,
        )
        _require_texts(body.name, body.description, endpoint)
        await self._require_free(body.name)
        if not await self._foreign.is_healthy(endpoint):
            raise Invalid(UNHEALTHY)
        fields = self._fields(endpoint, body.description, body.credential.type)
        made = await self._documents.write(lambda inside: _create(inside, body.name, fields))
        return nothing(201, {**located(request, made.id), **await self._access.settled(request, made.seq)})

    async def get(self, request: Request) -> Response:
        """Return an endpoint."""
        return answer(registry_view(await self._registry(request)))

    async def change(self, request: Request) -> Response:
        """Change what is given of an endpoint, if it still answers then."""
        registry = await self._registry(request, "Registry {} not found")
        body = await read_body(request, _ChangeBody, legacy=True)
        endpoint = _changed(self._endpoint(registry), body)
        name = registry.name if body.name is None else body.name
        description = str(registry.fields.get("description", "")) if body.description is None else body.description
        _require_texts(name, description, endpoint)
        if name != registry.name:
            await self._require_free(name)
        if not await self._foreign.is_healthy(endpoint):
            raise Invalid(UNHEALTHY)
        kind = body.credential_type or str(registry.fields.get("credential_type", ""))
        fields = self._fields(endpoint, description, kind, registry)

        def change(transaction: Transaction) -> int:
            try:
                rename_document(transaction, REGISTRY, registry.id, name)
            except Conflict:
                raise Conflict(f"name '{name}' is already used") from None
            if name != registry.name:
                stand_for(transaction, registry.name, name)
            return change_document(transaction, REGISTRY, registry.id, fields)

        changed = await self._documents.write(change)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def delete(self, request: Request) -> Response:
        """Delete an endpoint that no replication policy uses, and no project stands for."""
        registry = await self._registry(request, "Registry {} not found")

        def delete(transaction: Transaction) -> int:
            policies, _ = list_documents(transaction.connection, REPLICATION_POLICY, project="")
            for side, name in (("src_registry_id", "source"), ("dest_registry_id", "destination")):
                users = sum(one.fields.get(side) == registry.id for one in policies)
                if users:
                    raise PreconditionFailed(
                        f"Can't delete registry {registry.id},  {users} replication policies use it as {name} registry"
                    )
            if proxies := projects_for_registry(transaction.connection, registry.name):
                raise PreconditionFailed(
                    f"Can't delete registry {registry.id},  {len(proxies)} proxy cache projects reference it"
                )
            return delete_document(transaction, REGISTRY, registry.id)

        deleted = await self._documents.write(delete)
        return nothing(headers=await self._access.settled(request, deleted.seq))

    async def ping(self, request: Request) -> Response:
        """Ask an endpoint that is kept, as it is or with changes, or one that is described, whether it answers."""
        await self._access.admin(request)
        body = await read_body(request, _ChangeBody, legacy=True)
        if body.id is None:
            if not body.type or not body.url:
                raise Invalid("type or url cannot be empty")
            endpoint = _changed(Endpoint(kind=_kind(body.type), url=""), body)
        elif body.id == LOCAL:
            return nothing()
        else:
            endpoint = _changed(self._endpoint(await self._find(body.id, "registry {} not found")), body)
        _require_texts("", "", endpoint)
        if not await self._foreign.is_healthy(endpoint):
            raise Invalid(UNHEALTHY)
        return nothing()

    async def info(self, request: Request) -> Response:
        """Return how what is replicated from or to a registry can be chosen, and what can start it."""
        await self._access.admin(request)
        number = path_id(request, "id", message="invalid registry id")
        registry = await self._find(number, "Registry {} not found") if number != LOCAL else None
        labels, _ = await self._access.read(lambda connection: list_documents(connection, LABEL, project=""))
        is_harbor = registry is None or registry.fields.get("type") == "harbor"
        filters: list[dict[str, Any]] = [{"type": "name", "style": "input"}, {"type": "tag", "style": "input"}]
        if is_harbor:
            filters.append({"type": "label", "style": "list", "values": [label.name for label in labels]})
        filters.append({"type": "resource", "style": "radio", "values": ["image", "artifact"] if is_harbor else ["image"]})
        shown = {
            "type": "harbor" if registry is None else registry.fields.get("type", ""),
            "description": "",
            "supported_resource_filters": filters,
            "supported_triggers": ["manual", "scheduled", *(["event_based"] if registry is None else [])],
            "supported_copy_by_chunk": is_harbor,
        }
        return answer(shown)

    async def namespaces(self, request: Request) -> Response:
        """Return the projects that a Harbor has: this one (id 0), or another."""
        caller = await self._access.admin(request)
        number = path_id(request, "id", message="invalid registry id")
        part = request.query_params.get("name", "")
        if number == LOCAL:
            names = await self._access.read(lambda connection: _own_projects(connection, caller, part))
        else:
            registry = await self._find(number, "Registry {} not found")
            try:
                names = await self._foreign.namespaces(self._endpoint(registry), part)
            except Unavailable as error:
                raise PreconditionFailed(str(error)) from error
        return answer([{"name": name, "metadata": {}} for name in names])

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _registry(self, request: Request, missing: str = "registry {} not found") -> Document:
        await self._access.admin(request)
        return await self._find(legacy_id(request, "id"), missing)

    async def _find(self, number: int, missing: str) -> Document:
        found = await self._access.read(lambda connection: find_by_id(connection, REGISTRY, number))
        if found is None:
            raise NotFound(missing.format(number))
        return found

    async def _require_free(self, name: str) -> None:
        """Say that a name is taken before its endpoint is asked anything."""
        if await self._access.read(lambda connection: find(connection, REGISTRY, document_key("", name))) is not None:
            raise Conflict(f"name '{name}' is already used")

    def _endpoint(self, registry: Document) -> Endpoint:
        return endpoint_of(registry, self._sealer)

    def _fields(
        self, endpoint: Endpoint, description: str, credential_type: str, held: Document | None = None
    ) -> dict[str, Value]:
        secret: str | None = None
        if held is not None and self._endpoint(held).access_secret == endpoint.access_secret:
            # Sealed anew it would look changed.
            secret = held.fields.get("access_secret")
        elif endpoint.access_secret:
            secret = self._sealer.seal(endpoint.access_secret)
        return {
            "description": description,
            "type": endpoint.kind,
            "url": endpoint.url,
            "credential_type": credential_type or ("basic" if endpoint.access_key else ""),
            "access_key": endpoint.access_key,
            "access_secret": secret,
            "insecure": endpoint.insecure,
            "ca_certificate": endpoint.ca_certificate or None,
            "status": "healthy",
        }


def registry_view(registry: Document) -> dict[str, Any]:
    """Return an endpoint as Harbor shows it: the secret is a row of stars."""
    fields = registry.fields
    view = {
        "id": registry.id,
        "name": registry.name,
        "description": fields.get("description", ""),
        "type": fields.get("type", ""),
        "url": fields.get("url", ""),
        "token_service_url": "",
        "credential": {
            "type": fields.get("credential_type", ""),
            "access_key": fields.get("access_key", ""),
            "access_secret": HIDDEN if fields.get("access_secret") else "",
        },
        "insecure": bool(fields.get("insecure")),
        "status": fields.get("status", ""),
        "creation_time": rfc3339(registry.created_ms),
        "update_time": rfc3339(registry.updated_ms),
    }
    return view | ({"ca_certificate": fields["ca_certificate"]} if fields.get("ca_certificate") else {})


def _create(transaction: Transaction, name: str, fields: dict[str, Value]) -> int:
    try:
        return create_document(transaction, REGISTRY, fields, name=name)
    except Conflict:
        raise Conflict(f"name '{name}' is already used") from None


def _changed(endpoint: Endpoint, body: _ChangeBody) -> Endpoint:
    return replace(
        endpoint,
        url=endpoint.url if body.url is None else address_of(body.url),
        access_key=endpoint.access_key if body.access_key is None else body.access_key,
        access_secret=endpoint.access_secret if body.access_secret in (None, HIDDEN) else body.access_secret,
        insecure=endpoint.insecure if body.insecure is None else body.insecure,
        ca_certificate=endpoint.ca_certificate if body.ca_certificate is None else body.ca_certificate,
    )


def _kind(name: str) -> str:
    if name not in ADAPTERS:
        raise Invalid(f"unsupported registry type {name[:64]!r}")
    return name


def _require_texts(name: str, description: str, endpoint: Endpoint) -> None:
    texts = (description, endpoint.url, endpoint.access_key, endpoint.access_secret)
    if len(name) > NAME_LENGTH_MAX or any(len(text) > _TEXT_LENGTH_MAX for text in texts):
        raise Invalid(f"a name has at most {NAME_LENGTH_MAX} characters, other texts {_TEXT_LENGTH_MAX}")
    if len(endpoint.ca_certificate) > _CERTIFICATE_LENGTH_MAX or any(NUL in text for text in (name, *texts)):
        raise Invalid("a certificate is too long, or a name no text")


def _own_projects(connection: Snapshot, caller: Caller, part: str) -> Sequence[str]:
    wanted = replace(visible_to(caller.subject), name_part=part)
    found, _ = list_projects(connection, wanted, part=_NAMESPACES)
    return [project.name for project in found]
