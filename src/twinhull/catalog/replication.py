"""Replication policies towards foreign registries: what may be in them, as Harbor's API writes them, and how they begin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from twinhull.jobs.cron import is_cron
from twinhull.jobs.executions import begin
from twinhull.jobs.job import NewTask
from twinhull.jobs.scheduler import Due
from twinhull.kit.errors import Invalid, PreconditionFailed
from twinhull.metadata.documents import Document, list_documents
from twinhull.metadata.executions import STOP_ASKED, UNFINISHED, list_executions
from twinhull.metadata.filtering import NUL, AnyOf, Wanted
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import REPLICATION_POLICY

# Of executions and tasks.
VENDOR: Final = "REPLICATION"
MANUAL: Final = "manual"
SCHEDULED: Final = "scheduled"
EVENT_BASED: Final = "event_based"
NAME_LENGTH_MAX: Final = 256
FILTERS_MAX: Final = 100
_RESOURCES: Final = ("image", "artifact", "chart", "")
_DECORATIONS: Final = ("", "matches", "excludes")
_TEXT_LENGTH_MAX: Final = 4096
_REPLACE_COUNT_MIN: Final = -1


class Filter(msgspec.Struct, omit_defaults=True):
    """Which of what a registry has: by name, tag, label or kind of resource."""

    type: str = ""
    value: Any = ""
    decoration: str = ""


class TriggerSettings(msgspec.Struct):
    """When a scheduled policy is due."""

    cron: str = ""


class Trigger(msgspec.Struct):
    """What starts a policy."""

    type: str = MANUAL
    trigger_settings: TriggerSettings = msgspec.field(default_factory=TriggerSettings)


class RegistryRef(msgspec.Struct):
    """A registry by its id; 0 is this one."""

    id: int = 0


class Policy(msgspec.Struct):
    """A replication policy."""

    id: int = 0
    name: str = ""
    description: str = ""
    src_registry: RegistryRef = msgspec.field(default_factory=RegistryRef)
    dest_registry: RegistryRef = msgspec.field(default_factory=RegistryRef)
    dest_namespace: str = ""
    # How many parts of the name the namespace takes the place of; -1: all but the last, as in Harbor 2.2.
    dest_namespace_replace_count: int = -1
    filters: list[Filter] = []
    trigger: Trigger = msgspec.field(default_factory=Trigger)
    deletion: bool = False
    # The older name of the same.
    replicate_deletion: bool = False
    override: bool = False
    enabled: bool = False
    # Kilobytes per second; 0: as fast as it goes.
    speed: int = 0
    copy_by_chunk: bool = False
    single_active_replication: bool = False


def require_policy(policy: Policy) -> None:
    """Raise Invalid, in Harbor's words, for what can't be a policy."""
    if not policy.name:
        raise Invalid("name cannot be empty \n")
    if len(policy.name) > NAME_LENGTH_MAX or NUL in policy.name:
        raise Invalid(f"name max length is {NAME_LENGTH_MAX} \n")
    if bool(policy.src_registry.id) == bool(policy.dest_registry.id):
        raise Invalid("src_registry, dest_registry one of them should be empty and the other one shouldn't be empty \n")
    if len(policy.filters) > FILTERS_MAX:
        raise Invalid(f"only {FILTERS_MAX} filters are allowed at most")
    for one in policy.filters:
        _require_filter(one)
    if len(policy.description) > _TEXT_LENGTH_MAX or len(policy.dest_namespace) > _TEXT_LENGTH_MAX:
        raise Invalid(f"a description or namespace has at most {_TEXT_LENGTH_MAX} characters")
    if policy.dest_namespace_replace_count < _REPLACE_COUNT_MIN:
        raise Invalid("invalid dest_namespace_replace_count")
    _require_trigger(policy)
    policy.speed = max(policy.speed, 0)


def _require_filter(one: Filter) -> None:
    if one.type not in ("name", "tag", "label", "resource"):
        raise Invalid("filters invalid filter type \n")
    if one.type == "label":
        if not isinstance(one.value, list) or not all(isinstance(label, str) for label in one.value):
            raise Invalid("filters the type of label filter value isn't string slice \n")
    elif not isinstance(one.value, str):
        raise Invalid(f"filters the type of {one.type} filter value isn't string \n")
    if one.type == "resource" and one.value not in _RESOURCES:
        raise Invalid(f"filters invalid resource filter: {str(one.value)[:64]} \n")
    if one.decoration not in _DECORATIONS or (one.type in ("name", "resource") and one.decoration):
        raise Invalid(f"filters invalid decoration: {one.decoration[:64]} \n")


def _require_trigger(policy: Policy) -> None:
    trigger = policy.trigger
    if trigger.type not in (MANUAL, SCHEDULED, EVENT_BASED):
        raise Invalid("trigger invalid trigger type \n")
    if trigger.type == SCHEDULED and not is_cron(trigger.trigger_settings.cron):
        cron = trigger.trigger_settings.cron[:64]
        raise Invalid(f"trigger invalid cron string for scheduled trigger: {cron} \n")
    if trigger.type == EVENT_BASED and policy.single_active_replication:
        raise Invalid("single active replication is not allowed for event_based triggers")


def begin_replication(transaction: Transaction, policy: Document, trigger: str, tasks: Sequence[NewTask] | None = None) -> int:
    """Begin to carry a policy out and return the execution's id; without tasks the source is asked what there is to do.

    Raises PreconditionFailed for a policy that is disabled.
    """
    if not policy.fields.get("enabled"):
        raise PreconditionFailed(f"the policy {policy.id} is disabled")
    return begin(transaction, vendor_type=VENDOR, vendor_id=policy.id, trigger=trigger, tasks=tasks)


def require_idle(connection: Connection, policy: Document) -> None:
    """Raise PreconditionFailed while a policy is being carried out, on whatever node, and nobody has asked to stop that."""
    wanted = Wanted(conditions={"status": AnyOf(UNFINISHED)})
    running, _ = list_executions(connection, vendor_type=VENDOR, vendor_id=policy.id, wanted=wanted)
    if not all(one.fields.get(STOP_ASKED) for one in running):
        raise PreconditionFailed(f"the policy {policy.id} has running executions, can not be deleted", hint="stop them first")


def scheduled_replications(connection: Connection) -> list[Due]:
    """Return the policies that are carried out by a schedule just now."""
    policies, _ = list_documents(connection, REPLICATION_POLICY, project="")
    return [
        Due(vendor_type=VENDOR, vendor_id=one.id, cron=_cron_of(one), since_ms=one.updated_ms)
        for one in policies
        if one.fields.get("enabled") and _trigger_of(one) == SCHEDULED
    ]


def event_based_replications(connection: Connection) -> list[Document]:
    """Return the policies that are carried out whenever something is pushed here, or deleted."""
    policies, _ = list_documents(connection, REPLICATION_POLICY, project="")
    return [
        one
        for one in policies
        if one.fields.get("enabled") and one.fields.get("dest_registry_id") and _trigger_of(one) == EVENT_BASED
    ]


def _trigger_of(policy: Document) -> str:
    return str((policy.fields.get("trigger") or {}).get("type", MANUAL))


def _cron_of(policy: Document) -> str:
    settings = (policy.fields.get("trigger") or {}).get("trigger_settings") or {}
    return str(settings.get("cron", ""))
