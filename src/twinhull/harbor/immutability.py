"""Immutability rules at Harbor's paths: /projects/{project}/immutabletagrules. What they hold is looked at on each push."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.documents import NUMBERED, Documents, change_document, create_document
from twinhull.catalog.selectors import Selector, require_selectors
from twinhull.harbor.access import Access, legacy_id
from twinhull.harbor.queries import OLDEST_FIRST, read_query
from twinhull.harbor.requests import listed, located, nothing, on, on_older, read_body
from twinhull.kit.errors import Conflict, Invalid, NotFound
from twinhull.metadata.accounts import Project, Snapshot
from twinhull.metadata.documents import Document, find_by_id, list_documents
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import IMMUTABILITY
from twinhull.records.merge import Value

RULES_MAX: Final = 100
# What makes two rules the same.
_SAME: Final = ("action", "template", "tag_selectors", "scope_selectors")


class _RuleBody(msgspec.Struct):
    id: int = 0
    priority: int = 0
    disabled: bool = False
    action: str = "immutable"
    template: str = "immutable_template"
    tag_selectors: list[Selector] = []
    scope_selectors: dict[str, list[Selector]] = {}


class ImmutabilityApi:
    """Handlers for immutability rules."""

    def __init__(self, *, access: Access, documents: Documents) -> None:
        """Take what every handler needs, and what writes rules."""
        self._access = access
        self._documents = documents

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        root = "/projects/{project_name_or_id}/immutabletagrules"
        return [
            on_older(root, get=self.list, post=self.create),
            on(root + "/{immutable_rule_id}", put=self.change, delete=self.delete),
        ]

    async def list(self, request: Request) -> Response:
        """Return a project's rules, the oldest first."""
        _, project = await self._access.project(request, "immutable-tag", "list")
        query = read_query(request, order=OLDEST_FIRST)
        found, total = await self._access.read(
            lambda connection: list_documents(
                connection, IMMUTABILITY, project=project.name, wanted=query.wanted, part=query.part
            )
        )
        return listed(request, [_view(one, project) for one in found], total=total, paging=query.paging)

    async def create(self, request: Request) -> Response:
        """Make a rule."""
        _, project = await self._access.project(request, "immutable-tag", "create")
        fields = _fields(await read_body(request, _RuleBody, legacy=True))

        def create(transaction: Transaction) -> int:
            _require_new(transaction, project, fields)
            return create_document(transaction, IMMUTABILITY, fields, project=project.name, name=NUMBERED)

        made = await self._documents.write(create)
        return nothing(201, {**located(request, made.id), **await self._access.settled(request, made.seq)})

    async def change(self, request: Request) -> Response:
        """Change a rule, or switch it off and on."""
        project, rule = await self._rule(request, "update")
        body = await read_body(request, _RuleBody, legacy=True)
        if body.id and body.id != int(request.path_params["immutable_rule_id"]):
            raise Invalid("the immutable_rule_id doesn't match the id in the payload body of ImmutableRule")
        # harborapi switches a rule on and off by a body that says nothing else of it.
        is_switch = not body.tag_selectors and not body.scope_selectors
        fields: dict[str, Value] = {"disabled": body.disabled} if is_switch else _fields(body)

        def change(transaction: Transaction) -> int:
            if not is_switch:
                _require_new(transaction, project, fields, besides=rule.id)
            return change_document(transaction, IMMUTABILITY, rule.id, fields)

        changed = await self._documents.write(change)
        return nothing(headers=await self._access.settled(request, changed.seq))

    async def delete(self, request: Request) -> Response:
        """Delete a rule."""
        _, rule = await self._rule(request, "delete")
        deleted = await self._documents.delete(IMMUTABILITY, rule.id)
        return nothing(headers=await self._access.settled(request, deleted.seq))

    async def _rule(self, request: Request, action: str) -> tuple[Project, Document]:
        _, project = await self._access.project(request, "immutable-tag", action)
        number = legacy_id(request, "immutable_rule_id")

        def read(connection: Snapshot) -> Document:
            found = find_by_id(connection, IMMUTABILITY, number)
            if found is None or found.project != project.name:
                raise NotFound(f"the immutable rule {number} is not found.")
            return found

        return project, await self._access.read(read)


def _fields(body: _RuleBody) -> dict[str, Value]:
    if body.action != "immutable" or body.template != "immutable_template":
        raise Invalid("an immutable rule has the action immutable and the template immutable_template")
    require_selectors(body.tag_selectors, body.scope_selectors)
    fields: dict[str, Value] = msgspec.to_builtins(body)
    del fields["id"]
    return fields


def _require_new(transaction: Transaction, project: Project, fields: Mapping[str, Value], *, besides: int = 0) -> None:
    held, total = list_documents(transaction.connection, IMMUTABILITY, project=project.name)
    others = [one for one in held if one.id != besides]
    if any(all(one.fields.get(name) == fields[name] for name in _SAME) for one in others):
        raise Conflict("the immutable rule already exists in this project")
    if not besides and total >= RULES_MAX:
        raise Invalid(f"only {RULES_MAX} immutable rules are allowed at most")


def _view(rule: Document, project: Project) -> dict[str, Any]:
    fields = rule.fields
    return {
        "id": rule.id,
        "project_id": project.id,
        "disabled": bool(fields.get("disabled")),
        "priority": fields.get("priority", 0),
        "action": fields.get("action", ""),
        "template": fields.get("template", ""),
        "tag_selectors": fields.get("tag_selectors", []),
        "scope_selectors": fields.get("scope_selectors", {}),
    }
