"""What a project's webhooks tell: one function that begins an execution for each target that wants to know of an event.

Whoever knows of an event tells it in the transaction of what happened, or of having read of that: it is told at least once.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from twinhull.catalog.payloads import CHARTS, Payload, payload_text
from twinhull.catalog.webhooks import Target
from twinhull.config.cluster import DEFAULTS
from twinhull.jobs.executions import EVENT, begin
from twinhull.jobs.job import NewTask
from twinhull.kit.digest import digest_of
from twinhull.metadata.accounts import Project, find_project, find_setting
from twinhull.metadata.documents import Document, list_documents
from twinhull.metadata.executions import executions_of_policies
from twinhull.metadata.repositories import find_repository
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import EXECUTION, WEBHOOK

VENDOR: Final = "WEBHOOK"
_NAME_LENGTH: Final = 16
_NAMESPACE: Final = uuid.UUID("5c0a3f0e-6d0b-4d54-9c7e-3a7f1d2c9b10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """An artifact, or a version of a chart, as an event names it."""

    # Empty where there is none: of charts.
    digest: str = ""
    # Its tag, or its digest where it has none.
    tag: str
    # Where it is pulled from: HOST/REPOSITORY:TAG.
    url: str


@dataclass(frozen=True, slots=True)
class Entrance:
    """Where clients find the registry."""

    # With the scheme: https://registry.example.com
    url: str

    def image(self, repository: str, *, digest: str, tag: str = "") -> Resource:
        """Return an artifact as events name it, by its tag or by its digest."""
        named = f"{repository}:{tag}" if tag else f"{repository}@{digest}"
        return Resource(digest=digest, tag=tag or digest, url=f"{self.url.partition('://')[2]}/{named}")

    def chart(self, repository: str, *, version: str) -> Resource:
        """Return a version of a chart as events name it."""
        project, _, name = repository.partition("/")
        return Resource(tag=version, url=f"{self.url}/chartrepo/{project}/charts/{name}-{version}.tgz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a project."""

    # One of catalog.webhooks.EVENT_TYPES.
    type: str
    project: str
    occurred_ms: int
    # Who did it; empty for nobody in particular.
    operator: str = ""
    # The full name of the repository that it happened in; empty where it was in none.
    repository: str = ""
    resources: Sequence[Resource] = ()
    # What else Harbor's event_data has for this type: replication, custom_attributes.
    data: Mapping[str, Any] = field(default_factory=dict)
    # The same for all tries of telling it; empty: one is made.
    event_id: str = ""


def policies_for(connection: Connection, project: str, event_type: str) -> list[Document]:
    """Return the policies of a project that want to know of such events; none while the cluster's settings say so."""
    found, _ = list_documents(connection, WEBHOOK, project=project)
    wanting = [one for one in found if one.fields.get("enabled") and event_type in one.fields.get("event_types", [])]
    return wanting if wanting and _is_enabled(connection) else []


def tell(transaction: Transaction, event: Event) -> list[int]:
    """Begin an execution for each target that wants to know of the event, and return their ids. Writes nothing for none."""
    policies = policies_for(transaction.connection, event.project, event.type)
    project = find_project(transaction.connection, event.project) if policies else None
    if project is None:
        return []
    if not event.event_id:
        event = replace(event, event_id=event_id_of(f"event {transaction.node}/{transaction.next_id(EXECUTION)}"))
    payload = payload_of(event, event_data(transaction.connection, event, project))
    return [
        _begin(transaction, payload, policy, target, source=f"/projects/{project.id}", about=event.repository)
        for policy in policies
        for target in targets_of(policy)
    ]


def payload_of(event: Event, data: Mapping[str, Any]) -> Payload:
    """Return what is told of an event, given its data."""
    return Payload(
        event_type=event.type,
        occurred_ms=event.occurred_ms,
        operator=event.operator,
        data=data,
        event_id=event.event_id,
    )


def trial_event(event_type: str, project: str, entrance: Entrance, *, operator: str, now_ms: int) -> Event:
    """Return an event that never happened, to see whether a receiver takes it."""
    repository = f"{project}/webhook-test"
    return Event(
        type=event_type,
        project=project,
        occurred_ms=now_ms,
        operator=operator,
        repository=repository,
        resources=[entrance.image(repository, digest=digest_of(b""), tag="test")],
        event_id=event_id_of(f"trial {project} {now_ms}"),
    )


def last_told(connection: Connection, policies: Sequence[int]) -> dict[int, dict[str, int]]:
    """Return for each policy, and each type of event, when it was told of one last (milliseconds since 1970)."""
    found: dict[int, dict[str, int]] = {}
    for execution in executions_of_policies(connection, VENDOR, policies):
        event_type = str((execution.fields.get("extra_attrs") or {}).get("event_type", ""))
        times = found.setdefault(execution.vendor_id, {})
        times[event_type] = max(times.get(event_type, 0), execution.created_ms)
    return found


def event_id_of(name: str) -> str:
    """Return the id of an event that has such a name in this cluster: the same each time, and like no other."""
    return str(uuid.uuid5(_NAMESPACE, name))


def event_data(connection: Connection, event: Event, project: Project) -> dict[str, Any]:
    """Return what Harbor calls the event's data."""
    data: dict[str, Any] = {}
    if event.resources:
        data["resources"] = [_resource(one) for one in event.resources]
    if event.repository:
        found = find_repository(connection, event.repository) if event.resources and event.type not in CHARTS else None
        data["repository"] = {
            **({"date_created": found.created_ms // 1000} if found is not None else {}),
            "name": event.repository.partition("/")[2],
            "namespace": event.project,
            "repo_full_name": event.repository,
            "repo_type": "public" if project.public else "private",
        }
    return data | dict(event.data)


def targets_of(policy: Document) -> list[Target]:
    """Return a policy's targets as they are kept, their headers sealed."""
    return [msgspec.convert(one, Target) for one in policy.fields.get("targets", [])]


def name_of_target(target: Target) -> str:
    """Return a short name for where a target is, which tells nobody where: an address can be a secret."""
    return hashlib.sha256(f"{target.type} {target.address}".encode()).hexdigest()[:_NAME_LENGTH]


def _begin(transaction: Transaction, payload: Payload, policy: Document, target: Target, *, source: str, about: str) -> int:
    name = name_of_target(target)
    text = payload_text(target, payload, source=f"{source}/webhook/policies/{policy.id}")
    fields = {
        "extra_attrs": {"event_type": payload.event_type, "payload": text},
        "event_id": payload.event_id,
        "notify_type": target.type,
    }
    # What happened to one repository is told to one target in its order.
    task = NewTask(fields={"target": name}, lane=f"{policy.id}/{name}/{about}")
    return begin(transaction, vendor_type=VENDOR, vendor_id=policy.id, trigger=EVENT, tasks=[task], fields=fields)


def _resource(one: Resource) -> dict[str, str]:
    return {**({"digest": one.digest} if one.digest else {}), "tag": one.tag, "resource_url": one.url}


def _is_enabled(connection: Connection) -> bool:
    value = find_setting(connection, "notification_enable")
    return bool(DEFAULTS["notification_enable"] if value is None else value)
