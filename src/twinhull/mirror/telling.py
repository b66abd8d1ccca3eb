"""What webhooks are told of replications, as Harbor words it. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from twinhull.catalog.events import Entrance, Event, event_id_of
from twinhull.kit.reference import project_of
from twinhull.metadata.documents import Document
from twinhull.metadata.executions import ERROR, SUCCESS, Execution, Task

_LISTS = {SUCCESS: "successful_artifact", ERROR: "failed_artifact"}


def replication_event(
    *, execution: Execution, task: Task, status: str, policy: Document, registry: Document, entrance: Entrance, now_ms: int
) -> Event:
    """Return the event that a task has ended, which is one of the project that is on this side."""
    source, destination = str(task.fields.get("source", "")), str(task.fields.get("destination", ""))
    is_push = bool(policy.fields.get("dest_registry_id"))
    own, item = (source, task.fields.get("src_resource")) if is_push else (destination, task.fields.get("dst_resource"))
    here: dict[str, Any] = {"registry_type": "harbor", "endpoint": entrance.url}
    there: dict[str, Any] = {
        "registry_name": registry.name,
        "registry_type": registry.fields.get("type", ""),
        "endpoint": registry.fields.get("url", ""),
    }
    told: dict[str, Any] = {
        "harbor_hostname": urlsplit(entrance.url).hostname or "",
        "job_status": status,
        "description": policy.fields.get("description", ""),
        "policy_creator": policy.fields.get("creator", ""),
        "artifact_type": task.fields.get("resource_type", ""),
        "authentication_type": registry.fields.get("credential_type", ""),
        "override_mode": bool(policy.fields.get("override")),
        "trigger_type": execution.trigger,
        "execution_timestamp": execution.created_ms // 1000,
        "src_resource": {**(here if is_push else there), "namespace": project_of(source)},
        "dest_resource": {**(there if is_push else here), "namespace": project_of(destination)},
    }
    if status in _LISTS:
        name = str(item).partition("/")[2]
        told[_LISTS[status]] = [{"type": told["artifact_type"], "status": status, "name_tag": name}]
    return Event(
        type="REPLICATION",
        project=project_of(own),
        occurred_ms=now_ms,
        operator=execution.trigger,
        data={"replication": told},
        event_id=event_id_of(f"replication {task.node}/{task.id}"),
    )
