"""Replication policies towards foreign registries at Harbor's paths: /replication/policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.documents import Documents, change_document, create_document, delete_document, rename_document
from twinhull.catalog.replication import Policy, require_idle, require_policy
from twinhull.harbor.access import Access, legacy_id
from twinhull.harbor.queries import NEWEST_FIRST, read_query
from twinhull.harbor.registries import HIDDEN, registry_view
from twinhull.harbor.requests import answer, listed, located, nothing, on_older, read_body
from twinhull.harbor.views import NEVER_TIME
from twinhull.kit.clock import rfc3339
from twinhull.kit.errors import Conflict, Invalid, NotFound
from twinhull.metadata.accounts import Snapshot
from twinhull.metadata.documents import Document, find_by_id, find_by_ids, list_documents
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import REGISTRY, REPLICATION_POLICY
from twinhull.records.merge import Value
from twinhull.web.middleware import OriginOf

_SIDES: Final = ("src_registry", "dest_registry")


class ReplicationApi:
    """Handlers for policies."""

    def __init__(self, *, access: Access, documents: Documents, origin_of: OriginOf) -> None:
        """Take what every handler needs, what writes policies, and what knows this node's own address."""
        self._access = access
        self._documents = documents
        self._origin_of = origin_of

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            on_older("/replication/policies", get=self.list, post=self.create),
            on_older("/replication/policies/{id}", get=self.get, put=self.change, delete=self.delete),
        ]

    async def list(self, request: Request) -> Response:
        """Return the policies, the newest first."""
        await self._access.admin(request)
        query = read_query(request, order=NEWEST_FIRST, by_name=True)

        def read(connection: Snapshot) -> tuple[Sequence[dict[str, Any]], int]:
            found, total = list_documents(connection, REPLICATION_POLICY, project="", wanted=query.wanted, part=query.part)
            return self._views(connection, request, found), total

        shown, total = await self._access.read(read)
        return listed(request, shown, total=total, paging=query.paging)

    async def create(self, request: Request) -> Response:
        """Make a policy."""
        caller = await self._access.admin(request)
        body = await read_body(request, Policy, legacy=True)
        require_policy(body)

        def create(transaction: Transaction) -> int:
            _require_registry(transaction.connection, body)
            try:
                fields = {**_fields(body), "creator": caller.name}
                return create_document(transaction, REPLICATION_POLICY, fields, name=body.name)
            except Conflict:
                raise Conflict(f"policy {body.name} already exists") from None

        made = await self._documents.write(create)
        return nothing(201, {**located(request, made.id), **await self._access.settled(request, made.seq)})

    async def get(self, request: Request) -> Response:
        """Return a policy."""
        policy = await self._policy(request)
        shown = await self._access.read(lambda connection: self._views(connection, request, [policy]))
        return answer(shown[0])

    async def change(self, request: Request) -> Response:
        """Change a policy."""
        policy = await self._policy(request)
        body = await read_body(request, Policy, legacy=True)
        require_policy(body)

        def change(transaction: Transaction) -> int:
            _require_registry(transaction.connection, body)
            try:
                rename_document(transaction, REPLICATION_POLICY, policy.id, body.name)
            except Conflict:
                raise Conflict(f"policy {body.name} already exists") from None
            return change_document(transaction, REPLICATION_POLICY, policy.id, _fields(body))

        changed = await self._documents.write(change)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def delete(self, request: Request) -> Response:
        """Delete a policy that is not being carried out."""
        policy = await self._policy(request)

        def delete(transaction: Transaction) -> int:
            require_idle(transaction.connection, policy)
            return delete_document(transaction, REPLICATION_POLICY, policy.id)

        deleted = await self._documents.write(delete)
        return nothing(headers=await self._access.settled(request, deleted.seq))

    async def _policy(self, request: Request) -> Document:
        await self._access.admin(request)
        number = legacy_id(request, "id")
        return await self._access.read(lambda connection: policy_of(connection, number))

    def _views(self, connection: Snapshot, request: Request, policies: Sequence[Document]) -> Sequence[dict[str, Any]]:
        named = {int(one.fields.get(f"{side}_id") or 0) for one in policies for side in _SIDES} - {0}
        registries = find_by_ids(connection, REGISTRY, named)
        local = _local_view(self._origin_of(request.scope))
        return [_view(one, {number: registry_view(found) for number, found in registries.items()}, local) for one in policies]


def policy_of(connection: Snapshot, number: int, missing: str = "policy {} not found") -> Document:
    """Return the policy with that id, or raise NotFound."""
    found = find_by_id(connection, REPLICATION_POLICY, number)
    if found is None:
        raise NotFound(missing.format(number))
    return found


def _require_registry(connection: Snapshot, policy: Policy) -> None:
    number = policy.src_registry.id or policy.dest_registry.id
    found = find_by_id(connection, REGISTRY, number)
    if found is None:
        raise Invalid(f"registry {number} not found")
    # Kept by the id that holds: one of its other ids may go with the node that gave it.
    side = policy.src_registry if policy.src_registry.id else policy.dest_registry
    side.id = found.id


def _fields(policy: Policy) -> dict[str, Value]:
    fields: dict[str, Value] = {
        "src_registry_id": policy.src_registry.id,
        "dest_registry_id": policy.dest_registry.id,
        "filters": msgspec.to_builtins(policy.filters),
        "trigger": msgspec.to_builtins(policy.trigger),
        "deletion": policy.deletion or policy.replicate_deletion,
    }
    plain_names = ("description", "dest_namespace", "dest_namespace_replace_count", "override", "enabled", "speed")
    for name in (*plain_names, "copy_by_chunk", "single_active_replication"):
        fields[name] = getattr(policy, name)
    return fields


def _view(policy: Document, registries: dict[int, dict[str, Any]], local: dict[str, Any]) -> dict[str, Any]:
    fields = policy.fields
    view: dict[str, Any] = {"id": policy.id, "name": policy.name}
    view |= {name: fields.get(name, "") for name in ("description", "creator")}
    for side in _SIDES:
        view[side] = registries.get(int(fields.get(f"{side}_id") or 0), local)
    deletion = bool(fields.get("deletion"))
    return view | {
        "dest_namespace": fields.get("dest_namespace", ""),
        "dest_namespace_replace_count": fields.get("dest_namespace_replace_count", -1),
        "filters": fields.get("filters", []),
        "trigger": fields.get("trigger", {}),
        "deletion": deletion,
        "replicate_deletion": deletion,
        "override": bool(fields.get("override")),
        "enabled": bool(fields.get("enabled")),
        "speed": fields.get("speed", 0),
        "copy_by_chunk": bool(fields.get("copy_by_chunk")),
        "single_active_replication": bool(fields.get("single_active_replication")),
        "creation_time": rfc3339(policy.created_ms),
        "update_time": rfc3339(policy.updated_ms),
    }


def _local_view(origin: str) -> dict[str, Any]:
    return {
        "id": 0,
        "name": "Local",
        "description": "",
        "type": "harbor",
        "url": origin,
        "token_service_url": f"{origin}/service/token",
        "credential": {"type": "secret", "access_key": "", "access_secret": HIDDEN},
        "insecure": True,
        "status": "healthy",
        "creation_time": NEVER_TIME,
        "update_time": NEVER_TIME,
    }
