"""What a webhook's receiver is sent, in each of the forms that Harbor has: its own, CloudEvents, and Slack's. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from twinhull.catalog.webhooks import SLACK, Target
from twinhull.kit.clock import rfc3339

CLOUD_EVENTS: Final = "CloudEvents"
UPLOAD_CHART: Final = "UPLOAD_CHART"
DOWNLOAD_CHART: Final = "DOWNLOAD_CHART"
DELETE_CHART: Final = "DELETE_CHART"
CHARTS: Final = (UPLOAD_CHART, DOWNLOAD_CHART, DELETE_CHART)
# The names of Harbor's newest release; it knows no charts any more.
_CLOUD_EVENT_TYPES: Final = {
    "PUSH_ARTIFACT": "harbor.artifact.pushed",
    "PULL_ARTIFACT": "harbor.artifact.pulled",
    "DELETE_ARTIFACT": "harbor.artifact.deleted",
    "QUOTA_EXCEED": "harbor.quota.exceeded",
    "QUOTA_WARNING": "harbor.quota.warned",
    "REPLICATION": "harbor.replication.status.changed",
    "TAG_RETENTION": "harbor.tag_retention.finished",
    "SCANNING_FAILED": "harbor.scan.failed",
    "SCANNING_COMPLETED": "harbor.scan.completed",
    "SCANNING_STOPPED": "harbor.scan.stopped",
    UPLOAD_CHART: "harbor.chart.uploaded",
    DOWNLOAD_CHART: "harbor.chart.downloaded",
    DELETE_CHART: "harbor.chart.deleted",
}
# The longest text that Slack takes in a section.
_SECTION_LENGTH_MAX: Final = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What is told of an event, to whomever."""

    event_type: str
    occurred_ms: int
    operator: str
    # Harbor's event_data.
    data: Mapping[str, Any]
    event_id: str


def payload_text(target: Target, payload: Payload, *, source: str) -> str:
    """Return the body of the request to a target; `source` is the path of the policy by which it is sent."""
    if target.type == SLACK:
        return json.dumps(_slack(payload), ensure_ascii=False)
    if target.payload_format == CLOUD_EVENTS:
        return json.dumps(_cloud_event(payload, source), ensure_ascii=False)
    return json.dumps(_default(payload), ensure_ascii=False, separators=(",", ":"))


def content_type(target: Target) -> str:
    """Return the type of what a target is sent."""
    is_cloud_event = target.type != SLACK and target.payload_format == CLOUD_EVENTS
    return "application/cloudevents+json" if is_cloud_event else "application/json"


def _default(payload: Payload) -> dict[str, Any]:
    return {
        "type": payload.event_type,
        "occur_at": payload.occurred_ms // 1000,
        "operator": payload.operator,
        "event_data": payload.data,
    }


def _cloud_event(payload: Payload, source: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": payload.event_id,
        "source": source,
        "type": _CLOUD_EVENT_TYPES[payload.event_type],
        "datacontenttype": "application/json",
        "time": rfc3339(payload.occurred_ms // 1000 * 1000).replace(".000Z", "Z"),
        "data": payload.data,
        "operator": payload.operator,
    }


def _slack(payload: Payload) -> dict[str, Any]:
    """Return a message of sections, as Harbor's template has them; valid JSON, which Harbor's own is not always."""
    seconds = payload.occurred_ms // 1000
    data = json.dumps(payload.data, ensure_ascii=False, indent="\t")
    fence = "```"
    room = _SECTION_LENGTH_MAX - 2 * len(fence)
    texts = (
        "*Harbor webhook events*",
        f"*event_type:* {payload.event_type}",
        f"*occur_at:* <!date^{seconds}^{{date}} at {{time}}|{rfc3339(payload.occurred_ms)}>",
        f"*operator:* {_escaped(payload.operator)}",
        "*event_data:*",
        f"{fence}{_escaped(data)[:room]}{fence}",
    )
    return {"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in texts]}


def _escaped(text: str) -> str:
    """Return the text without the signs by which Slack would take parts of it for links and mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
