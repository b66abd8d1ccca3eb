"""Peer-to-peer networks that images can be sent into, at Harbor's paths: /p2p/preheat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.auth.sealing import Sealer
from twinhull.catalog.documents import Documents, change_document, delete_document, rename_document
from twinhull.catalog.foreign import Foreign
from twinhull.catalog.preheat import HEALTH_PATHS, Instance, require_instance
from twinhull.harbor.access import Access
from twinhull.harbor.queries import read_query
from twinhull.harbor.registries import HIDDEN
from twinhull.harbor.requests import answer, listed, located, nothing, on, read_body
from twinhull.kit.errors import Conflict, Invalid, NotFound, PreconditionFailed
from twinhull.metadata.accounts import Snapshot
from twinhull.metadata.documents import Document, find, find_by_id, list_documents
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import PREHEAT_INSTANCE, PREHEAT_POLICY, document_key
from twinhull.records.merge import Value

_NAMES: Final = {"dragonfly": "Dragonfly", "kraken": "Kraken"}
# Nobody asks an instance how it is until somebody pings it.
_STATUS: Final = "Unknown"


class PreheatApi:
    """Handlers for instances."""

    def __init__(self, *, access: Access, documents: Documents, sealer: Sealer, foreign: Foreign) -> None:
        """Take what every handler needs, what writes instances, what seals their credentials, and what asks them."""
        self._access = access
        self._documents = documents
        self._sealer = sealer
        self._foreign = foreign

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        root = "/p2p/preheat/instances"
        return [
            on("/p2p/preheat/providers", get=self.providers),
            on(root, get=self.list, post=self.create),
            on(root + "/ping", post=self.ping),
            on(root + "/{preheat_instance_name}", get=self.get, put=self.change, delete=self.delete),
        ]

    async def providers(self, request: Request) -> Response:
        """Return the kinds of networks."""
        await self._access.admin(request)
        shown = [
            {"id": vendor, "name": name, "icon": "", "maintainers": [], "version": "", "source": ""}
            for vendor, name in _NAMES.items()
        ]
        return answer(shown)

    async def list(self, request: Request) -> Response:
        """Return the instances, by name."""
        await self._access.admin(request)
        query = read_query(request)
        found, total = await self._access.read(
            lambda connection: list_documents(connection, PREHEAT_INSTANCE, project="", wanted=query.wanted, part=query.part)
        )
        return listed(request, [self._view(one) for one in found], total=total, paging=query.paging)

    async def create(self, request: Request) -> Response:
        """Make an instance."""
        await self._access.admin(request)
        body = await read_body(request, Instance)
        require_instance(body)
        try:
            made = await self._documents.create(PREHEAT_INSTANCE, self._fields(body), name=body.name)
        except Conflict:
            raise Conflict(f"instance {body.name} already exists") from None
        return nothing(201, {**located(request, body.name), **await self._access.settled(request, made.seq)})

    async def get(self, request: Request) -> Response:
        """Return an instance, with the names of what opens it and without their values."""
        return answer(self._view(await self._instance(request)))

    async def change(self, request: Request) -> Response:
        """Change an instance; it can't be switched off while policies use it."""
        held = await self._instance(request)
        body = await read_body(request, Instance)
        require_instance(body)
        fields = self._fields(body, held)

        def change(transaction: Transaction) -> int:
            if held.fields.get("enabled") and not body.enabled:
                _require_unused(transaction.connection, held, "disabled")
            rename_document(transaction, PREHEAT_INSTANCE, held.id, body.name)
            return change_document(transaction, PREHEAT_INSTANCE, held.id, fields)

        changed = await self._documents.write(change)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def delete(self, request: Request) -> Response:
        """Delete an instance that no policy uses."""
        held = await self._instance(request)

        def delete(transaction: Transaction) -> int:
            _require_unused(transaction.connection, held, "deleted")
            return delete_document(transaction, PREHEAT_INSTANCE, held.id)

        deleted = await self._documents.write(delete)
        return nothing(headers=await self._access.settled(request, deleted.seq))

    async def ping(self, request: Request) -> Response:
        """Ask an instance that is kept, or one that is described, whether it is well."""
        await self._access.admin(request)
        body = await read_body(request, Instance)
        if body.id:
            held = await self._access.read(lambda connection: find_by_id(connection, PREHEAT_INSTANCE, body.id))
            if held is None:
                raise NotFound(f"instance {body.id} not found")
            url, vendor, insecure = held.fields["endpoint"], held.fields["vendor"], bool(held.fields.get("insecure"))
        else:
            body.name = body.name or "ping"
            require_instance(body)
            url, vendor, insecure = body.endpoint, body.vendor, body.insecure
        if not await self._foreign.answers(f"{url}{HEALTH_PATHS[vendor]}", headers={}, insecure=insecure):
            raise Invalid("the instance is unhealthy")
        return nothing()

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _instance(self, request: Request) -> Document:
        await self._access.admin(request)
        name = request.path_params["preheat_instance_name"]
        found = await self._access.read(lambda connection: find(connection, PREHEAT_INSTANCE, document_key("", name)))
        if found is None:
            raise NotFound(f"instance {name[:200]} not found")
        return found

    def _fields(self, instance: Instance, held: Document | None = None) -> dict[str, Value]:
        kept = self._auth_info(held) if held is not None else {}
        # Clients send back what they were shown.
        wanted = {name: kept.get(name, value) if value == HIDDEN else value for name, value in instance.auth_info.items()}
        sealed: str | None = None
        if held is not None and wanted in ({}, kept) and instance.auth_mode == held.fields.get("auth_mode"):
            # Sealed anew it would look changed; what is not sent again stays.
            sealed = held.fields.get("auth_info")
        elif wanted:
            sealed = self._sealer.seal(msgspec.json.encode(wanted).decode())
        fields: dict[str, Value] = {"auth_info": sealed}
        for name in ("description", "vendor", "endpoint", "auth_mode", "enabled", "default", "insecure"):
            fields[name] = getattr(instance, name)
        return fields

    def _auth_info(self, instance: Document) -> dict[str, str]:
        sealed = instance.fields.get("auth_info")
        return msgspec.json.decode(self._sealer.unseal(sealed), type=dict[str, str]) if sealed else {}

    def _view(self, instance: Document) -> dict[str, Any]:
        fields = instance.fields
        shown = {name: fields.get(name, "") for name in ("description", "vendor", "endpoint", "auth_mode")}
        shown |= {name: bool(fields.get(name)) for name in ("enabled", "default", "insecure")}
        hidden = dict.fromkeys(self._auth_info(instance), HIDDEN)
        return shown | {
            "id": instance.id,
            "name": instance.name,
            "status": _STATUS,
            "setup_timestamp": instance.created_ms // 1000,
            **({"auth_info": hidden} if hidden else {}),
        }


def _require_unused(connection: Snapshot, instance: Document, what: str) -> None:
    policies, _ = list_documents(connection, PREHEAT_POLICY)
    if any(one.fields.get("provider_id") == instance.id for one in policies):
        raise PreconditionFailed(f"Provider [{instance.name}] cannot be {what} as some preheat policies are using it")
