"""Webhook policies: what may be in them, as Harbor's API writes them. Pure; their secrets are sealed by whoever keeps them."""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from twinhull.catalog.foreign import address_of
from twinhull.kit.errors import Invalid
from twinhull.metadata.filtering import NUL

EVENT_TYPES: Final = (
    "PUSH_ARTIFACT",
    "DELETE_ARTIFACT",
    "UPLOAD_CHART",
    "QUOTA_EXCEED",
    "QUOTA_WARNING",
    "REPLICATION",
    "TAG_RETENTION",
    "PULL_ARTIFACT",
    "DELETE_CHART",
    "DOWNLOAD_CHART",
    "SCANNING_FAILED",
    "SCANNING_COMPLETED",
    "SCANNING_STOPPED",
)
HTTP: Final = "http"
SLACK: Final = "slack"
TARGET_TYPES: Final = (HTTP, SLACK)
PAYLOAD_FORMATS: Final = ("Default", "CloudEvents")
NAME_LENGTH_MAX: Final = 255
TARGETS_MAX: Final = 20
_TEXT_LENGTH_MAX: Final = 4096


class Target(msgspec.Struct, omit_defaults=True):
    """Where to send what happened."""

    type: str = ""
    address: str = ""
    auth_header: str = ""
    skip_cert_verify: bool = False
    payload_format: str = ""


class Policy(msgspec.Struct):
    """Which events of a project to tell, and whom."""

    id: int = 0
    name: str = ""
    description: str = ""
    targets: list[Target] = []
    event_types: list[str] = []
    enabled: bool = False


class Courier(Protocol):
    """Sends to receivers, with a short limit of time."""

    async def send(self, target: Target, *, header: str, body: str, event_id: str) -> int:
        """Send it, `header` as the request's Authorization; return the status with which it was taken, or raise Unavailable."""
        ...


def require_policy(policy: Policy) -> None:
    """Put the targets into the form in which they are kept; raises Invalid, in Harbor's words, for what can't be a policy."""
    if not policy.event_types:
        raise Invalid("empty event type")
    for event in policy.event_types:
        if event not in EVENT_TYPES:
            raise Invalid(f"unsupport event type {event[:64]}")
    if not policy.targets:
        raise Invalid(f"empty notification target with policy {policy.name[:NAME_LENGTH_MAX]}")
    if len(policy.targets) > TARGETS_MAX:
        raise Invalid(f"only {TARGETS_MAX} targets are allowed at most")
    for target in policy.targets:
        _require_target(target, policy.name[:NAME_LENGTH_MAX])
    texts = [policy.description, *(target.auth_header for target in policy.targets)]
    if not 1 <= len(policy.name) <= NAME_LENGTH_MAX or NUL in policy.name:
        raise Invalid(f"the name of a webhook policy has 1 to {NAME_LENGTH_MAX} characters")
    if any(len(text) > _TEXT_LENGTH_MAX or NUL in text for text in texts):
        raise Invalid(f"a description or header has at most {_TEXT_LENGTH_MAX} characters")


def _require_target(target: Target, policy: str) -> None:
    target.address = address_of(target.address)
    if target.type not in TARGET_TYPES:
        raise Invalid(f"unsupport target type {target.type[:64]} with policy {policy}")
    if target.payload_format and target.type == SLACK:
        raise Invalid("set payload format is not allowed for slack")
    if target.payload_format and target.payload_format not in PAYLOAD_FORMATS:
        raise Invalid(f"unsupported payload format type: {target.payload_format[:64]}")
    if not target.payload_format and target.type == HTTP:
        target.payload_format = PAYLOAD_FORMATS[0]
